package vfs

import (
	"maps"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestCrossings counts how often a file system that may not be cached is asked:
// once for the directory that the walk begins in, once for all names. What the
// answer brings is not asked for again.
func TestCrossings(t *testing.T) {
	found := false
	for _, v := range variants {
		if v.caps&vfsops.CapSole != 0 && !v.nocache() {
			continue
		}
		found = true
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
			k.write("/a/f", "0123456789")
			m := k.fs()
			for name, op := range map[string]func() error{
				"stat":  func() error { _, err := k.Stat(ctx, su(), "/a/f", true); return err },
				"lstat": func() error { _, err := k.Stat(ctx, su(), "/a/f", false); return err },
				"open": func() error {
					f, err := k.Open(ctx, su(), "/a/f", abi.O_RDONLY, 0)
					if err == nil {
						defer f.Release(ctx)
					}
					return err
				},
			} {
				clear(m.calls)
				k.ok(op())
				if m.calls["lookup"] != 1 || m.calls["getattr"] != 1 {
					t.Errorf("%s: calls %v, want one lookup and one getattr of the root", name, m.calls)
				}
			}
			// The answer is the file's of this moment, not an earlier one's.
			for size := int64(1); size < 5; size++ {
				k.ok(k.Truncate(ctx, su(), "/a/f", size))
				if st, err := k.Stat(ctx, su(), "/a/f", true); err != nil || st.Size != size {
					t.Errorf("size %d, %v; want %d", st.Size, err, size)
				}
			}
		})
	}
	if !found {
		t.Error("no variant without caches")
	}
}

// TestMutatorsCrossOnce counts what reaches the file system behind the caches: a
// mutator is one call, close and what close leaves behind are none.
func TestMutatorsCrossOnce(t *testing.T) {
	for _, v := range variants {
		if v.caps&vfsops.CapSole == 0 || v.nocache() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			if k.fs() == nil {
				t.Skip("this file system does not count")
			}
			k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
			k.write("/a/f", "0123456789")
			k.ok(k.SyncAll(ctx))
			f := k.open("/a/f", abi.O_RDWR)
			create := func() error {
				f, err := k.Open(ctx, su(), "/a/new", abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o644)
				if err == nil {
					err = f.Release(ctx)
				}
				return err
			}
			k.ok(create()) // from here on it is known that there is no such name
			k.ok(k.Unlink(ctx, su(), "/a/new", 0))
			k.ok(k.Mkdir(ctx, su(), "/a/d", 0o755))
			k.ok(k.Rmdir(ctx, su(), "/a/d"))
			kpages := v.caps&vfsops.CapKpages != 0
			for _, step := range []struct {
				name string
				op   func() error
				want map[string]int
				any  bool // other file systems than kpages do as they must
			}{
				{"create and close", create, map[string]int{"create": 1}, false},
				{"unlink", func() error { return k.Unlink(ctx, su(), "/a/new", 0) }, map[string]int{"remove": 1}, false},
				{"mkdir", func() error { return k.Mkdir(ctx, su(), "/a/d", 0o755) }, map[string]int{"mkdir": 1}, false},
				{"rmdir", func() error { return k.Rmdir(ctx, su(), "/a/d") }, map[string]int{"rmdir": 1}, false},
				{"stat", func() error { _, err := k.Stat(ctx, su(), "/a/f", true); return err }, nil, false},
				{"write", func() error { _, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("x"), 3); return err }, nil, true},
				{"close after a write", func() error { return f.Release(ctx) }, nil, true},
			} {
				m := k.fs()
				m.mu.Lock()
				clear(m.calls)
				m.mu.Unlock()
				k.ok(step.op())
				m.mu.Lock()
				got := maps.Clone(m.calls)
				m.mu.Unlock()
				if (kpages || !step.any) && !maps.Equal(got, step.want) {
					t.Errorf("%s: calls %v, want %v", step.name, got, step.want)
				}
			}
			k.ok(k.SyncAll(ctx)) // what close has left
			st, err := k.Stat(ctx, su(), "/a/f", true)
			k.ok(err)
			if n := k.fs().nodes[vkey{st.Fileid, 1}]; n.va.Mtime != st.Mtime {
				t.Errorf("mtime %v was written back as %v", st.Mtime, n.va.Mtime)
			}
		})
	}
}

// TestCloseDoesNotWait holds that the last close of a file without a name does
// not wait for the file system to let it go.
func TestCloseDoesNotWait(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.write("/f", "x")
	f := k.open("/f", abi.O_RDWR)
	k.ok(k.Unlink(ctx, su(), "/f", 0))
	if k.fs() == nil {
		t.Skip("this file system does not count")
	}
	m := k.fs()
	asked, answer := make(chan struct{}), make(chan struct{})
	m.mu.Lock()
	m.hook = func(op string) error {
		if op == "unpin" {
			m.mu.Unlock()
			close(asked)
			<-answer
			m.mu.Lock()
		}
		return nil
	}
	m.mu.Unlock()
	k.ok(f.Release(ctx)) // hangs if it waits
	select {
	case <-asked:
	case <-time.After(60 * time.Second):
		t.Error("the pin is not taken back")
	}
	close(answer)
	k.ok(k.SyncAll(ctx))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls["unpin"] != 1 {
		t.Errorf("calls %v", m.calls)
	}
}
