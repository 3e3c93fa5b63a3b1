package kernel_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestVndModel makes random requests, at whole sectors that are no whole pages,
// to disks on files of tmpfs and hostfs, beside plain memory. The file has the
// same bytes in the end, and of what was all zeroed it takes no space.
func TestVndModel(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dir := t.TempDir()
	k := booted(t, kernel.Options{
		Modules: []modapi.Module{tmpfs.New(), grantedHost{hostfs.New(), dir}},
		Mounts:  []vfs.MountArgs{{Type: "tmpfs", Dir: "/"}, {Type: "devfs", Dir: "/dev"}, {Type: "hostfs", Source: dir, Dir: "/h"}},
	})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	const size = 3 << 20
	for _, path := range []string{"/img", "/h/img"} {
		if err := c.WriteFile(ctx, path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.AttachDisk(ctx, "vnd", "", []byte(`{"name": "vnd0", "file": "`+path+`"}`)); err != nil {
			t.Fatal(err)
		}
		n, _ := k.Dev.Lookup("vnd0")
		h, err := k.Dev.OpenBlk(ctx, n.Dev, abi.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		do := func(op devops.BufFlags, off int64, p []byte, n int64) {
			t.Helper()
			b := &devops.Buf{Blkno: off / 512, Bytes: n, Flags: op}
			if p != nil {
				b.Data = abi.IovOf(p)
			}
			if err := h.Do(ctx, b); err != nil {
				t.Fatalf("%s: flags %#x, %d bytes at %d: %v", path, uint32(op), n, off, err)
			}
		}
		r := rand.New(rand.NewPCG(4, 4))
		model := make([]byte, size)
		for i := range 400 {
			off := r.Int64N(size/512) * 512
			n := min((1+r.Int64N(200))*512, size-off)
			if i%50 == 49 { // more than a leaf of pages
				off, n = r.Int64N(1<<20/512)*512, min(1<<20+r.Int64N(1<<19)/512*512, size-off, devops.MaxPhys)
			}
			p := model[off : off+n]
			switch r.IntN(4) {
			case 0:
				clear(p)
				do(devops.BZeroes, off, nil, n)
			case 1:
				got := make([]byte, n)
				do(devops.BRead, off, got, n)
				if !bytes.Equal(got, p) {
					t.Fatalf("%s: %d bytes at %d are others", path, n, off)
				}
			default:
				for j := range p {
					p[j] = byte(r.Uint32())
				}
				do(devops.BWrite, off, p, n)
			}
		}
		do(devops.BFlush, 0, nil, 0)
		if got, err := c.ReadFile(ctx, path); err != nil || !bytes.Equal(got, model) {
			t.Errorf("%s: the file is not the disk: %v", path, err)
		}
		do(devops.BDiscard, 512, nil, size-1024)
		if st, err := c.Stat(ctx, path); err != nil || st.Size != size || st.Bytes > 64<<10 {
			t.Errorf("%s: after a discard of all but the ends %d bytes of %d, %v", path, st.Bytes, st.Size, err)
		}
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := c.DetachDisk(ctx, "vnd0", false); err != nil {
			t.Error(err)
		}
	}
}
