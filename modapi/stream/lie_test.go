package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// frame is a coded frame of epoch 1.
func frame(h wire.Header, args, payload string) []byte {
	h.Epoch = 1
	return wire.AppendFrame(nil, &h, []byte(args), []byte(payload))
}

// answer reads one request from nc and answers what f makes of it.
func answer(nc net.Conn, f func(h wire.Header) []byte) {
	b := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(nc, b); err != nil {
		return
	}
	var h wire.Header
	if h.Parse(b) != nil {
		return
	}
	io.CopyN(io.Discard, nc, int64(h.ArgsLen)+int64(h.PayloadLen))
	nc.Write(f(h))
}

// TestLies: every rule that a reply can break ends the connection, and the
// call with it.
func TestLies(t *testing.T) {
	reply := func(h wire.Header) wire.Header {
		return wire.Header{Op: h.Op, Flags: wire.FlagReply, ReqID: h.ReqID, Object: h.Object}
	}
	for what, f := range map[string]func(h wire.Header) []byte{
		"magic":   func(h wire.Header) []byte { b := frame(reply(h), "", ""); b[0]++; return b },
		"id":      func(h wire.Header) []byte { r := reply(h); r.ReqID++; return frame(r, "", "") },
		"op":      func(h wire.Header) []byte { r := reply(h); r.Op = wire.OpMkdir; return frame(r, "", "") },
		"object":  func(h wire.Header) []byte { r := reply(h); r.Object++; return frame(r, "", "") },
		"longer":  func(h wire.Header) []byte { return frame(reply(h), "", "123456789ab") },
		"errno":   func(h wire.Header) []byte { r := reply(h); r.Errno = 300; return frame(r, "", "") },
		"epoch":   func(h wire.Header) []byte { b := frame(reply(h), "", ""); b[16] = 9; return b },
		"length":  func(h wire.Header) []byte { b := frame(reply(h), "", ""); b[54] = 0xff; return b },
		"one-way": func(h wire.Header) []byte { return frame(wire.Header{Op: wire.OpReady, ReqID: 1}, "", "") },
		"no one-way": func(h wire.Header) []byte {
			return frame(wire.Header{Op: wire.OpMkdir, Flags: wire.FlagOneway}, "", "")
		},
		"unknown op, one-way": func(h wire.Header) []byte {
			return frame(wire.Header{Op: 0x7777, Flags: wire.FlagOneway}, "", "")
		},
	} {
		t.Run(what, func(t *testing.T) {
			x, y := pair(t)
			defer y.Close()
			a := start(t, x, nil, Options{Epoch: 1})
			go answer(y, f)
			k := call(wire.OpCreate)
			k.Header.Object = 5
			k.Scratch(10)
			err := a.Call(t.Context(), k)
			var lie *Lie
			if !errors.As(err, &lie) || abi.ErrnoOf(err) != abi.EIO {
				t.Errorf("%v", err)
			}
			if !errors.As(a.Err(), &lie) {
				t.Errorf("the connection: %v", a.Err())
			}
		})
	}
}

// TestAnsweredTwice: the second reply is a lie.
func TestAnsweredTwice(t *testing.T) {
	x, y := pair(t)
	defer y.Close()
	a := start(t, x, nil, Options{Epoch: 1})
	go answer(y, func(h wire.Header) []byte {
		b := frame(wire.Header{Op: h.Op, Flags: wire.FlagReply, ReqID: h.ReqID}, "", "")
		return append(b, b...)
	})
	if err := a.Call(t.Context(), call(wire.OpCreate)); err != nil {
		var lie *Lie // the lie may have been faster
		if !errors.As(err, &lie) {
			t.Error(err)
		}
	}
	<-a.Done()
	var lie *Lie
	if !errors.As(a.Err(), &lie) {
		t.Error(a.Err())
	}
}

// TestLyingRequests: ids used twice and too many requests at a time.
func TestLyingRequests(t *testing.T) {
	for what, ids := range map[string][]abi.ReqID{"twice": {1, 1}, "many": {1, 2, 3, 4}} {
		x, y := pair(t)
		b := newBlocker()
		a := start(t, x, b, Options{Epoch: 1, MaxRequests: 3})
		for _, id := range ids {
			y.Write(frame(wire.Header{Op: wire.OpMkdir, ReqID: id}, "", ""))
		}
		<-a.Done()
		var lie *Lie
		if !errors.As(a.Err(), &lie) {
			t.Errorf("%s: %v", what, a.Err())
		}
		close(b.leave)
		y.Close()
	}
}

// TestStalled: a frame that does not end.
func TestStalled(t *testing.T) {
	for what, n := range map[string]int{"header": 64, "args": 66, "payload": 70} {
		x, y := pair(t)
		a := start(t, x, echo, Options{Epoch: 1, FrameTimeout: 20 * time.Millisecond})
		y.Write(frame(wire.Header{Op: wire.OpMkdir, ReqID: 1}, "1234", "5678")[:n])
		<-a.Done()
		var hang *Hang
		if !errors.As(a.Err(), &hang) {
			t.Errorf("%s: %v", what, a.Err())
		}
		y.Close()
	}
}

// TestStalledReply: giving up a call whose reply is stuck halfway is bounded.
func TestStalledReply(t *testing.T) {
	x, y := pair(t)
	defer y.Close()
	a := start(t, x, nil, Options{Epoch: 1, FrameTimeout: 50 * time.Millisecond})
	go answer(y, func(h wire.Header) []byte {
		b := frame(wire.Header{Op: h.Op, Flags: wire.FlagReply, ReqID: h.ReqID}, "", "0123456789")
		return b[:len(b)-5]
	})
	k := call(wire.OpGetattr)
	k.Scratch(10)
	k.Timeout = 10 * time.Millisecond
	if err := a.Call(t.Context(), k); err == nil {
		t.Error("half a reply is taken for one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-a.Done():
	case <-ctx.Done():
		t.Error("the connection lives")
	}
}

// TestLateReplies: late replies are paid for by slots.
func TestLateReplies(t *testing.T) {
	b := newBlocker()
	a, _ := both(t, b, Options{MaxCalls: 4})
	for range 4 {
		k := call(wire.OpGetattr)
		k.Timeout = 5 * time.Millisecond
		if err := a.Call(t.Context(), k); !errors.Is(err, abi.ETIMEDOUT) {
			t.Fatal(err)
		}
		k.Release()
	}
	if n := len(a.slots); n != 4 {
		t.Errorf("%d slots taken, want 4", n)
	}
	close(b.leave)
	ping(t, a)
	if a.Err() != nil {
		t.Error(a.Err())
	}
}
