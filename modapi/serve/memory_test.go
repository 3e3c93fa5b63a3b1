package serve

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// TestGarbage: the larger the heap, the smaller the part of it that may be
// garbage.
func TestGarbage(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {largeHeap - 1, 100}, {largeHeap, 50}, {hugeHeap - 1, 50}, {hugeHeap, 25}, {1 << 40, 25}} {
		if got := garbage(c.live); got != c.want {
			t.Errorf("%d: %d, want %d", c.live, got, c.want)
		}
	}
}

// TestHeap: what is asked of the runtime exists, and a collection of a small
// heap changes nothing.
func TestHeap(t *testing.T) {
	known := map[string]bool{}
	for _, d := range metrics.All() {
		known[d.Name] = true
	}
	for _, n := range []string{"/gc/heap/live:bytes", "/gc/cycles/total:gc-cycles", "/gc/heap/allocs:bytes"} {
		if !known[n] {
			t.Errorf("this Go has no %s", n)
		}
	}
	runtime.GC()
	if read("/gc/heap/live:bytes") == 0 || read("/gc/cycles/total:gc-cycles") == 0 {
		t.Error("nothing is counted")
	}
	h := &heap{percent: 100}
	h.collected()
	if h.percent != garbage(read("/gc/heap/live:bytes")) {
		t.Errorf("%d percent", h.percent)
	}
}

// TestHeapIdle: memory is given back once nothing was collected for a while, and
// not again before something has been allocated.
func TestHeapIdle(t *testing.T) {
	h := &heap{}
	for i, c := range []struct {
		cycle, alloc uint64
		later, free  bool
	}{
		{5, 100 << 20, true, false},  // it has collected meanwhile
		{6, 110 << 20, true, false},  // and once more
		{6, 110 << 20, false, true},  // idle
		{7, 110 << 20, true, false},  // that was us
		{7, 111 << 20, false, false}, // nothing new
		{8, 120 << 20, true, false},
		{8, 120 << 20, false, true},
	} {
		if later, free := h.look(c.cycle, c.alloc); later != c.later || free != c.free {
			t.Errorf("step %d: later %v, free %v", i, later, free)
		}
	}
}
