package bio_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestFileRedo writes out through a redo file of the host while the device
// fails, throws everything away, and recovers from the file.
func TestFileRedo(t *testing.T) {
	img := filepath.Join(t.TempDir(), "disk.img")
	size := func(name string) int64 {
		st, err := os.Stat(img + name)
		if err != nil {
			return -1
		}
		return st.Size()
	}
	m := wlog.NewMem(1<<20, 512)
	fail := true
	m.Fault = func(b *devops.Buf) error {
		if fail && b.Flags&devops.BWrite != 0 && b.Blkno > 100 {
			return abi.EIO
		}
		return nil
	}
	ctx := t.Context()
	id := bio.ImageID{Ino: 5}
	open := func() (*bio.Handle, *bio.Layered, *bio.FileRedo) {
		t.Helper()
		s := bio.New(bio.Options{})
		h, err := s.OpenDevice(ctx, dev0, m, abi.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		store := bio.NewFileRedo(hyper.Base{}, img)
		l, err := bio.NewLayered(ctx, h, bio.LayerOptions{Redo: store, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return h, l, store
	}
	crash := func(h *bio.Handle, l *bio.Layered, s *bio.FileRedo) {
		l.Close(context.Background())
		h.Close(context.Background())
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	h, l, store := open()
	write := func(off int64, seed byte) {
		t.Helper()
		if err := l.IO().Strategy(ctx, buf(devops.BWrite, off, pattern(8192, seed))); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 1)
	write(512<<10, 2)
	if err := l.Sync(ctx); !errors.Is(err, abi.EIO) || size(bio.RedoSuffix) < 16384 {
		t.Fatalf("sync: %v; a redo file of %d bytes", err, size(bio.RedoSuffix))
	}
	write(256<<10, 3) // and again: into the second file, which takes over
	if err := l.Sync(ctx); !errors.Is(err, abi.EIO) || size(bio.RedoSuffix) != 0 || size(bio.RedoSuffix+".2") < 24576 {
		t.Fatalf("sync: %v; redo files of %d and %d bytes", err, size(bio.RedoSuffix), size(bio.RedoSuffix+".2"))
	}
	crash(h, l, store)
	if size(bio.RedoSuffix) != -1 || size(bio.RedoSuffix+".2") < 24576 {
		t.Error("Close removed what counts, or left what does not")
	}
	fail = false
	h, l, store = open()
	got := m.Image()
	for off, seed := range map[int]byte{0: 1, 512 << 10: 2, 256 << 10: 3} {
		if !bytes.Equal(got[off:off+8192], pattern(8192, seed)) {
			t.Errorf("not recovered at %d", off)
		}
	}
	write(0, 9)
	if err := l.Sync(ctx); err != nil || size(bio.RedoSuffix) > 0 || size(bio.RedoSuffix+".2") > 0 {
		t.Errorf("sync: %v, redo files of %d and %d bytes", err, size(bio.RedoSuffix), size(bio.RedoSuffix+".2"))
	}
	crash(h, l, store)
	if size(bio.RedoSuffix) != -1 || size(bio.RedoSuffix+".2") != -1 {
		t.Error("files are left")
	}
}

// orderHost notes which files are made empty.
type orderHost struct {
	hyper.Base
	order *[]string
}

type orderFile struct {
	hyper.File
	h    orderHost
	path string
}

func (h orderHost) OpenFile(ctx context.Context, o hyper.FileOpen) (hyper.File, error) {
	f, err := h.Base.OpenFile(ctx, o)
	if err != nil {
		return nil, err
	}
	return orderFile{f, h, o.Path}, nil
}

func (f orderFile) Truncate(n int64) error {
	*f.h.order = append(*f.h.order, filepath.Ext(f.path))
	return f.File.Truncate(n)
}

// TestFileRedoTwo: of two complete files the later one counts, of a complete and
// an incomplete one the complete one, wherever they are.
func TestFileRedoTwo(t *testing.T) {
	make2 := func(seq uint64) []byte {
		var b bytes.Buffer
		e, _ := bio.NewRedoEncoder(&b, bio.ImageID{}, seq)
		_ = e.Entry(0, abi.IovOf(pattern(512, byte(seq))))
		_ = e.Commit()
		return b.Bytes()
	}
	one, two := make2(1), make2(2)
	for _, tc := range []struct {
		a, b []byte
		want []byte
	}{
		{one, two, two}, {two, one, two}, {one, nil, one}, {nil, two, two},
		{one[:100], two, two}, {one, two[:100], one}, {[]byte{}, one, one}, {one[:99], nil, one[:99]}, {nil, nil, nil}, {[]byte{}, []byte{}, nil},
	} {
		img := filepath.Join(t.TempDir(), "i")
		for name, b := range map[string][]byte{bio.RedoSuffix: tc.a, bio.RedoSuffix + ".2": tc.b} {
			if b != nil {
				if err := os.WriteFile(img+name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		var order []string
		s := bio.NewFileRedo(orderHost{order: &order}, img)
		f, err := s.Open(t.Context())
		if tc.want == nil {
			if !errors.Is(err, abi.ENOENT) {
				t.Errorf("%v, want ENOENT", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, f.Size())
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%d and %d bytes: the wrong one, %v", len(tc.a), len(tc.b), err)
		}
		f.Close()
		if err := s.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		later := ".rumpus-redo"
		if bytes.Equal(tc.want, tc.b) {
			later = ".2"
		}
		if len(order) == 0 || order[len(order)-1] != later {
			t.Errorf("removed in the order %v, with %s the later one", order, later)
		}
		if _, err := s.Open(t.Context()); !errors.Is(err, abi.ENOENT) {
			t.Errorf("after Remove: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
