package ring

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A watcher is one goroutine, which has a thread in futex_waitv, for the bells
// of many ends: of servers that are away and of parked callers. While callers
// are parked it looks after them now and then without being told, for peers
// that do not ring.
type watcher struct {
	ctl   atomic.Uint32 // counted up when there is news; the last word waited for
	timed atomic.Bool   // it will look without being told

	mu    sync.Mutex
	ends  []*End
	runs  bool
	round uint64 // counted up whenever ends is read
	news  sync.Cond
}

var watchers struct {
	mu   sync.Mutex
	list []*watcher
}

// perWatcher is how many ends have room in one futex_waitv.
const perWatcher = maxWaitv / 2

// Bounds of the time after which parked callers are looked after.
const (
	minRecheck = 50 * time.Millisecond
	maxRecheck = 2 * time.Second
)

// watch has an end watched. False where futex_waitv lacks.
func watch(e *End, serves bool) bool {
	if !Supported() {
		return false
	}
	e.serves = serves
	watchers.mu.Lock()
	defer watchers.mu.Unlock()
	for _, w := range watchers.list {
		if w.add(e) {
			return true
		}
	}
	w := &watcher{}
	w.news.L = &w.mu
	watchers.list = append(watchers.list, w)
	return w.add(e)
}

func (w *watcher) add(e *End) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ends) >= perWatcher {
		return false
	}
	e.wa = w
	w.ends = append(w.ends, e)
	if !w.runs {
		w.runs = true
		go w.run()
	}
	w.tell()
	return true
}

// unwatch returns when the watcher does not touch e any more.
func unwatch(e *End) {
	w := e.wa
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.ends {
		if w.ends[i] == e {
			w.ends = append(append([]*End(nil), w.ends[:i]...), w.ends[i+1:]...)
			break
		}
	}
	round := w.round
	for w.tell(); w.runs && w.round == round; {
		w.news.Wait()
	}
}

// tell wakes the watcher.
func (w *watcher) tell() {
	w.ctl.Add(1)
	futexWake(&w.ctl, 1)
}

// run watches as long as there is anything to watch.
func (w *watcher) run() {
	var v []waitv
	wait, quiet := minRecheck, true
	var due time.Time // when it looks without being told; 0: not set
	for {
		w.mu.Lock()
		w.round++
		w.news.Broadcast()
		ends, ctl := w.ends, w.ctl.Load()
		if len(ends) == 0 {
			w.runs = false
			w.timed.Store(false)
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		v = v[:0]
		event, parked := false, false
		for _, e := range ends {
			if e.serves {
				b := e.srv.h.word(offBell)
				if n := b.Load(); n != e.seen[0] {
					e.seen[0], event = n, true
					e.srv.rung()
				}
				v = append(v, waitv{val: uint64(e.seen[0]), addr: uint64(uintptr(unsafe.Pointer(b))), flags: futexU32})
			}
			if e.calls {
				b := e.out.word(offCBell)
				n := b.Load()
				if n != e.seen[1] || e.again {
					again := n == e.seen[1]
					e.seen[1], e.again = n, false
					event = event || !again
					event = e.sweep(again) || event
				}
				parked = parked || e.waiting()
				v = append(v, waitv{val: uint64(e.seen[1]), addr: uint64(uintptr(unsafe.Pointer(b))), flags: futexU32})
			}
		}
		v = append(v, waitv{val: uint64(ctl), addr: uint64(uintptr(unsafe.Pointer(&w.ctl))), flags: futexU32})
		if event || parked {
			quiet = false
		}
		if event {
			wait = minRecheck
		}
		// It goes on looking for a while when no calls are parked any more,
		// because the next one is spared to tell.
		d := time.Duration(0)
		if !quiet {
			d = wait
		} else {
			w.timed.Store(false)
			for _, e := range ends {
				if e.waiting() {
					d = wait
				}
			}
		}
		if d > 0 {
			// What else happens does not put it off.
			w.timed.Store(true)
			now := time.Now()
			if t := now.Add(d); due.IsZero() || t.Before(due) {
				due = t
			}
			d = max(due.Sub(now), 1)
		} else {
			due = time.Time{}
		}
		futexWaitv(v, d)
		if d > 0 && !time.Now().Before(due) {
			due = time.Time{}
			quiet = !parked
			wait = min(2*wait, maxRecheck)
			for _, e := range ends {
				e.again = e.waiting()
			}
		}
	}
}

// recheck makes sure that the watcher looks after parked callers: it may be
// sleeping without a limit.
func (w *watcher) recheck() {
	if !w.timed.Load() {
		w.tell()
	}
}

// Supported reports whether this system can have rings: it needs futex_waitv
// (Linux 5.16), which some sandboxes refuse.
var Supported = sync.OnceValue(func() bool {
	if unsafe.Sizeof(uintptr(0)) < 8 {
		return false // futex_waitv's clock has 64 bits
	}
	var w atomic.Uint32
	v := []waitv{{val: 1, addr: uint64(uintptr(unsafe.Pointer(&w))), flags: futexU32}}
	return futexWaitv(v, time.Millisecond)
})
