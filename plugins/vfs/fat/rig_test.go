package fat

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var ctx = context.Background()

// formats are the file systems that tests run on.
var formats = []struct {
	name string
	size int64
	o    FormatOptions
}{
	{"fat12", 2 << 20, FormatOptions{Bits: 12}},
	{"fat12-4k", 4 << 20, FormatOptions{Bits: 12, Cluster: 4096}},
	{"fat16", 16 << 20, FormatOptions{Bits: 16, Cluster: 2048}},
	{"fat32", 40 << 20, FormatOptions{Bits: 32, Cluster: 512}},
	{"fat32-4k", 16 << 20, FormatOptions{Bits: 32, Sector: 4096, Cluster: 4096}},
}

// memory is an image in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// newDisk makes a formatted device.
func newDisk(t testing.TB, size int64, o FormatOptions) *modtest.RAM {
	t.Helper()
	sector := uint32(512)
	if o.Sector != 0 {
		sector = uint32(o.Sector)
	}
	r := modtest.NewRAM(size, sector)
	if err := Format(memory(r.Bytes()), size, o); err != nil {
		t.Fatal(err)
	}
	return r
}

// rig is a mount.
type rig struct {
	testing.TB
	*FS
	dev devops.BlockIO
	seq abi.OpSeq
}

func mountRig(t testing.TB, dev devops.BlockIO, options map[string]string) *rig {
	t.Helper()
	r := &rig{TB: t, dev: dev}
	o, err := parseOptions(options)
	if err != nil {
		t.Fatal(err)
	}
	if r.FS, err = open(ctx, dev, o, &vfsops.MountReq{Fsid: 7, Op: r.op()}, modapi.NoStore{}, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) op() vfsops.Op {
	r.seq++
	return vfsops.Op{Seq: r.seq, Now: abi.Timespec{Sec: 1700000000 + int64(r.seq), Nsec: 120e6}, Caller: abi.KernelCaller}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) root() abi.Handle { return abi.Handle{FS: 7, File: rootID, Gen: 1} }

func (r *rig) create(dir abi.Handle, name string) abi.Handle {
	r.Helper()
	m, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: dir, Name: []byte(name), Mode: 0o644})
	if err != nil {
		r.Fatalf("create %q: %v", name, err)
	}
	return m.Node.Handle
}

func (r *rig) mkdir(dir abi.Handle, name string) abi.Handle {
	r.Helper()
	m, err := r.Mkdir(ctx, vfsops.CreateReq{Op: r.op(), Dir: dir, Name: []byte(name), Mode: 0o755})
	if err != nil {
		r.Fatalf("mkdir %q: %v", name, err)
	}
	return m.Node.Handle
}

// put writes the whole of a file, in pages.
func (r *rig) put(h abi.Handle, p []byte) error {
	pages := make([]byte, (len(p)+abi.PageSize-1)/abi.PageSize*abi.PageSize)
	copy(pages, p)
	if _, err := r.Truncate(ctx, r.op(), h, 0); err != nil {
		return err
	}
	return r.WritePages(ctx, r.op(), h, 0, abi.IovOf(pages), int64(len(p)))
}

func (r *rig) get(h abi.Handle) []byte {
	r.Helper()
	v, err := r.Getattr(ctx, h)
	r.must(err)
	p := make([]byte, v.Size)
	done := 0
	for done < len(p) {
		n, err := r.Read(ctx, h, int64(done), abi.IovOf(p[done:]))
		r.must(err)
		if n == 0 {
			break
		}
		done += n
	}
	return p[:done]
}

func (r *rig) lookup(names ...string) abi.Handle {
	r.Helper()
	req := vfsops.LookupReq{Start: r.root()}
	for _, n := range names {
		req.Names = append(req.Names, []byte(n))
	}
	res, err := r.Lookup(ctx, req)
	if err != nil || res.Err != 0 || len(res.Trace) != len(names) {
		r.Fatalf("lookup %q: %d, %v, %v", names, len(res.Trace), res.Err, err)
	}
	return res.Trace[len(names)-1].Handle
}

// fsck has fsck.vfat look at an image, which it must find whole.
func fsck(t testing.TB, image []byte) {
	t.Helper()
	tool, err := exec.LookPath("fsck.vfat")
	if err != nil {
		t.Log("no fsck.vfat (Debian package dosfstools), so it is not asked")
		return
	}
	path := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-n", "-V", path).CombinedOutput(); err != nil {
		t.Fatalf("fsck.vfat: %v\n%s", err, out)
	}
}

func (r *rig) check() {
	r.Helper()
	r.must(r.Sync(ctx, abi.Handle{}, false))
	if m, ok := r.dev.(*modtest.RAM); ok {
		img := slices.Clone(m.Bytes())
		if l, err := parseBPB(img, int64(len(img)), 512); err == nil {
			unmark(img, &l)
		}
		fsck(r.TB, img)
	}
}

// unmark clears the dirty flag of an image, for fsck in the middle of a mount.
func unmark(img []byte, l *layout) {
	if at := l.stateByte(); at > 0 {
		img[at] &^= 1
	}
	for i := range int64(l.fats) {
		switch fat := img[l.fat+i*l.fatSize:]; l.bits {
		case 16:
			fat[3] |= 0x80
		case 32:
			fat[7] |= 0x08
		}
	}
}

func name(i int) string { return fmt.Sprintf("A file with a long name, number %d.txt", i) }
