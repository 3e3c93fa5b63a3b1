package bio_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// life is one process of a driver; when it is dead it answers EIO. It dies of
// its request number last, and says so.
type life struct {
	m    *wlog.Mem
	dead *atomic.Bool
	n    *atomic.Int64
	last int64
	die  func()
}

func (l life) Geometry(ctx context.Context, _ uint32) (devops.Geom, error) { return l.m.Geometry(ctx) }
func (life) Open(context.Context, uint32, int) error                       { return nil }
func (life) Close(context.Context, uint32, int) error                      { return nil }
func (life) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

func (l life) Strategy(ctx context.Context, b *devops.Buf) error {
	if l.dead.Load() {
		return abi.EIO
	}
	if err := l.m.Strategy(ctx, b); err != nil {
		return err
	}
	if l.n.Add(1) == l.last {
		l.die()
		l.dead.Store(true)
	}
	if l.dead.Load() { // done, and nobody hears of it
		return abi.EIO
	}
	return nil
}

// TestSwitchedDriverDies kills the driver of a device of kernel/dev again and
// again while it is read and written through the cache: nobody notices.
func TestSwitchedDriverDies(t *testing.T) {
	const size = 1 << 20
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m := wlog.NewMem(size, 512)
	sw := dev.New(dev.Options{})
	sw.SetAvailable(true)
	var n abi.Dev
	died := make(chan struct{}, 1)
	up := func() {
		l := life{m, new(atomic.Bool), new(atomic.Int64), 20, func() {
			sw.InstanceDown("inst")
			died <- struct{}{}
		}}
		var err error
		if n, err = sw.AttachBlk("inst", "disk", l); err != nil {
			t.Error(err)
		}
		sw.InstanceUp("inst")
	}
	up()
	ev := evcnt.New()
	s := bio.New(bio.Options{Open: bio.Switched(sw), Evcnt: ev.Attach, Memory: bio.NewMemory(512 << 10)})
	h, err := s.Open(ctx, n, abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	model := make([]byte, size)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			mine := model[w*size/4 : (w+1)*size/4]
			base := int64(w * size / 4)
			rnd := rand.New(rand.NewPCG(uint64(w), 9))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				off := rnd.Int64N(int64(len(mine)) - 20000)
				p := pattern(1+rnd.IntN(20000), byte(i))
				var err error
				switch rnd.IntN(4) {
				case 0, 1:
					_, err = h.WriteAt(ctx, p, base+off, false)
					copy(mine[off:], p)
				case 2:
					_, err = h.ReadAt(ctx, p, base+off)
					if err == nil && !bytes.Equal(p, mine[off:off+int64(len(p))]) {
						t.Error("read differs")
						return
					}
				case 3:
					err = h.Flush(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		select {
		case <-died:
			up()
		case <-ctx.Done():
			t.Error("it never died")
		}
	}
	close(stop)
	ended := make(chan struct{})
	go func() { // those that are under way may kill it once more
		for {
			select {
			case <-died:
				up()
			case <-ended:
				return
			}
		}
	}()
	wg.Wait()
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(m.Image(), model) {
		t.Error("the device differs")
	}
	if n := ev.Attach("bio", "reissued").Load(); n < 50 {
		t.Errorf("%d bufs were issued again", n)
	}
	// It goes for good.
	if h, err = s.Open(ctx, n, abi.O_RDWR); err != nil {
		t.Fatal(err)
	}
	close(ended)
	sw.InstanceDown("inst")
	sw.DetachInstance("inst")
	if _, err := h.ReadAt(ctx, make([]byte, 10), 0); !errors.Is(err, abi.ENXIO) {
		t.Errorf("read of a device that is gone: %v", err)
	}
	h.Close(ctx)
}
