package event

import (
	"context"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// MaxKnotes bounds the knotes of one kqueue: ENOMEM.
const MaxKnotes = 4096

// Kqueue is an event queue (struct kqueue). It knows nothing of descriptors:
// who registers brings the Source of each knote.
//
// Register adds and removes knotes; Wait fetches what has happened, waiting for
// it. Sel is notified when something may have.
type Kqueue struct {
	Sel Selinfo

	scan chan struct{} // one token: one scan at a time

	reg sync.Mutex // one registration at a time

	mu     sync.Mutex
	notes  map[knoteID]*Knote // protected by mu
	queue  []*Knote           // those worth a look, in order; protected by mu
	closed bool               // protected by mu
}

// knoteID tells knotes apart. A descriptor that is closed and opened again is
// another thing, which the owner sees to by Drop.
type knoteID struct {
	owner  any // whose idents they are: a descriptor table, or nil
	ident  uint64
	filter uint32
}

// NewKqueue makes an empty kqueue.
func NewKqueue() *Kqueue {
	kq := &Kqueue{scan: make(chan struct{}, 1), notes: make(map[knoteID]*Knote)}
	kq.scan <- struct{}{}
	return kq
}

// Register makes one change. owner says whose idents they are; open makes the
// source of a knote to be added, and drop takes back what open gave if it is
// not used or no longer.
//
// ENOENT for a knote that is not there, EINVAL for another Filter's source
// refusing, ENOMEM for too many, EBADF for a closed kqueue.
func (kq *Kqueue) Register(owner any, ev *abi.Kevent, open func() (Source, error)) error {
	kq.reg.Lock()
	defer kq.reg.Unlock()
	id := knoteID{owner, ev.Ident, ev.Filter}
	kq.mu.Lock()
	k, closed, n := kq.notes[id], kq.closed, len(kq.notes)
	kq.mu.Unlock()
	switch {
	case closed:
		return abi.EBADF
	case k == nil && ev.Flags&abi.EV_ADD == 0:
		return abi.ENOENT
	case k == nil && n >= MaxKnotes:
		return abi.ENOMEM
	case ev.Flags&abi.EV_DELETE != 0 && k != nil:
		kq.detach(k)
		return nil
	case k == nil:
		src, err := open()
		if err != nil {
			return err
		}
		return kq.add(id, ev, src)
	}
	if t, ok := k.src.(Toucher); ok {
		if err := t.Touch(k, ev); err != nil {
			return err
		}
	}
	kq.mu.Lock()
	if ev.Flags&abi.EV_ADD != 0 {
		k.setLocked(ev)
	}
	kq.mu.Unlock()
	kq.enable(k, ev.Flags)
	return nil
}

// setLocked takes over what a change asks for.
func (k *Knote) setLocked(ev *abi.Kevent) {
	if ev.Filter != abi.EVFILT_USER { // has its own rules, see its Touch
		k.sfflags, k.sdata = ev.Fflags, ev.Data
	}
	k.udata = ev.Udata
	k.flags = k.flags&abi.EV_EOF | ev.Flags&(abi.EV_ONESHOT|abi.EV_CLEAR|abi.EV_DISPATCH)
	if ev.Filter == abi.EVFILT_TIMER || ev.Filter == abi.EVFILT_SIGNAL {
		k.flags |= abi.EV_CLEAR
	}
}

func (kq *Kqueue) add(id knoteID, ev *abi.Kevent, src Source) error {
	k := &Knote{Ident: ev.Ident, Filter: ev.Filter, kq: kq, src: src, id: id, off: ev.Flags&abi.EV_DISABLE != 0}
	if ev.Filter == abi.EVFILT_USER {
		k.sfflags, k.sdata = ev.Fflags&abi.NOTE_FFLAGSMASK, ev.Data
	}
	k.setLocked(ev)
	if err := src.Attach(k); err != nil {
		return err
	}
	kq.mu.Lock()
	if kq.closed {
		kq.mu.Unlock()
		src.Detach(k)
		return abi.EBADF
	}
	kq.notes[id] = k
	kq.mu.Unlock()
	if t, ok := src.(Toucher); ok && ev.Filter == abi.EVFILT_USER {
		if err := t.Touch(k, ev); err != nil {
			kq.detach(k)
			return err
		}
	}
	if _, ok := src.(Poller); ok {
		k.Wake()
	}
	return nil
}

// enable does EV_ENABLE and EV_DISABLE.
func (kq *Kqueue) enable(k *Knote, flags uint32) {
	_, poller := k.src.(Poller)
	kq.mu.Lock()
	switch {
	case flags&abi.EV_DISABLE != 0:
		k.off = true
	case flags&abi.EV_ENABLE != 0:
		k.off = false
	}
	woke := false
	if !k.off && (poller && flags&(abi.EV_ADD|abi.EV_ENABLE) != 0 || k.active) {
		woke = k.queueLocked()
	}
	kq.mu.Unlock()
	if woke {
		kq.Sel.Notify()
	}
}

// detach removes a knote. Preconditions: reg is held.
func (kq *Kqueue) detach(k *Knote) {
	kq.mu.Lock()
	was := k.gone
	k.gone = true
	if kq.notes[k.id] == k {
		delete(kq.notes, k.id)
	}
	kq.mu.Unlock()
	if !was {
		k.src.Detach(k)
	}
}

// Drop removes the knotes of an owner for one ident: the descriptor was closed
// (knote_fdclose). With all set it removes every knote of the owner.
func (kq *Kqueue) Drop(owner any, ident uint64, all bool) {
	kq.reg.Lock()
	defer kq.reg.Unlock()
	kq.mu.Lock()
	var ks []*Knote
	if all {
		for id, k := range kq.notes {
			if id.owner == owner {
				ks = append(ks, k)
			}
		}
	} else {
		for f := uint32(0); f <= abi.EVFILT_USER; f++ {
			if k := kq.notes[knoteID{owner, ident, f}]; k != nil {
				ks = append(ks, k)
			}
		}
	}
	kq.mu.Unlock()
	for _, k := range ks {
		kq.detach(k)
	}
}

// Close removes every knote and ends those who wait.
func (kq *Kqueue) Close() {
	kq.reg.Lock()
	kq.mu.Lock()
	kq.closed = true
	ks := make([]*Knote, 0, len(kq.notes))
	for _, k := range kq.notes {
		ks = append(ks, k)
	}
	kq.mu.Unlock()
	for _, k := range ks {
		kq.detach(k)
	}
	kq.reg.Unlock()
	kq.Sel.Notify()
}

// Len is the number of knotes.
func (kq *Kqueue) Len() int {
	kq.mu.Lock()
	defer kq.mu.Unlock()
	return len(kq.notes)
}

// Each calls fn for every knote's source, with no lock held.
func (kq *Kqueue) Each(fn func(Source)) {
	kq.mu.Lock()
	src := make([]Source, 0, len(kq.notes))
	for _, k := range kq.notes {
		src = append(src, k.src)
	}
	kq.mu.Unlock()
	for _, s := range src {
		fn(s)
	}
}

// Wait fetches at most len(evs) events, waiting up to timeout for the first:
// 0 does not wait, a negative one waits until ctx ends (EINTR, ETIMEDOUT). EBADF
// once the kqueue is closed.
func (kq *Kqueue) Wait(ctx context.Context, evs []abi.Kevent, timeout time.Duration) (int, error) {
	n, err := kq.fetch(ctx, evs)
	if n > 0 || err != nil || timeout == 0 || len(evs) == 0 {
		return n, err
	}
	w := NewWaiter()
	kq.Sel.Record(w)
	defer kq.Sel.Remove(w)
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	for {
		if n, err := kq.fetch(ctx, evs); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-w.C():
		case <-expired:
			return 0, nil
		case <-ctx.Done():
			return 0, abi.ErrnoOf(ctx.Err())
		}
	}
}

// lockScan takes the token, unless ctx ends.
func (kq *Kqueue) lockScan(ctx context.Context) error {
	select {
	case <-kq.scan:
		return nil
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

func (kq *Kqueue) unlockScan() { kq.scan <- struct{}{} }

// Ready reports whether Wait would answer something at once, and how many
// knotes may have something.
func (kq *Kqueue) Ready(ctx context.Context) (n int) {
	if kq.lockScan(ctx) != nil {
		return 0
	}
	defer kq.unlockScan()
	kq.mu.Lock()
	q := append([]*Knote(nil), kq.queue...)
	kq.mu.Unlock()
	for _, k := range q {
		if kq.look(ctx, k, nil) {
			n++
		}
	}
	kq.compact()
	return n
}

// fetch takes what is there now.
func (kq *Kqueue) fetch(ctx context.Context, evs []abi.Kevent) (int, error) {
	if err := kq.lockScan(ctx); err != nil {
		return 0, err
	}
	defer kq.unlockScan()
	kq.mu.Lock()
	q, closed := append([]*Knote(nil), kq.queue...), kq.closed
	kq.mu.Unlock()
	if closed {
		return 0, abi.EBADF
	}
	n := 0
	var again []*Knote // level-triggered ones go to the end of the queue
	for _, k := range q {
		if n == len(evs) {
			break
		}
		if kq.look(ctx, k, &evs[n]) {
			again = append(again, k)
			n++
		}
	}
	kq.compact()
	kq.mu.Lock()
	for _, k := range again {
		if k.queued { // still there: behind the others, for justice
			for i, x := range kq.queue {
				if x == k {
					kq.queue = append(append(kq.queue[:i], kq.queue[i+1:]...), k)
					break
				}
			}
		}
	}
	kq.mu.Unlock()
	return n, nil
}

// look finds out whether k's event is there. If ev is not nil the event is
// taken: what then is left to look at stays in the queue. Preconditions: the
// scan token.
func (kq *Kqueue) look(ctx context.Context, k *Knote, ev *abi.Kevent) bool {
	kq.mu.Lock()
	if k.gone || k.off {
		k.queued = false
		kq.mu.Unlock()
		return false
	}
	edges, lowat := k.edges, int64(0)
	if k.sfflags&abi.NOTE_LOWAT != 0 {
		lowat = k.sdata
	}
	kq.mu.Unlock()
	p, poller := k.src.(Poller)
	var data int64
	var flags uint32
	ready := false
	if poller {
		data, flags, ready = p.PollKnote(ctx, k, lowat)
	}
	kq.mu.Lock()
	if k.gone || k.off {
		k.queued = false
		kq.mu.Unlock()
		return false
	}
	if !poller {
		ready = k.active
	}
	if !ready {
		if k.edges == edges && ctx.Err() == nil {
			k.queued = false
		}
		kq.mu.Unlock()
		return false
	}
	if ev == nil {
		kq.mu.Unlock()
		return true
	}
	*ev = abi.Kevent{Ident: k.Ident, Filter: k.Filter, Flags: k.flags | flags, Fflags: k.fflags, Data: k.data, Udata: k.udata}
	switch {
	case poller:
		ev.Data = data
	case k.Filter == abi.EVFILT_USER:
		ev.Fflags, ev.Data = k.sfflags, k.sdata
	}
	once := k.flags&abi.EV_ONESHOT != 0
	switch {
	case k.flags&abi.EV_DISPATCH != 0:
		k.off, k.queued = true, false
		fallthrough
	case k.flags&abi.EV_CLEAR != 0:
		if k.flags&abi.EV_CLEAR != 0 {
			k.fflags, k.data, k.active = 0, 0, false
		}
		if k.edges == edges || !poller {
			k.queued = false
		}
	}
	if once {
		k.queued = false
	}
	kq.mu.Unlock()
	if once {
		kq.reg.Lock()
		kq.detach(k)
		kq.reg.Unlock()
	}
	return true
}

// compact takes those out of the queue that are no longer in it.
func (kq *Kqueue) compact() {
	kq.mu.Lock()
	keep := kq.queue[:0]
	for _, k := range kq.queue {
		if k.queued && !k.gone {
			keep = append(keep, k)
		} else {
			k.inq = false
		}
	}
	clear(kq.queue[len(keep):])
	kq.queue = keep
	kq.mu.Unlock()
}
