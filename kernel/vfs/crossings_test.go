package vfs

import (
	"testing"

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
