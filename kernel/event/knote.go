package event

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Source is where a knote gets its events from (struct filterops). What is
// asked for stands in Knote.Ident and Knote.Filter.
type Source interface {
	// Attach begins: from now on the source calls Wake or Note of k. It may
	// fail, and nothing is attached then.
	Attach(k *Knote) error
	// Detach ends what Attach began, after which the source calls neither. It
	// is called once.
	Detach(k *Knote)
}

// Poller is a Source that can be asked whether the event is there now, which
// makes it level-triggered: READ and WRITE. A source that is none says what
// happened by Note.
type Poller interface {
	// PollKnote answers the data of the event, EV_EOF or 0, and whether the
	// event is there. lowat is what NOTE_LOWAT asked for, 0 if nothing.
	PollKnote(ctx context.Context, k *Knote, lowat int64) (data int64, flags uint32, ready bool)
}

// Toucher is a Source that wants to know of changes to a knote that is there
// already (f_touch): a timer that is set anew, a user event. It is called
// without the knote's lock.
type Toucher interface {
	Touch(k *Knote, ev *abi.Kevent) error
}

// Knote is one event that a kqueue watches for.
type Knote struct {
	Ident  uint64
	Filter uint32

	kq  *Kqueue
	src Source
	id  knoteID

	// The following are protected by kq.mu.
	flags   uint32 // EV_ONESHOT, EV_CLEAR, EV_DISPATCH, EV_EOF
	sfflags uint32 // what was asked for
	sdata   int64
	udata   uint64
	fflags  uint32 // what happened
	data    int64
	active  bool // by Note: something happened
	queued  bool // worth a look
	inq     bool // stands in kq.queue
	off     bool // EV_DISABLE
	gone    bool
	edges   uint64 // so far
}

// Wake says that the event may be there now.
func (k *Knote) Wake() {
	k.kq.mu.Lock()
	k.edges++
	woke := k.queueLocked()
	k.kq.mu.Unlock()
	if woke {
		k.kq.Sel.Notify()
	}
}

// Note says what happened: those of hint that were asked for are collected.
func (k *Knote) Note(hint uint32) {
	k.Update(func(n *Happened) {
		if hit := hint & n.Asked; hit != 0 {
			n.Fflags |= hit
			n.Active = true
		}
	})
}

// Happened is the state of a knote that its source may change in Update.
type Happened struct {
	Asked  uint32 // NOTE_* that were asked for
	Sdata  int64  // Data that was asked with
	Fflags uint32
	Data   int64
	Flags  uint32 // EV_EOF, EV_ONESHOT and EV_CLEAR can be added
	Active bool
}

// Update changes what has happened under the knote's lock.
func (k *Knote) Update(fn func(n *Happened)) {
	kq := k.kq
	kq.mu.Lock()
	h := Happened{k.sfflags, k.sdata, k.fflags, k.data, k.flags, k.active}
	fn(&h)
	k.sfflags, k.sdata, k.fflags, k.data, k.active = h.Asked, h.Sdata, h.Fflags, h.Data, h.Active
	k.flags |= h.Flags & (abi.EV_EOF | abi.EV_ONESHOT | abi.EV_CLEAR)
	woke := false
	if h.Active {
		k.edges++
		woke = k.queueLocked()
	}
	kq.mu.Unlock()
	if woke {
		kq.Sel.Notify()
	}
}

// queueLocked puts k into the queue of those worth a look, and reports whether
// somebody should be told.
func (k *Knote) queueLocked() bool {
	if k.gone || k.off {
		return false
	}
	k.queued = true
	if !k.inq {
		k.inq = true
		k.kq.queue = append(k.kq.queue, k)
	}
	return true
}

// Asked are the NOTE_* flags and the data that were asked for.
func (k *Knote) Asked() (fflags uint32, data int64) {
	k.kq.mu.Lock()
	defer k.kq.mu.Unlock()
	return k.sfflags, k.sdata
}

// Klist is the list of knotes on a thing that says what happens to it (struct
// klist): a vnode, a process. The zero value is ready. While nobody listens,
// Note costs one load.
type Klist struct {
	n     atomic.Int32
	mu    sync.Mutex
	notes map[*Knote]struct{}
}

// Insert adds a knote.
func (l *Klist) Insert(k *Knote) {
	l.mu.Lock()
	if l.notes == nil {
		l.notes = make(map[*Knote]struct{})
	}
	l.notes[k] = struct{}{}
	l.n.Store(int32(len(l.notes)))
	l.mu.Unlock()
}

// Remove takes it away.
func (l *Klist) Remove(k *Knote) {
	l.mu.Lock()
	delete(l.notes, k)
	l.n.Store(int32(len(l.notes)))
	l.mu.Unlock()
}

// Note tells every knote what happened (KNOTE). Pollers among them are woken.
func (l *Klist) Note(hint uint32) {
	if l.n.Load() == 0 {
		return
	}
	l.Each(func(k *Knote) {
		if _, ok := k.src.(Poller); ok && k.Filter != abi.EVFILT_VNODE {
			k.Wake()
			return
		}
		k.Note(hint)
	})
}

// Each calls fn for every knote with the list locked; fn must not wait.
func (l *Klist) Each(fn func(k *Knote)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.notes {
		fn(k)
	}
}
