package main

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Row is one line of the result, as --json writes it.
type Row struct {
	Operation string  `json:"operation"`
	Path      string  `json:"path"`
	Callers   int     `json:"callers"`
	P50       float64 `json:"p50_ns"`
	P99       float64 `json:"p99_ns"`
	Ops       float64 `json:"ops_s"`
	CPU       float64 `json:"cpu_ns"`
	Ratio     float64 `json:"ratio"` // of P50 to Linux's; 0 when there is none

	// Of rows about processes: a quantity instead of a time.
	Value float64 `json:"value,omitempty"`
	Unit  string  `json:"unit,omitempty"`
}

// sample is the result of one measurement.
type sample struct {
	P50, P99, Ops, CPU float64

	Done float64 // operations made, for a task with a Count
}

// task is one measurement: an operation by some callers.
type task struct {
	Op      string
	Callers int
	Budget  time.Duration
	Count   int // makes so many instead, without a clock
	GC      bool
	Pids    []int // processes whose CPU time counts, besides the one that measures
}

// hist counts times in ns by powers of two, each cut into subBuckets; exact
// below that number, to 1.6 % above.
type hist struct {
	n     [64 * subBuckets]uint64
	total uint64
}

const subBuckets = 64

func bucket(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	exp := bits.Len64(ns) - 7 // subBuckets <= ns>>exp < 2*subBuckets
	return (exp+1)*subBuckets + int(ns>>exp) - subBuckets
}

// value is the middle of bucket i.
func value(i int) float64 {
	if i < subBuckets {
		return float64(i)
	}
	exp := i/subBuckets - 1
	low := uint64(i%subBuckets+subBuckets) << exp
	return float64(low) + float64(uint64(1)<<exp)/2
}

func (h *hist) add(ns uint64) {
	h.n[min(bucket(ns), len(h.n)-1)]++
	h.total++
}

func (h *hist) merge(o *hist) {
	for i, n := range o.n {
		h.n[i] += n
	}
	h.total += o.total
}

// quantile is the smallest time that a share q of all times does not exceed.
func (h *hist) quantile(q float64) float64 {
	want := max(uint64(q*float64(h.total)+0.5), 1)
	for i, n := range h.n {
		if n >= want {
			return value(i)
		}
		want -= n
	}
	return 0
}

// clockCost is how long a timed piece has to be.
const clockCost = 2 * time.Microsecond

// measure runs fns, one a caller, all at once for the task's time.
func measure(t task, fns []func() error) (sample, error) {
	if t.Count > 0 {
		return repeat(t, fns)
	}
	batch, err := calibrate(fns[0], t.Budget/10)
	if err != nil {
		return sample{}, err
	}
	for _, fn := range fns[1:] {
		if err := fn(); err != nil {
			return sample{}, err
		}
	}
	defer t.collect()()
	if idle[t.Op] > 0 {
		batch = 1
	}
	hists := make([]*hist, len(fns))
	errs := make([]error, len(fns))
	for i := range hists {
		hists[i] = new(hist)
	}
	cpu := cpuTime(t.Pids)
	start := time.Now()
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = call(fn, start, t.Budget, batch, idle[t.Op], hists[i]) })
	}
	wg.Wait()
	took := time.Since(start)
	cpu = cpuTime(t.Pids) - cpu
	all := new(hist)
	for i := range hists {
		if errs[i] != nil {
			return sample{}, errs[i]
		}
		all.merge(hists[i])
	}
	n := float64(all.total) * float64(batch)
	per := 1.0
	if batch > 1 {
		per = float64(batch)
	}
	return sample{P50: all.quantile(0.5) / per, P99: all.quantile(0.99) / per,
		Ops: n / took.Seconds(), CPU: float64(cpu) / n}, nil
}

// repeat makes the task's number of operations, and a few more if they cannot
// be shared evenly.
func repeat(t task, fns []func() error) (sample, error) {
	each := (t.Count + len(fns) - 1) / len(fns)
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() {
			for n := 0; n < each && errs[i] == nil; n++ {
				errs[i] = fn()
			}
		})
	}
	wg.Wait()
	return sample{Done: float64(each * len(fns))}, errors.Join(errs...)
}

// call repeats fn until the budget is used, after a rest each time; it does so
// once at least.
func call(fn func() error, start time.Time, budget time.Duration, batch int, rest time.Duration, h *hist) error {
	t0 := time.Since(start)
	for {
		if rest > 0 {
			time.Sleep(rest)
			t0 = time.Since(start)
		}
		for range batch {
			if err := fn(); err != nil {
				return err
			}
		}
		t1 := time.Since(start)
		h.add(uint64(max(t1-t0, 0)))
		if t1 >= budget {
			return nil
		}
		t0 = t1
	}
}

// calibrate warms fn up and answers how often to run it for one timing.
func calibrate(fn func() error, budget time.Duration) (int, error) {
	if err := fn(); err != nil {
		return 0, err
	}
	start, n := time.Now(), 0
	for took := time.Duration(0); took <= budget || n < 3; took = time.Since(start) {
		if err := fn(); err != nil {
			return 0, err
		}
		n++
	}
	cost := max(time.Since(start)/time.Duration(n), 1)
	return max(int((clockCost+cost-1)/cost), 1), nil
}

// collect forces garbage collections in this process until the function that it
// answers is called: every 100 ms, and nearly always for the operation that is
// about that.
func (t task) collect() (stop func()) {
	switch {
	case t.Op == opGetpidGC:
		return forceGC(time.Millisecond)
	case t.GC:
		return forceGC(100 * time.Millisecond)
	}
	return func() {}
}

// forceGC collects garbage at every tick until the function that it answers is
// called.
func forceGC(tick time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				runtime.GC()
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// cpuTime is the CPU time that this process and others have used, in ns. A
// process that is gone counts nothing.
func cpuTime(pids []int) (ns int64) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) == nil {
		ns = ts.Nano()
	}
	for _, pid := range pids {
		// clock_getcpuclockid(3): the clock of another process.
		if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil {
			ns += ts.Nano()
		}
	}
	return ns
}

// bind makes the functions of all callers; the second function undoes it.
func bind(w way, t task) ([]func() error, func(), error) {
	var fns []func() error
	var undo []func()
	end := func() {
		for _, f := range undo {
			f()
		}
	}
	op := t.Op
	if base, ok := baseOf[op]; ok {
		op = base
	}
	for i := range t.Callers {
		fn, done, err := w.bind(op, i%maxCallers)
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("%s: %w", t.Op, err)
		}
		fns = append(fns, fn)
		if done != nil {
			undo = append(undo, done)
		}
	}
	return fns, end, nil
}
