package bio_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestWriteDuringWriteback: who writes a block that the device is being given
// does not wait for the device; what is written last is there in the end,
// whether the first request goes well or not.
func TestWriteDuringWriteback(t *testing.T) {
	for _, c := range []struct {
		name string
		errs []error // of the requests in turn
		try  bool
	}{
		{"both good", nil, false},
		{"first fails", []error{abi.EIO}, false},
		{"both fail", []error{abi.EIO, abi.EIO}, false},
		{"try, both good", nil, true},
		{"try, first fails", []error{abi.EIO}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := wlog.NewMem(1<<20, 512)
			g := newGate()
			var n atomic.Int32
			m.Fault = func(b *devops.Buf) error {
				if b.Flags&devops.BWrite == 0 {
					return nil
				}
				g.wait()
				if i := int(n.Add(1)) - 1; i < len(c.errs) {
					return c.errs[i]
				}
				return nil
			}
			r := newRig(t, m, bio.Options{})
			write := func(p []byte, off int64) {
				if !c.try {
					r.write(p, off)
				} else if !r.h.TryWriteAt(p, off) {
					t.Fatal("a write that would have had to wait")
				}
			}
			r.write(pattern(8192, 1), 0)
			first := make(chan error, 1)
			go func() { first <- r.h.Flush(r.ctx) }()
			<-g.seen
			// The device has both blocks; the second write changes a part of
			// the first, the third the same again.
			write(pattern(100, 2), 50)
			write(pattern(100, 3), 100)
			want := pattern(8192, 1)
			copy(want[50:], pattern(100, 2))
			copy(want[100:], pattern(100, 3))
			if got := r.read(0, 8192); !bytes.Equal(got, want) {
				t.Error("a reader does not see the newest")
			}
			if n := r.count("splits"); n != 1 {
				t.Errorf("%d copies made, want 1", n)
			}
			g.open()
			if err := <-first; (err != nil) != (len(c.errs) > 0) {
				t.Errorf("the first flush: %v", err)
			}
			if len(c.errs) > 1 {
				if err := r.h.Flush(r.ctx); !errors.Is(err, abi.EIO) {
					t.Errorf("the second flush: %v", err)
				}
			}
			r.flush()
			if got := m.Image()[:8192]; !bytes.Equal(got, want) {
				t.Error("the device does not have the newest")
			}
		})
	}
}

// TestWritersDuringWriteback: a block that is written and flushed by many at
// once never goes back in time.
func TestWritersDuringWriteback(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	r := newRig(t, m, bio.Options{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if err := r.h.Flush(r.ctx); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for i := range 3000 {
		p := bytes.Repeat([]byte{byte(i)}, 512)
		off := int64(i % 7 * 512)
		if i%2 == 0 || !r.h.TryWriteAt(p, off) {
			r.write(p, off)
		}
		if got := r.read(off, 512); !bytes.Equal(got, p) {
			t.Fatalf("write %d is not there", i)
		}
	}
	close(stop)
	<-done
	want := r.read(0, 7*512)
	r.flush()
	if !bytes.Equal(m.Image()[:7*512], want) {
		t.Error("the device does not have the newest")
	}
}
