package ext4

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// recorder is a device that notes what is written, and where it was flushed.
type recorder struct {
	*modtest.RAM
	writes []write
}

type write struct {
	off   int64
	data  []byte
	flush bool
}

func (r *recorder) Strategy(ctx context.Context, b *devops.Buf) error {
	switch b.Flags & devops.BOpMask {
	case devops.BWrite:
		p := make([]byte, b.Bytes)
		b.Data.CopyOut(p)
		r.writes = append(r.writes, write{off: b.Blkno * devops.DevBsize, data: p})
	case devops.BFlush:
		r.writes = append(r.writes, write{flush: true})
	}
	return r.RAM.Strategy(ctx, b)
}

// TestCrash cuts the power at flushes and between them, with what is not flushed
// written in part, and has e2fsck replay the journal, and this driver; what was
// synced is there.
func TestCrash(t *testing.T) {
	for _, l := range layouts {
		if !l.journal {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			crash(t, mkfs(t, 12<<20, append(append([]string{}, l.args...), "-J", "size=4", "-N", "2048")...), 3, 200, 6)
		})
	}
}

func crash(t *testing.T, disk *modtest.RAM, seed uint64, steps, cuts int) {
	t.Helper()
	base := bytes.Clone(disk.Bytes())
	rec := &recorder{RAM: disk}
	m := &model{rig: mountRig(t, rec, false), r: rand.New(rand.NewPCG(seed, 7))}
	m.root = &mnode{h: m.rt, dir: map[string]*mnode{}}
	lf := m.lookup("lost+found")
	m.root.dir["lost+found"] = &mnode{h: lf.Handle, dir: map[string]*mnode{}, links: 1, up: m.root}
	m.dirs = []*mnode{m.root}
	type synced struct {
		at   int // writes
		name string
		data []byte
	}
	var marks []synced
	for m.step = range steps {
		m.one()
		if m.step%25 == 24 {
			// A file that nothing else touches, written and synced.
			name := fmt.Sprintf("synced-%d", m.step)
			x, err := m.Create(ctx, vfsops.CreateReq{Op: m.op(), Dir: m.rt, Name: []byte(name), Mode: 0o600})
			m.must(err)
			data := bytes.Repeat([]byte(name), 900)
			p := make([]byte, (len(data)+abi.PageSize-1)/abi.PageSize*abi.PageSize)
			copy(p, data)
			m.must(m.WritePages(ctx, m.op(), x.Node.Handle, 0, abi.IovOf(p), int64(len(data))))
			m.must(m.Sync(ctx, x.Node.Handle, false))
			marks = append(marks, synced{len(rec.writes), name, data})
		}
	}
	for i := range cuts {
		cut := m.r.IntN(len(rec.writes)) + 1
		img := bytes.Clone(base)
		last := 0
		for k, w := range rec.writes[:cut] {
			if w.flush {
				last = k
			}
			copy(img[w.off:], w.data)
		}
		if i%2 == 1 {
			// Of what was written since the last flush any part may be there.
			img = bytes.Clone(base)
			for k, w := range rec.writes[:cut] {
				if k <= last || m.r.IntN(2) == 0 {
					copy(img[w.off:], w.data)
				}
			}
		}
		check := func(d *modtest.RAM, ro bool) {
			t.Helper()
			r := mountRig(t, d, ro)
			for _, s := range marks {
				if s.at > last { // the flush that Sync ends with is among those
					break
				}
				if got := r.get(r.lookup(s.name).Handle); !bytes.Equal(got, s.data) {
					t.Errorf("cut %d of %d: %s has %d bytes, want %d", cut, len(rec.writes), s.name, len(got), len(s.data))
				}
			}
			r.must(r.Unmount(ctx))
		}
		// Read-only: from memory, and the image stays as it is.
		d := modtest.NewRAM(int64(len(img)), 512)
		copy(d.Bytes(), img)
		check(d, true)
		if !bytes.Equal(d.Bytes(), img) {
			t.Error("a read-only mount has written")
		}
		fsck(t, img)
		// By this driver.
		check(d, false)
		fsck(t, d.Bytes())
	}
	m.must(m.Unmount(ctx))
}

// TestLinux has Linux write a tree, and looks at it with its journal not replayed;
// then the other way round.
func TestLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mount(8) takes root")
	}
	for _, l := range layouts {
		if !l.journal {
			continue
		}
		t.Run(l.name, func(t *testing.T) { linux(t, l.size, l.args) })
	}
}

// loop mounts an image by Linux.
func loop(t *testing.T, img, dir string, opts string) func() {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop"+opts, img, dir).CombinedOutput(); err != nil {
		t.Skipf("Linux does not mount it here: %v\n%s", err, out)
	}
	return func() {
		t.Helper()
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	}
}

func linux(t *testing.T, size int64, args []string) {
	disk := mkfs(t, size, args...)
	tmp := tempDir(t)
	img, dir := filepath.Join(tmp, "img"), filepath.Join(tmp, "mnt")
	if err := os.WriteFile(img, disk.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	umount := loop(t, img, dir, "")
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Error(err)
		}
	}
	for i := 0; i < 300; i += 3 {
		os.Remove(filepath.Join(dir, fmt.Sprintf("file-%d", i)))
	}
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	if out, err := exec.Command("sync", "-f", dir).CombinedOutput(); err != nil {
		t.Errorf("sync: %v %s", err, out)
	}
	dirty, err := os.ReadFile(img)
	umount()
	if err != nil {
		t.Fatal(err)
	}
	copy(disk.Bytes(), dirty)
	see := func(r *rig) {
		t.Helper()
		if n := len(r.names(r.rt)); n != 202 {
			t.Errorf("%d names", n)
		}
		for i := range 300 {
			if i%3 == 0 {
				continue
			}
			if got := r.get(r.lookup(fmt.Sprintf("file-%d", i)).Handle); string(got) != fmt.Sprint(i) {
				t.Errorf("file %d has %q", i, got)
			}
		}
	}
	r := mountRig(t, disk, true)
	see(r)
	r.must(r.Unmount(ctx))
	if !bytes.Equal(disk.Bytes(), dirty) {
		t.Error("a read-only mount has written")
	}
	r = mountRig(t, disk, false)
	see(r)
	// Ours is dirty now: Linux replays it.
	for i := range 200 {
		_, err := r.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.lookup("d").Handle, Name: []byte(fmt.Sprintf("ours-%d", i)), Mode: 0o644})
		r.must(err)
	}
	r.must(r.Setxattr(ctx, vfsops.SetxattrReq{Op: r.op(), Node: r.lookup("d/ours-7").Handle, Name: []byte("user.colour"), Value: []byte("red")}))
	r.must(r.Sync(ctx, abi.Handle{}, false))
	if err := os.WriteFile(img, disk.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	umount = loop(t, img, dir, "")
	es, err := os.ReadDir(filepath.Join(dir, "d"))
	if err != nil || len(es) != 200 {
		t.Errorf("Linux sees %d files of 200: %v", len(es), err)
	}
	umount()
	p, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, p)
	r.must(r.Unmount(ctx))
	fsck(t, disk.Bytes())
}
