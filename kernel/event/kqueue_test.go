package event

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// level is a Poller: there while n is above 0.
type level struct {
	sel      Selinfo
	n        atomic.Int64
	hook     *Waiter
	detached atomic.Int32
}

func (l *level) Attach(k *Knote) error { l.hook = NewHook(k.Wake); l.sel.Record(l.hook); return nil }
func (l *level) Detach(*Knote)         { l.sel.Remove(l.hook); l.detached.Add(1) }

func (l *level) PollKnote(context.Context, *Knote, int64) (int64, uint32, bool) {
	n := l.n.Load()
	return n, 0, n > 0
}

// noted is a Source with a Klist.
type noted struct{ list Klist }

func (s *noted) Attach(k *Knote) error { s.list.Insert(k); return nil }
func (s *noted) Detach(k *Knote)       { s.list.Remove(k) }

func source(s Source) func() (Source, error) { return func() (Source, error) { return s, nil } }

func now(t *testing.T, kq *Kqueue) []abi.Kevent {
	t.Helper()
	evs := make([]abi.Kevent, 10)
	n, err := kq.Wait(context.Background(), evs, 0)
	if err != nil {
		t.Fatal(err)
	}
	return evs[:n]
}

func TestRegisterErrors(t *testing.T) {
	kq := NewKqueue()
	ev := &abi.Kevent{Ident: 1, Flags: abi.EV_ADD}
	bad := errors.New("bad")
	if err := kq.Register(nil, ev, func() (Source, error) { return nil, bad }); err != bad {
		t.Errorf("a source that is none: %v", err)
	}
	if err := kq.Register(nil, &abi.Kevent{Ident: 1, Flags: abi.EV_DELETE}, nil); err != abi.ENOENT {
		t.Errorf("deleting nothing: %v", err)
	}
	for i := range MaxKnotes {
		if err := kq.Register(nil, &abi.Kevent{Ident: uint64(i), Flags: abi.EV_ADD}, source(new(noted))); err != nil {
			t.Fatal(err)
		}
	}
	if err := kq.Register(nil, &abi.Kevent{Ident: 1 << 40, Flags: abi.EV_ADD}, source(new(noted))); err != abi.ENOMEM {
		t.Errorf("one too many: %v", err)
	}
	if kq.Len() != MaxKnotes {
		t.Errorf("%d knotes", kq.Len())
	}
	kq.Close()
	if err := kq.Register(nil, ev, source(new(noted))); err != abi.EBADF {
		t.Errorf("after the close: %v", err)
	}
	if _, err := kq.Wait(context.Background(), make([]abi.Kevent, 1), -1); err != abi.EBADF {
		t.Errorf("waiting after the close: %v", err)
	}
}

// TestKqueueNotes: hints are collected if they were asked for, and reset by EV_CLEAR.
func TestKqueueNotes(t *testing.T) {
	kq := NewKqueue()
	var s noted
	kq.Register(nil, &abi.Kevent{Ident: 3, Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD | abi.EV_CLEAR, Fflags: 6, Udata: 9}, source(&s))
	s.list.Note(1)
	if evs := now(t, kq); len(evs) != 0 {
		t.Errorf("what nobody asked for: %v", evs)
	}
	s.list.Note(2)
	s.list.Note(4 | 1)
	if evs := now(t, kq); len(evs) != 1 || evs[0].Fflags != 6 || evs[0].Udata != 9 || evs[0].Ident != 3 {
		t.Errorf("%+v", evs)
	}
	if evs := now(t, kq); len(evs) != 0 {
		t.Errorf("twice: %v", evs)
	}
	// Without EV_CLEAR it stays.
	kq.Register(nil, &abi.Kevent{Ident: 3, Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD, Fflags: 6}, nil)
	s.list.Note(2)
	for range 3 {
		if evs := now(t, kq); len(evs) != 1 || evs[0].Fflags != 2 {
			t.Errorf("%+v", evs)
		}
	}
	kq.Drop(nil, 3, false)
	if s.list.n.Load() != 0 || kq.Len() != 0 {
		t.Error("a knote after Drop")
	}
	s.list.Note(2)
	if evs := now(t, kq); len(evs) != 0 {
		t.Errorf("after Drop: %v", evs)
	}
}

// TestJustice: with room for one event, level-triggered ones take turns.
func TestJustice(t *testing.T) {
	kq := NewKqueue()
	for i := range 3 {
		l := new(level)
		l.n.Store(1)
		kq.Register(nil, &abi.Kevent{Ident: uint64(i), Flags: abi.EV_ADD}, source(l))
	}
	var got []uint64
	for range 6 {
		ev := make([]abi.Kevent, 1)
		if n, _ := kq.Wait(context.Background(), ev, 0); n != 1 {
			t.Fatal("nothing")
		}
		got = append(got, ev[0].Ident)
	}
	for i, id := range got {
		if id != uint64(i%3) {
			t.Fatalf("order %v", got)
		}
	}
}

// TestCloseWakes: a close ends those who wait.
func TestCloseWakes(t *testing.T) {
	kq := NewKqueue()
	l := new(level)
	kq.Register(nil, &abi.Kevent{Flags: abi.EV_ADD}, source(l))
	done := make(chan error)
	go func() {
		_, err := kq.Wait(context.Background(), make([]abi.Kevent, 1), -1)
		done <- err
	}()
	for kq.Sel.Waiters() == 0 {
		runtime.Gosched()
	}
	kq.Close()
	if err := <-done; err != abi.EBADF {
		t.Error(err)
	}
	if l.detached.Load() != 1 {
		t.Error("its knotes are still attached")
	}
}

// TestKqueueNoLostEdge hands tokens through kqueues from many to many: every token
// that is there is found, whatever races, in level and in edge mode.
func TestKqueueNoLostEdge(t *testing.T) {
	for _, flags := range []uint32{0, abi.EV_CLEAR} {
		kq := NewKqueue()
		const sources, each, takers = 4, 500, 3
		ls := make([]*level, sources)
		for i := range ls {
			ls[i] = new(level)
			kq.Register(nil, &abi.Kevent{Ident: uint64(i), Flags: abi.EV_ADD | flags}, source(ls[i]))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		var taken atomic.Int64
		var wg, makers sync.WaitGroup
		all := make(chan struct{})
		for _, l := range ls {
			makers.Go(func() {
				for range each {
					l.n.Add(1)
					l.sel.Notify()
				}
			})
		}
		for range takers {
			wg.Go(func() {
				evs := make([]abi.Kevent, 2)
				for {
					n, err := kq.Wait(ctx, evs, -1)
					if err != nil {
						return
					}
					for _, e := range evs[:n] { // as one does on an edge: take all there is
						if taken.Add(ls[e.Ident].n.Swap(0)) == sources*each {
							close(all)
						}
					}
				}
			})
		}
		// Meanwhile others come and go.
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := uint64(100 + i%5)
				l := new(level)
				kq.Register(nil, &abi.Kevent{Ident: id, Flags: abi.EV_ADD | abi.EV_DISABLE}, source(l))
				kq.Ready(ctx)
				kq.Drop(nil, id, false)
			}
		})
		select {
		case <-all:
		case <-ctx.Done():
			t.Errorf("flags %x: %d of %d tokens found", flags, taken.Load(), sources*each)
		}
		makers.Wait()
		cancel()
		wg.Wait()
		kq.Close()
		for i, l := range ls {
			if l.detached.Load() != 1 {
				t.Errorf("source %d detached %d times", i, l.detached.Load())
			}
		}
	}
}
