package file

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

type counted struct {
	NoOps
	closed *atomic.Int32
}

func (c counted) Close(context.Context, *File) error { c.closed.Add(1); return nil }

func newTable(max int64) *Table {
	t := &Table{}
	t.Max.Store(max)
	return t
}

func TestDescriptors(t *testing.T) {
	ctx := context.Background()
	var closed atomic.Int32
	tab := newTable(100)
	d := NewFiledesc(4)
	open := func() (int, error) {
		f, err := tab.New(TypeMisc, counted{closed: &closed}, nil, abi.O_RDWR, abi.Root)
		if err != nil {
			return -1, err
		}
		fd, err := d.Alloc(f, 0, false)
		if err != nil {
			f.Release(ctx)
		}
		return fd, err
	}
	for want := range 4 {
		if fd, err := open(); err != nil || fd != want {
			t.Fatalf("open: %d %v, want %d", fd, err, want)
		}
	}
	if _, err := open(); err != abi.EMFILE {
		t.Errorf("fifth of four: %v", err)
	}
	if err := d.Close(ctx, 1); err != nil {
		t.Error(err)
	}
	if err := d.Close(ctx, 1); err != abi.EBADF {
		t.Errorf("closed twice: %v", err)
	}
	if fd, err := open(); err != nil || fd != 1 {
		t.Errorf("lowest free: %d %v", fd, err)
	}
	if err := d.Dup2(ctx, 0, 3, true); err != nil {
		t.Error(err)
	}
	if on, err := d.Cloexec(3); err != nil || !on {
		t.Errorf("cloexec of the copy: %v %v", on, err)
	}
	if err := d.Dup2(ctx, 0, 4, false); err != abi.EBADF {
		t.Errorf("dup2 beyond the limit: %v", err)
	}
	if err := d.Dup2(ctx, 2, 2, false); err != nil {
		t.Errorf("dup2 onto itself: %v", err)
	}
	for _, fd := range []int{-1, 4, 1 << 30} {
		if _, err := d.Get(fd); err != abi.EBADF {
			t.Errorf("get %d: %v", fd, err)
		}
	}
	c := d.Copy()
	d.Release(ctx)
	if _, err := c.Get(0); err != nil {
		t.Errorf("the copy lost its files: %v", err)
	} else {
		f, _ := c.Get(0)
		f.Release(ctx)
		f.Release(ctx)
	}
	c.Release(ctx)
	if n := tab.Count(); n != 0 {
		t.Errorf("%d files left, %d closed", n, closed.Load())
	}
}

func TestTableFull(t *testing.T) {
	tab := newTable(1)
	if _, err := tab.New(TypeMisc, NoOps{}, nil, 0, abi.Root); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.New(TypeMisc, NoOps{}, nil, 0, abi.Root); err != abi.ENFILE {
		t.Errorf("second of one: %v", err)
	}
}

func TestFlags(t *testing.T) {
	f, _ := newTable(1).New(TypeMisc, NoOps{}, nil, abi.O_WRONLY|abi.O_APPEND, abi.Root)
	f.SetFlags(abi.O_NONBLOCK | abi.O_RDWR | abi.O_CREAT)
	if got, want := f.Flags(), abi.O_WRONLY|abi.O_NONBLOCK; got != want {
		t.Errorf("flags %#x, want %#x", got, want)
	}
	if f.Readable() || !f.Writable() || !f.Nonblock() {
		t.Error("access mode was changed")
	}
}

// TestCloseDuringUse closes descriptors under readers: no file is closed while
// a reader has it, every file exactly once.
func TestCloseDuringUse(t *testing.T) {
	ctx := context.Background()
	var closed atomic.Int32
	tab := newTable(10000)
	d := NewFiledesc(64)
	var wg sync.WaitGroup
	var opened atomic.Int32
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				f, err := tab.New(TypeMisc, counted{closed: &closed}, nil, abi.O_RDONLY, abi.Root)
				if err != nil {
					t.Error(err)
					return
				}
				opened.Add(1)
				fd, err := d.Alloc(f, 0, false)
				if err != nil {
					t.Error(err)
					return
				}
				if g, err := d.Get(fd); err == nil {
					if g.refs.Load() < 1 {
						t.Error("a closed file was found")
					}
					g.Release(ctx)
				}
				if err := d.Close(ctx, fd); err != nil && !errors.Is(err, abi.EBADF) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d.Release(ctx)
	if opened.Load() != closed.Load() || tab.Count() != 0 {
		t.Errorf("%d opened, %d closed, %d left", opened.Load(), closed.Load(), tab.Count())
	}
}

// TestLowestFree compares the table with a plain map.
func TestLowestFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		d := NewFiledesc(200)
		tab := newTable(1000)
		model := map[int]bool{}
		for range 200 {
			if rapid.Bool().Draw(t, "open") {
				min := rapid.IntRange(0, 199).Draw(t, "min")
				f, _ := tab.New(TypeMisc, NoOps{}, nil, 0, abi.Root)
				want := min
				for model[want] {
					want++
				}
				fd, err := d.Alloc(f, min, false)
				if want >= 200 {
					if err != abi.EMFILE {
						t.Fatalf("full: %d %v", fd, err)
					}
					continue
				}
				if err != nil || fd != want {
					t.Fatalf("alloc from %d: %d %v, want %d", min, fd, err, want)
				}
				model[fd] = true
			} else {
				fd := rapid.IntRange(0, 199).Draw(t, "fd")
				err := d.Close(ctx, fd)
				if model[fd] != (err == nil) {
					t.Fatalf("close %d: %v, open %v", fd, err, model[fd])
				}
				delete(model, fd)
			}
		}
	})
}
