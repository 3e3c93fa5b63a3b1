//go:build linux

package ring

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestNotes: one-way frames go by the ring, in order, and what finds no room is
// not said to have been sent. Their slots come back.
func TestNotes(t *testing.T) {
	const senders, each = 4, 3000
	var got [senders]atomic.Uint32
	a, b := both(t, stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		if r.Header.Op != wire.OpReady {
			r.Reply(0, nil, nil)
			return
		}
		v := binary.LittleEndian.Uint32(r.Payload)
		if v == ^uint32(0) {
			return
		}
		if g := v % senders; got[g].Swap(v/senders) != v/senders-1 && v/senders != 0 {
			t.Errorf("%d of sender %d is out of order", v/senders, g)
		}
	}), stream.Options{})
	var full atomic.Int32
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 { // calls both ways meanwhile
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, e := range []*End{a, b} {
					k := newCall(wire.OpGetattr)
					if err := e.conn.Call(t.Context(), k); err != nil {
						t.Error(err)
						return
					}
					k.Release()
				}
			}
		})
	}
	var send sync.WaitGroup
	for g := range uint32(senders) {
		send.Go(func() {
			var p [4]byte
			for i := range uint32(each) {
				binary.LittleEndian.PutUint32(p[:], i*senders+g)
				for !b.conn.TrySend(wire.OpReady, 0, nil, abi.IovOf(p[:])) {
					full.Add(1)
					if b.conn.Err() != nil {
						return
					}
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
	send.Wait()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		n := 0
		for g := range got {
			if got[g].Load() == each-1 {
				n++
			}
		}
		if n == senders {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("lost: %v", &got)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("found no room %d times", full.Load())
	for !b.conn.TrySend(wire.OpReady, 0, nil, abi.IovOf([]byte{0xff, 0xff, 0xff, 0xff})) {
		time.Sleep(time.Millisecond)
	}
	if n := b.nnotes; n != 1 {
		t.Errorf("%d slots of notes, 1 sent", n)
	}
	if n := a.cnt.Notes.Load(); n < senders*each {
		t.Errorf("%d served by the ring", n)
	}
	allFree(t, a)
}

// TestNotesStuck: a peer that takes nothing keeps maxNotes slots, and nobody
// waits for it. Calls go on finding room.
func TestNotesStuck(t *testing.T) {
	if !Supported() {
		t.Skip("no futex_waitv")
	}
	e, m, nc := lone(t, nil, Options{})
	defer over(t, e, m, nc)
	n := 0
	for range 1000 {
		if e.conn.TrySend(wire.OpReady, 0, nil, nil) {
			n++
		}
	}
	if n != maxNotes {
		t.Errorf("%d sent, %d have room", n, maxNotes)
	}
	if e.conn.TrySend(wire.OpReady, 0, nil, abi.IovOf(make([]byte, inlineSize+1))) {
		t.Error("one that is too long was sent")
	}
	h := half{m, page}
	for i := range maxNotes { // it wakes up
		h.slot(i).Store(h.slot(i).Load()&^0xff | complete)
	}
	if !e.conn.TrySend(wire.OpReady, 0, nil, nil) {
		t.Error("no room is found again")
	}
	if n := e.nnotes; n != 1 {
		t.Errorf("%d in the ring", n)
	}
}

// TestNoteLies: one-way frames that break the rules end the connection.
func TestNoteLies(t *testing.T) {
	if !Supported() {
		t.Skip("no futex_waitv")
	}
	for name, h := range map[string]wire.Header{
		"cancel":        {Op: wire.OpCancel, Flags: wire.FlagOneway},
		"no flag":       {Op: wire.OpReady, ReqID: 1},
		"flag too many": {Op: wire.OpGetattr, Flags: wire.FlagOneway},
		"reply":         {Op: wire.OpReady, Flags: wire.FlagReply, ReqID: 1},
		"epoch":         {Op: wire.OpReady, Flags: wire.FlagOneway, Epoch: 1},
	} {
		served := false
		e, m, nc := lone(t, stream.HandlerFunc(func(context.Context, *stream.Request) { served = true }), Options{})
		v := newEvil(m, 1)
		h.Epoch += 7
		h.ArgsOff, h.PayloadOff = offArgs, offInline
		var b [wire.HeaderSize]byte
		h.Put(b[:])
		copy(v.up.header(0)[4:], b[4:])
		v.up.slot(0).Store(1<<genShift | submitted)
		v.up.entry(0).Store(1)
		wake(v.up)
		select {
		case <-e.conn.Done():
		case <-time.After(60 * time.Second):
			t.Fatalf("%s: not noticed", name)
		}
		var lie *stream.Lie
		if err := e.conn.Err(); !errors.As(err, &lie) {
			t.Errorf("%s: %v", name, err)
		}
		over(t, e, m, nc)
		if served {
			t.Errorf("%s: served", name)
		}
	}
}
