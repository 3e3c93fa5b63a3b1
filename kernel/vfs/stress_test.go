package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// settled checks a VFS that nobody uses: every reference is one that the tree
// holds itself, and nothing is pinned.
func (k *kern) settled() {
	k.t.Helper()
	for k.draining.Load() {
		runtime.Gosched()
	}
	for _, m := range k.mounts {
		m.unpinNow()
		m.vmu.Lock()
		own := map[*Vnode]int32{m.root: 1}
		for _, v := range m.vnodes {
			if v.link != nil {
				own[v.link.dir]++
			}
		}
		for _, v := range m.vnodes {
			if on := v.mounted.Load(); on != nil {
				own[v]++
			}
			if n := v.refs.Load(); n != own[v] {
				k.t.Errorf("%v has %d references, %d of them the tree's", v.handle(), n, own[v])
			}
			if v.unlinked.Load() {
				k.t.Errorf("%v is unlinked and still there", v.handle())
			}
			if n := v.opens.Load(); n != 0 {
				k.t.Errorf("%v is open %d times", v.handle(), n)
			}
		}
		m.vmu.Unlock()
		if m.started.Load() != m.finished.Load() {
			k.t.Errorf("mutators: %d begun, %d finished", m.started.Load(), m.finished.Load())
		}
	}
	for _, f := range k.mt.mounts {
		f.mu.Lock()
		if f.order != "" {
			k.t.Error(f.order)
		}
		if f.dead != nil || f.ended { // what was open when it was unmounted by force ends with it
			f.mu.Unlock()
			continue
		}
		for h, n := range f.nodes {
			if n.pins != 0 {
				k.t.Errorf("%v has %d pins", h, n.pins)
			}
			if n.va.Nlink == 0 {
				k.t.Errorf("%v has no name", h)
			}
		}
		f.mu.Unlock()
	}
	if n := k.o.Files.Count(); n != 0 {
		k.t.Errorf("%d open files", n)
	}
}

// same compares the tree as the caches have it with the tree as it is without.
func (k *kern) same(path string) int {
	k.t.Helper()
	n := 0
	for _, d := range k.ls(path + "/")[2:] {
		p := path + "/" + d.Name
		a := k.stat(p)
		k.nc.purge()
		b := k.stat(p)
		if a.Fileid != b.Fileid || a.Fileid != d.Fileid {
			k.t.Errorf("%s is %d by the cache, %d by the file system, listed as %d", p, a.Fileid, b.Fileid, d.Fileid)
		}
		if fs := k.fs(); fs != nil {
			va := fs.nodes[vkey{a.Fileid, a.Gen}].va
			if va.Nlink != a.Nlink || va.Mode != a.Mode || va.Uid != a.Uid {
				k.t.Errorf("%s: cached %+v, really %+v", p, a.Vattr, va)
			}
		}
		n++
		if d.Type == abi.VDIR {
			n += k.same(p)
		}
	}
	return n
}

// TestStress lets workers create, rename, link, remove, read and list in the
// same few directories, with caches so small that things are reclaimed all the
// time, and checks the private files of each worker and the tree at the end.
func TestStress(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{MaxVnodes: 40, MaxNames: 128, MemLimit: 2 << 20})
			dirs := []string{"/a", "/b", "/a/c", "/a/c/d", "/b/e"}
			for _, d := range dirs {
				k.ok(k.Mkdir(ctx, su(), d, 0o755))
			}
			var wg sync.WaitGroup
			for id := range 6 {
				wg.Go(func() { k.worker(uint64(id), dirs) })
			}
			wg.Wait()
			k.ok(k.SyncAll(ctx))
			if n := k.same(""); n == 0 {
				t.Error("nothing is left")
			}
			k.settled()
			for id := range 6 {
				want := fmt.Sprintf("worker %d", id)
				if got := k.read(fmt.Sprintf("/mine%d", id)); got != want {
					t.Errorf("private file of worker %d has %q", id, got)
				}
			}
		})
	}
}

func (k *kern) worker(id uint64, dirs []string) {
	r := rand.New(rand.NewPCG(id, 1))
	w := su()
	w.Cwd = NewCwdinfo()
	defer w.Cwd.Release()
	path := func() string { return fmt.Sprintf("%s/%c", dirs[r.IntN(len(dirs))], 'f'+rune(r.IntN(6))) }
	mine, me := fmt.Sprintf("/mine%d", id), []byte(fmt.Sprintf("worker %d", id))
	fine := func(err error, may ...abi.Errno) {
		e := abi.ErrnoOf(err)
		for _, m := range append(may, 0, abi.ENOENT, abi.EEXIST, abi.ENOTDIR, abi.EISDIR) {
			if e == m {
				return
			}
		}
		_, _, line, _ := runtime.Caller(1)
		k.t.Errorf("worker %d, line %d: %v", id, line, err)
	}
	for i := range 400 {
		switch p := path(); r.IntN(12) {
		case 0, 1:
			f, err := k.Open(ctx, w, p, abi.O_RDWR|abi.O_CREAT, 0o644)
			fine(err, abi.EISDIR)
			if err == nil {
				_, err = f.Ops.Write(ctx, w.Caller, f, bytes.Repeat([]byte{byte(id)}, r.IntN(9000)), int64(r.IntN(20000)))
				fine(err, abi.ESTALE)
				_, err = f.Ops.Read(ctx, w.Caller, f, make([]byte, 5000), 0)
				fine(err, abi.ESTALE)
				fine(f.Release(ctx), abi.ESTALE)
			}
		case 2:
			fine(k.Mkdir(ctx, w, p, 0o755))
		case 3:
			fine(k.Unlink(ctx, w, p, 0), abi.EPERM)
		case 4:
			fine(k.Rmdir(ctx, w, p), abi.ENOTEMPTY)
		case 5, 6:
			fine(k.Rename(ctx, w, p, w, path(), 0), abi.ENOTEMPTY, abi.EINVAL)
		case 7:
			fine(k.Rename(ctx, w, p, w, path(), abi.RENAME_EXCHANGE), abi.EINVAL)
		case 8:
			fine(k.Link(ctx, w, p, w, path(), false), abi.EPERM)
		case 9:
			_, err := k.Stat(ctx, w, p+"/../x/../f", true)
			fine(err)
			fine(k.Chdir(ctx, w, p))
			_, err = k.Getcwd(ctx, w)
			fine(err, abi.ESTALE)
		case 10:
			f, err := k.Open(ctx, w, dirs[r.IntN(len(dirs))], abi.O_RDONLY, 0)
			fine(err)
			if err == nil {
				_, err = k.Getdents(ctx, w.Caller, f, make([]byte, 2000))
				fine(err)
				f.Release(ctx)
			}
		case 11:
			fine(k.Chmod(ctx, w, p, 0o600+uint32(r.IntN(64)), true))
			k.Truncate(ctx, w, p, int64(r.IntN(10000)))
		}
		if i%10 == 0 {
			k.private(mine, me)
		}
	}
}

// private writes a file of which nobody else knows anew and reads it back.
func (k *kern) private(path string, data []byte) {
	f, err := k.Open(ctx, su(), path+".new", abi.O_RDWR|abi.O_CREAT|abi.O_EXCL, 0o644)
	if err != nil {
		k.t.Errorf("private file: %v", err)
		return
	}
	if _, err := f.Ops.Write(ctx, abi.KernelCaller, f, data, file.Cur); err != nil {
		k.t.Errorf("private file: %v", err)
	}
	err = k.Rename(ctx, su(), path+".new", su(), path, 0)
	err = errors.Join(err, f.Release(ctx))
	g, err2 := k.Open(ctx, su(), path, abi.O_RDONLY, 0)
	if err := errors.Join(err, err2); err != nil {
		k.t.Errorf("private file: %v", err)
		return
	}
	buf := make([]byte, 100)
	n, err := g.Ops.Read(ctx, abi.KernelCaller, g, buf, 0)
	if err != nil || !bytes.Equal(buf[:n], data) {
		k.t.Errorf("private file has %q, %v", buf[:n], err)
	}
	g.Release(ctx)
}

// TestMountRace mounts and unmounts under walks: whoever walks sees what is
// mounted or what is below, and nothing else.
func TestMountRace(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	k.write("/m/below", "b")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := k.Stat(ctx, su(), "/m/below", true)
				if e := abi.ErrnoOf(err); e != 0 && e != abi.ENOENT {
					t.Errorf("stat: %v", err)
					return
				}
			}
		})
	}
	for range 200 {
		k.mount("/m")
		for {
			err := k.Unmount(ctx, su(), "/m", 0)
			if err == nil {
				break
			}
			k.is(err, abi.EBUSY)
		}
	}
	close(stop)
	wg.Wait()
	k.settled()
}

// TestForcedOpen unmounts by force under an open file that has no name: the pin
// is not taken back, it ends with the file system.
func TestForcedOpen(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
			k.mount("/m")
			k.write("/m/f", "x")
			f := k.open("/m/f", abi.O_RDWR)
			if err := k.Unlink(ctx, su(), "/m/f", 0); err != nil {
				k.is(err, abi.EBUSY) // a file system without pins
			}
			k.is(k.Unmount(ctx, su(), "/m", 0), abi.EBUSY)
			k.ok(k.Unmount(ctx, su(), "/m", abi.MNT_FORCE))
			_, err := f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 1), 0)
			k.is(err, abi.EIO)
			f.Release(ctx)
			k.settled()
		})
	}
}

// TestRestartStress lets the component die and come back under load. Whoever
// works sees errors of a death or of what is lost, nothing hangs, and nothing
// leaks.
func TestRestartStress(t *testing.T) {
	for _, v := range variants[:len(variants)-1] {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{MaxVnodes: 40, MemLimit: 4 << 20})
			dirs := []string{"", "/a", "/a/b"}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for id := range 4 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(id), 3))
					w := su()
					w.Cwd = NewCwdinfo()
					defer w.Cwd.Release()
					for {
						select {
						case <-stop:
							return
						default:
						}
						p := fmt.Sprintf("%s/%c", dirs[r.IntN(3)], 'a'+rune(r.IntN(3)))
						var err error
						switch r.IntN(8) {
						case 0:
							err = k.Mkdir(ctx, w, p, 0o755)
						case 1:
							err = k.Unlink(ctx, w, p, 0)
						case 2:
							err = k.Rmdir(ctx, w, p)
						case 3:
							err = k.Rename(ctx, w, p, w, fmt.Sprintf("%s/%c", dirs[r.IntN(3)], 'a'+rune(r.IntN(3))), 0)
						case 4:
							_, err = k.Stat(ctx, w, p, true)
						case 5:
							err = k.Chdir(ctx, w, p)
						case 6:
							var f *file.File
							if f, err = k.Open(ctx, w, dirs[r.IntN(3)]+"/", abi.O_RDONLY, 0); err == nil {
								_, err = k.Getdents(ctx, w.Caller, f, make([]byte, 2000))
								f.Release(ctx)
							}
						default:
							var f *file.File
							if f, err = k.Open(ctx, w, p, abi.O_RDWR|abi.O_CREAT, 0o644); err == nil {
								_, err = f.Ops.Write(ctx, w.Caller, f, make([]byte, 5000), 0)
								f.Release(ctx)
							}
						}
						switch e := abi.ErrnoOf(err); e {
						case 0, abi.EIO, abi.ESTALE, abi.ENOENT, abi.EEXIST, abi.ENOTDIR, abi.EISDIR, abi.EPERM, abi.ENOTEMPTY, abi.EINVAL, abi.EBUSY, abi.EXDEV:
						default:
							t.Errorf("%v", err)
						}
					}
				})
			}
			for range 40 {
				k.Unlink(ctx, su(), "/a", 0)
				k.Mkdir(ctx, su(), "/a", 0o755)
				if _, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/a"}); err == nil {
					runtime.Gosched()
				}
				k.restart(v)
				k.Unmount(ctx, su(), "/a", abi.MNT_FORCE)
				if n := len(k.Mounts()); n > 3 {
					t.Errorf("%d mounts", n)
				}
			}
			close(stop)
			wg.Wait()
			k.ok(k.SyncAll(ctx))
			k.settled()
		})
	}
}
