package bio

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Device is an open block device as this package uses it: kernel/dev's, or a
// test's.
type Device interface {
	// Geometry says what the device is.
	Geometry(ctx context.Context) (devops.Geom, error)
	// Strategy moves one buf and answers when it is done, as devops.Blk. An
	// error that is ErrDied says that the driver's process ended under it.
	Strategy(ctx context.Context, b *devops.Buf) error
	// Up waits until the driver that answered died, an ErrDied, is there again:
	// nil. EIO when it did not come back in time, ENXIO when it is gone for
	// good.
	Up(ctx context.Context, died error) error
	// Close ends the open.
	Close(ctx context.Context) error
}

// ErrDied is what Device.Strategy answers, wrapped, when the driver died while
// it had the buf: the buf may be done, in part or not at all.
var ErrDied = dev.ErrDied

// Policy says what becomes of the bufs in flight when their driver dies.
type Policy uint8

// The policies.
const (
	Reissue Policy = iota // issued again when it is back; EIO when it does not come back in time
	Fail                  // EIO at once
	Wait                  // issued again whenever it comes back (the class flag "queue")
)

func (p Policy) String() string {
	switch p {
	case Fail:
		return "fail"
	case Wait:
		return "queue"
	}
	return "reissue"
}

// ParsePolicy reads a policy: "", "reissue", "fail", "queue". EINVAL.
func ParsePolicy(s string) (Policy, error) {
	for p := Reissue; p <= Wait; p++ {
		if s == p.String() || s == "" {
			return p, nil
		}
	}
	return 0, fmt.Errorf("requests in flight: %.40q is none of reissue, fail, queue: %w", s, abi.EINVAL)
}

// Options configure a System. The zero value will do.
type Options struct {
	// Memory is the account that all cached blocks and layers are counted in.
	// Nil: one of DefaultMemory bytes of its own.
	Memory Memory
	// Evcnt makes event counters, group "bio". Nil: counters nobody sees.
	Evcnt func(group, name string) *modapi.Counter
	// Log gets what has no caller to tell. Nil: nothing is logged.
	Log modapi.Logger
	// Open opens a device. Nil: ENXIO.
	Open func(ctx context.Context, n abi.Dev, flags int) (Device, error)
	// Aiodone has fn run by the workqueue aiodoned: what asynchronous requests
	// want done when they end. Nil: it is done where they end.
	Aiodone func(fn func(ctx context.Context))
	// Callouts has the clock of write-behind. Nil: dirty blocks wait for a
	// sync or for there to be many of them.
	Callouts *clock.Callouts
	// WriteBehind is how long a block may be dirty. 0: DefaultWriteBehind.
	WriteBehind time.Duration
	// Depth bounds the requests that one device has at a time. 0: DefaultDepth.
	Depth int
}

// Defaults of Options.
const (
	DefaultMemory      = 64 << 20 // bytes
	DefaultWriteBehind = 5 * time.Second
	DefaultDepth       = 32
)

// System is the block layer of one kernel.
type System struct {
	o      Options
	mem    Memory
	log    modapi.Logger
	nextID atomic.Uint64
	flying atomic.Int64 // requests that devices have now
	cached atomic.Int64 // bytes of cached blocks
	layer  atomic.Int64 // bytes of layers
	slab   slab
	ending chan struct{} // closed by End
	end    sync.Once

	mu    sync.Mutex // a leaf
	disks map[abi.Dev]*Disk
	locks map[abi.Dev]*openLock // devices that are being opened or closed now

	cnt counters
}

type counters struct {
	hits, misses, evicted, readahead, aheadUsed, aheadDropped *modapi.Counter
	coalesced, writebacks, dirtyWaits, overcommit, splits     *modapi.Counter
	issued, done, twice, reissued, abandoned, errors          *modapi.Counter
	checkpoints, syncs, writeouts, dropped, layerWaits        *modapi.Counter
	fresh, replayed                                           *modapi.Counter
}

// New makes a block layer without devices.
func New(o Options) *System {
	s := &System{o: o, mem: o.Memory, log: o.Log, disks: make(map[abi.Dev]*Disk), locks: make(map[abi.Dev]*openLock), ending: make(chan struct{})}
	if s.mem == nil {
		s.mem = NewMemory(DefaultMemory)
	}
	if s.log == nil {
		s.log = nopLog{}
	}
	if s.o.Depth <= 0 {
		s.o.Depth = DefaultDepth
	}
	if s.o.WriteBehind <= 0 {
		s.o.WriteBehind = DefaultWriteBehind
	}
	ev := o.Evcnt
	if ev == nil {
		ev = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	for name, c := range map[string]**modapi.Counter{
		"hits": &s.cnt.hits, "misses": &s.cnt.misses, "evicted": &s.cnt.evicted,
		"readahead": &s.cnt.readahead, "readahead_used": &s.cnt.aheadUsed, "readahead_dropped": &s.cnt.aheadDropped,
		"coalesced": &s.cnt.coalesced, "writebacks": &s.cnt.writebacks, "dirty_waits": &s.cnt.dirtyWaits, "overcommit": &s.cnt.overcommit, "splits": &s.cnt.splits,
		"issued": &s.cnt.issued, "done": &s.cnt.done, "done_twice": &s.cnt.twice, "reissued": &s.cnt.reissued,
		"abandoned": &s.cnt.abandoned, "errors": &s.cnt.errors,
		"checkpoints": &s.cnt.checkpoints, "syncs": &s.cnt.syncs, "writeouts": &s.cnt.writeouts, "layers_dropped": &s.cnt.dropped,
		"layer_waits": &s.cnt.layerWaits, "fresh": &s.cnt.fresh, "redo_replayed": &s.cnt.replayed,
	} {
		*c = ev("bio", name)
	}
	return s
}

// Stats are the gauges of a System.
type Stats struct {
	Inflight int64 // bio_inflight: requests that devices have now
	Cached   int64 // bytes of cached blocks
	Dirty    int64 // of them, bytes not yet written
	Layers   int64 // bytes of layers not yet written out
}

// Stats answers the gauges.
func (s *System) Stats() Stats {
	st := Stats{Inflight: s.flying.Load(), Cached: s.cached.Load(), Layers: s.layer.Load()}
	for _, d := range s.all() {
		d.mu.Lock()
		st.Dirty += int64(len(d.dirty)) * d.unit
		d.mu.Unlock()
	}
	return st
}

func (s *System) all() []*Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := make([]*Disk, 0, len(s.disks))
	for _, d := range s.disks {
		r = append(r, d)
	}
	return r
}

// Sync writes the dirty blocks of all devices and flushes them (sync(2)), all
// at the same time: one that does not answer takes nothing from the others. An
// error of one of them is answered.
func (s *System) Sync(ctx context.Context) error {
	disks := s.all()
	errs := make([]error, len(disks))
	var wg sync.WaitGroup
	for i, d := range disks {
		if !d.writable.Load() {
			continue
		}
		wg.Go(func() {
			err := d.Flush(ctx)
			d.mu.Lock()
			closed := d.closed // meanwhile: its Close has told
			d.mu.Unlock()
			if err != nil && !closed {
				errs[i] = fmt.Errorf("sync of device %v: %w", d.dev, err)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// End says that the kernel ends and has waited long enough: requests are given
// up, but for writes that a driver has already, and those that come are EIO.
func (s *System) End() {
	s.end.Do(func() { close(s.ending) })
	for _, d := range s.all() {
		d.q.giveUp(errEnd)
	}
}

type nopLog struct{}

func (nopLog) Debug(string, ...any) {}
func (nopLog) Info(string, ...any)  {}
func (nopLog) Warn(string, ...any)  {}
func (nopLog) Error(string, ...any) {}
