package vfs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// restart lets the instance vfs die and come back.
func (k *kern) restart(v variant) {
	k.t.Helper()
	k.InstanceDown("vfs")
	for _, m := range k.mt.mounts {
		m.mu.Lock()
		m.dead = abi.EIO
		m.mu.Unlock()
	}
	k.ok(k.AttachFS("vfs", "mem", memVariant{k.mt, v.wrap}, v.caps))
	k.ok(k.Remount(ctx, "vfs"))
	k.InstanceUp("vfs")
}

func TestRestart(t *testing.T) {
	for _, v := range variants[:len(variants)-1] {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			other := &memType{}
			k.ok(k.AttachFS("", "other", memVariant{other, variants[0].wrap}, variants[0].caps))
			k.ok(k.Mkdir(ctx, su(), "/x", 0o755))
			k.ok(k.Mkdir(ctx, su(), "/x/dev", 0o711))
			k.ok(k.Chown(ctx, su(), "/x/dev", 5, 6, true))
			_, err := k.Mount(ctx, su(), MountArgs{Type: "other", Dir: "/x/dev"})
			k.ok(err)
			_, err = k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/x/dev", Options: map[string]string{"size": "5", "nosuid": ""}})
			k.ok(err)
			k.ok(k.Mkdir(ctx, su(), "/x/dev/in", 0o755))
			k.write("/f", "lost")
			before := k.Mounts()
			f := k.open("/f", abi.O_RDWR)
			atRoot, lost := su(), su()
			atRoot.Cwd, lost.Cwd = NewCwdinfo(), NewCwdinfo()
			k.ok(k.Chdir(ctx, atRoot, "/"))
			k.ok(k.Chdir(ctx, lost, "/x"))

			k.restart(v)

			after := k.Mounts()
			if len(before) != 3 || len(after) != 3 {
				t.Fatalf("mounts %v, then %v", before, after)
			}
			for i := range before {
				b, a := before[i], after[i]
				if b.Fsid != a.Fsid || b.Dir != a.Dir || b.Type != a.Type || b.Flags != a.Flags || b.Options["size"] != a.Options["size"] || !a.Up {
					t.Errorf("mount %+v came back as %+v", b, a)
				}
			}
			if got := k.mt.reqs[3].Options["size"]; got != "5" {
				t.Errorf("mounted again with size=%q", got)
			}
			_, err = k.Stat(ctx, su(), "/f", true)
			k.is(err, abi.ENOENT)
			_, err = f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 4), 0)
			k.is(err, abi.ESTALE)
			_, err = f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 4), 0)
			k.is(err, abi.ESTALE)
			_, err = f.Ops.Stat(ctx, abi.KernelCaller, f)
			k.is(err, abi.ESTALE)
			k.ok(f.Release(ctx))
			// The mount point was made again, with what is on it.
			st, err := k.Stat(ctx, atRoot, "x/dev", true)
			k.ok(err)
			if st.Dev != before[2].Fsid {
				t.Errorf("x/dev is on %d", st.Dev)
			}
			_, err = k.Stat(ctx, su(), "/x/dev/in", true)
			k.is(err, abi.ENOENT)
			k.ok(k.Unmount(ctx, su(), "/x/dev", 0))
			k.ok(k.Unmount(ctx, su(), "/x/dev", 0))
			if st := k.stat("/x/dev"); st.Mode != 0o711 || st.Uid != 5 || st.Gid != 6 {
				t.Errorf("mount point made again as %o %d:%d", st.Mode, st.Uid, st.Gid)
			}
			_, err = k.Stat(ctx, lost, ".", true)
			k.is(err, abi.ESTALE)
			k.ok(k.Chdir(ctx, lost, "/"))
			k.write("/f", "new")
			if got := k.read("/f"); got != "new" {
				t.Errorf("read %q", got)
			}
			atRoot.Cwd.Release()
			lost.Cwd.Release()
		})
	}
}

func TestRestartWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKern(t, variants[0], Options{RestartWait: 5 * time.Second})
		k.write("/f", "x")
		res := make(chan error, 8)
		mkdir := func(ctx context.Context, d string) { res <- k.Mkdir(ctx, su(), d, 0o755) }

		k.InstanceDown("vfs")
		go mkdir(ctx, "/waits")
		synctest.Wait()
		select {
		case err := <-res:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		time.Sleep(time.Second)
		k.restart(variants[0])
		k.ok(<-res)
		k.stat("/waits")

		// Who gives up is told so; who waits to the end gets EIO then.
		k.InstanceDown("vfs")
		start := time.Now()
		c, cancel := context.WithCancel(ctx)
		go mkdir(c, "/cancelled")
		synctest.Wait()
		cancel()
		k.is(<-res, abi.EINTR)
		c, cancel = context.WithTimeout(ctx, time.Second)
		go mkdir(c, "/late")
		k.is(<-res, abi.ETIMEDOUT)
		cancel()
		go mkdir(ctx, "/toolate")
		k.is(<-res, abi.EIO)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("EIO after %v", d)
		}
		go mkdir(ctx, "/atonce")
		k.is(<-res, abi.EIO)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("EIO after %v the second time", d)
		}
		// It may still come back.
		k.restart(variants[0])
		k.ok(k.Mkdir(ctx, su(), "/back", 0o755))

		// Remount without the type: EIO at once after InstanceUp.
		k.InstanceDown("vfs")
		k.is(k.Remount(ctx, "vfs"), abi.ENODEV)
		k.InstanceUp("vfs")
		start = time.Now()
		k.is(k.Mkdir(ctx, su(), "/x", 0o755), abi.EIO)
		if time.Since(start) != 0 {
			t.Error("waited for what will not come")
		}
		k.ok(k.Unmount(ctx, su(), "/", abi.MNT_FORCE))
	})
}

// dyingType dies while it is being mounted the second time.
type dyingType struct {
	memVariant
	k *kern
	n int
}

func (d *dyingType) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	f, err := d.memVariant.Mount(ctx, req)
	if d.n++; d.n == 1 {
		d.k.InstanceDown("vfs")
	}
	return f, err
}

func TestDeathDuringRemount(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.InstanceDown("vfs")
	d := &dyingType{memVariant: memVariant{k.mt, variants[0].wrap}, k: k}
	k.ok(k.AttachFS("vfs", "mem", d, variants[0].caps))
	k.is(k.Remount(ctx, "vfs"), abi.EIO)
	if k.Mounts()[0].Up {
		t.Fatal("a mount of a dead process is up")
	}
	k.ok(k.AttachFS("vfs", "mem", d, variants[0].caps))
	k.ok(k.Remount(ctx, "vfs"))
	k.InstanceUp("vfs")
	k.ok(k.Mkdir(ctx, su(), "/x", 0o755))
	// And while it is being mounted the first time.
	d.n = 0
	_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/x"})
	k.is(err, abi.EIO)
	if len(k.Mounts()) != 1 {
		t.Error("a mount of a dead process is in the table")
	}
	k.ok(k.AttachFS("vfs", "mem", d, variants[0].caps))
	k.ok(k.Remount(ctx, "vfs"))
}

// TestLateAnswer lets a process die and its successor take over while a call
// to the old one is on its way: what the old one answers stays out of the
// caches of the new one.
func TestLateAnswer(t *testing.T) {
	for _, v := range variants[:len(variants)-1] {
		for _, op := range []string{"mkdir", "lookup", "rmdir"} {
			t.Run(v.name+"/"+op, func(t *testing.T) {
				k := newKern(t, v, Options{})
				other := &memType{}
				k.ok(k.AttachFS("", "other", memVariant{other, variants[0].wrap}, variants[0].caps))
				k.ok(k.Mkdir(ctx, su(), "/dev", 0o755))
				k.ok(k.Mkdir(ctx, su(), "/gone", 0o755))
				_, err := k.Mount(ctx, su(), MountArgs{Type: "other", Dir: "/dev"})
				k.ok(err)
				done := false
				k.fs().hook = func(o string) error {
					if o == op && !done {
						done = true
						k.InstanceDown("vfs")
						k.ok(k.AttachFS("vfs", "mem", v.fsType(k.mt), v.caps))
						k.ok(k.Remount(ctx, "vfs"))
						k.InstanceUp("vfs")
					}
					return nil
				}
				k.nc.purge()
				switch op {
				case "mkdir":
					k.is(k.Mkdir(ctx, su(), "/x", 0o755), abi.EIO)
				case "lookup":
					_, err := k.Stat(ctx, su(), "/gone", true)
					k.is(err, abi.EIO)
				case "rmdir":
					k.Rmdir(ctx, su(), "/gone")
				}
				if !done {
					t.Fatal("the process did not die")
				}
				// The new one has the mount point and nothing else.
				if n := len(k.ls("/")) - 2; n != 1 {
					t.Errorf("%d files", n)
				}
				if st := k.stat("/"); st.Nlink != 3 {
					t.Errorf("nlink %d of the root", st.Nlink)
				}
				_, err = k.Stat(ctx, su(), "/gone", true)
				k.is(err, abi.ENOENT)
				k.ok(k.Mkdir(ctx, su(), "/gone", 0o755))
				k.ok(k.Unmount(ctx, su(), "/dev", 0))
				k.ok(k.Rmdir(ctx, su(), "/dev"))
			})
		}
	}
}
