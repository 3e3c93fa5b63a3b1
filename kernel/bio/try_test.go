package bio_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
)

// TestTry: what is in memory is read and written at once, what is not is left
// to ReadAt and WriteAt; together they keep a model, also while others write.
func TestTry(t *testing.T) {
	r := newRig(t, wlog.NewMem(1<<20, 512), bio.Options{})
	h := r.h
	p := make([]byte, 4096)
	if h.TryReadAt(p, 0) || h.TryWriteAt(p, 0) {
		t.Error("nothing is in memory yet")
	}
	for _, off := range []int64{-1, 1 << 20, 1<<20 - 100, 1 << 62} {
		if h.TryReadAt(p, off) || h.TryWriteAt(p, off) {
			t.Errorf("at %d", off)
		}
	}
	if _, err := h.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	if !h.TryReadAt(p, 0) {
		t.Error("it is in memory now")
	}
	if h.TryReadAt(make([]byte, 1<<16), 0) {
		t.Error("that is much to copy under a lock")
	}
	var wg sync.WaitGroup
	const part = 1 << 18
	for w := range int64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(w)))
			model := make([]byte, part)
			tried := 0
			for i := range 3000 {
				n := 1 + rnd.Int64N(6000)
				off := rnd.Int64N(part - n)
				q := make([]byte, n)
				if rnd.IntN(2) == 0 {
					for j := range q {
						q[j] = byte(i + j)
					}
					copy(model[off:], q)
					if h.TryWriteAt(q, w*part+off) {
						tried++
					} else if _, err := h.WriteAt(t.Context(), q, w*part+off, false); err != nil {
						t.Error(err)
						return
					}
					continue
				}
				if h.TryReadAt(q, w*part+off) {
					tried++
				} else if _, err := h.ReadAt(t.Context(), q, w*part+off); err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(q, model[off:off+n]) {
					t.Errorf("other bytes at %d", w*part+off)
					return
				}
				if i%500 == 0 {
					if err := h.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			if tried < 1000 {
				t.Errorf("only %d of 3000 at once", tried)
			}
		})
	}
	wg.Wait()
}
