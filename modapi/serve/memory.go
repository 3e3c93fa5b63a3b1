package serve

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// Go lets garbage double a heap, and gives what was freed back when it happens to
// collect next, after two minutes at the latest. For the few megabytes of most
// processes that is cheap and right; a file system that keeps a million files, or
// the host that keeps their records, would take twice the memory, and keep it
// for minutes when the files have gone.

// Live heap, in bytes, from which on garbage may be half, and a quarter of it.
// Beyond the first, what an idle process has freed goes back.
const (
	largeHeap = 64 << 20
	hugeHeap  = 128 << 20
)

// How long a process must have collected nothing to count as idle, and how much
// it must have allocated since it gave memory back to do so again.
const (
	idleHeap  = 10 * time.Second
	idleAlloc = 4 << 20
)

// garbage is how much of a live heap may be garbage, in percent.
func garbage(live uint64) int {
	switch {
	case live < largeHeap:
		return 100
	case live < hugeHeap:
		return 50
	}
	return 25
}

// heap watches the heap of this process: at each collection, and while it is
// large every idleHeap.
type heap struct {
	percent int         // of the collections' goroutine
	armed   atomic.Bool // idle is to be called

	mu    sync.Mutex
	cycle uint64 // collections when idle looked last; protected by mu
	freed uint64 // bytes allocated when memory was given back last; protected by mu
}

var boundOnce sync.Once

// BoundMemory keeps this process's memory near what it uses, from now on. Run
// calls it; so does the host's own program.
func BoundMemory() {
	boundOnce.Do(func() { (&heap{percent: 100}).watch() })
}

// sentinel is garbage as soon as it is made.
type sentinel struct{ h *heap }

// watch has collected called at the next collection.
func (h *heap) watch() {
	runtime.SetFinalizer(&sentinel{h}, func(s *sentinel) {
		s.h.collected()
		s.h.watch()
	})
}

// collected looks at the heap after a collection.
func (h *heap) collected() {
	live := read("/gc/heap/live:bytes")
	if p := garbage(live); p != h.percent {
		h.percent = p
		debug.SetGCPercent(p)
	}
	if live >= largeHeap && h.armed.CompareAndSwap(false, true) {
		time.AfterFunc(idleHeap, h.idle)
	}
}

// idle gives memory back if nothing happens in this process.
func (h *heap) idle() {
	later, free := h.look(read("/gc/cycles/total:gc-cycles"), read("/gc/heap/allocs:bytes"))
	if later {
		time.AfterFunc(idleHeap, h.idle)
		return
	}
	h.armed.Store(false) // the next collection of a large heap arms it
	if free {
		debug.FreeOSMemory()
	}
}

// look decides by the collections and the bytes allocated so far: whether to
// look again later, and whether to give memory back.
func (h *heap) look(cycle, alloc uint64) (later, free bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cycle != h.cycle {
		h.cycle = cycle
		return true, false
	}
	if alloc-h.freed < idleAlloc {
		return false, false
	}
	h.freed = alloc
	return false, true
}

func read(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
