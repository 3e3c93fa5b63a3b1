package fat

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// sparse is a large device in memory, of which only what is not zero is kept.
type sparse struct {
	size   int64
	sector uint32
	blks   map[int64][]byte
}

const sparseBlk = 4096

func newSparse(t testing.TB, size int64, o FormatOptions) *sparse {
	t.Helper()
	s := &sparse{size: size, sector: uint32(max(o.Sector, 512)), blks: map[int64][]byte{}}
	if err := Format(s, size, o); err != nil {
		t.Fatal(err)
	}
	return s
}

// each calls do for the parts of a range that lie in one block.
func (s *sparse) each(off, n int64, do func(blk, from, at, n int64)) {
	for at := int64(0); at < n; {
		blk, from := (off+at)/sparseBlk, (off+at)%sparseBlk
		k := min(n-at, sparseBlk-from)
		do(blk, from, at, k)
		at += k
	}
}

func (s *sparse) WriteAt(p []byte, off int64) (int, error) {
	s.each(off, int64(len(p)), func(blk, from, at, n int64) {
		b := s.blks[blk]
		if b == nil {
			if allZero(p[at:][:n]) {
				return
			}
			b = make([]byte, sparseBlk)
			s.blks[blk] = b
		}
		copy(b[from:], p[at:][:n])
	})
	return len(p), nil
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	s.each(off, int64(len(p)), func(blk, from, at, n int64) {
		if b := s.blks[blk]; b != nil {
			copy(p[at:][:n], b[from:])
		} else {
			clear(p[at:][:n])
		}
	})
	return len(p), nil
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

func (s *sparse) Geometry(context.Context) (devops.Geom, error) {
	return devops.Geom{Size: s.size, Sector: s.sector, Ops: devops.BZeroes}, nil
}

func (s *sparse) Strategy(_ context.Context, b *devops.Buf) error {
	off := b.Off()
	if off < 0 || b.Bytes < 0 || off+b.Bytes > s.size {
		return abi.EINVAL
	}
	switch b.Op() {
	case devops.BZeroes:
		s.each(off, b.Bytes, func(blk, from, _, n int64) {
			if b := s.blks[blk]; b != nil {
				clear(b[from:][:n])
			}
		})
	case devops.BWrite:
		for _, p := range b.Data {
			s.WriteAt(p, off)
			off += int64(len(p))
		}
	case devops.BRead:
		for _, p := range b.Data {
			s.ReadAt(p, off)
			off += int64(len(p))
		}
	default:
		return abi.EOPNOTSUPP
	}
	return nil
}

func (s *sparse) Close(context.Context) error { return nil }

// fsck has fsck.vfat look at the device, which is not mounted.
func (s *sparse) fsck(t testing.TB) {
	t.Helper()
	tool, err := exec.LookPath("fsck.vfat")
	if err != nil {
		t.Log("no fsck.vfat (Debian package dosfstools), so it is not asked")
		return
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(s.size); err != nil {
		t.Fatal(err)
	}
	for n, b := range s.blks {
		if !allZero(b) {
			if _, err := f.WriteAt(b, n*sparseBlk); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := exec.Command(tool, "-n", "-V", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("fsck.vfat: %v\n%s", err, out)
	}
}

var (
	_ devops.BlockIO = (*sparse)(nil)
	_ io.WriterAt    = (*sparse)(nil)
)
