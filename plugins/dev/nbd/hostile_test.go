package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// script is a server by hand: it is run for each connection.
func script(t *testing.T, f func(nc net.Conn)) dialFunc {
	done := make(chan struct{}, 1000)
	n := 0
	t.Cleanup(func() {
		for range n {
			<-done
		}
	})
	return func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		n++ // the manager's alone, and before the cleanup
		go func() {
			defer func() { b.Close(); done <- struct{}{} }()
			f(b)
		}()
		return a, nil
	}
}

// negotiate is the part of a server that behaves, for an export of 1 MiB.
func negotiate(nc net.Conn, structured bool) bool {
	var b [64]byte
	nc.Write(proto.AppendGreeting(nil, proto.FlagFixedNewstyle|proto.FlagNoZeroes))
	if _, err := io.ReadFull(nc, b[:4]); err != nil {
		return false
	}
	for {
		if _, err := io.ReadFull(nc, b[:proto.OptionSize]); err != nil {
			return false
		}
		o, err := proto.ParseOption(b[:])
		if err != nil {
			return false
		}
		io.CopyN(io.Discard, nc, int64(o.Len))
		switch o.Opt {
		case proto.OptStructuredReply:
			r := proto.RepErrUnsup
			if structured {
				r = proto.RepAck
			}
			nc.Write(proto.AppendReply(nil, o.Opt, r, nil))
		case proto.OptGo:
			e := proto.Export{Size: 1 << 20, Flags: proto.HasFlags | proto.SendFlush}
			nc.Write(proto.AppendReply(proto.AppendReply(nil, o.Opt, proto.RepInfo, e.Append(nil)), o.Opt, proto.RepAck, nil))
			return true
		}
	}
}

// request takes one request.
func request(nc net.Conn) (q proto.Request, ok bool) {
	var b [proto.RequestSize]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return q, false
	}
	q, err := proto.ParseRequest(b[:])
	if q.Cmd == proto.CmdWrite {
		io.CopyN(io.Discard, nc, int64(q.Length))
	}
	return q, err == nil && q.Cmd != proto.CmdDisc
}

// TestLiars: whatever a server answers to a read of 4096 bytes, the read is EIO,
// soon, and memory beside it is left alone.
func TestLiars(t *testing.T) {
	chunk := func(flags uint16, typ proto.ChunkType, cookie uint64, n uint32, p ...byte) []byte {
		b := make([]byte, proto.ChunkSize)
		c := proto.Chunk{Flags: flags, Type: typ, Cookie: cookie, Len: n}
		c.Put(b)
		return append(b, p...)
	}
	data := func(flags uint16, cookie, off uint64, n int) []byte {
		b := make([]byte, proto.ChunkSize+proto.DataHeadSize+n)
		proto.PutDataChunk(b, flags, cookie, off, uint32(n))
		return b
	}
	hole := func(flags uint16, cookie, off uint64, n uint32) []byte {
		b := make([]byte, proto.HoleChunkSize)
		proto.PutHoleChunk(b, flags, cookie, off, n)
		return b
	}
	simple := func(e proto.Error, cookie uint64) []byte {
		b := make([]byte, proto.SimpleSize)
		s := proto.Simple{Err: e, Cookie: cookie}
		s.Put(b)
		return b
	}
	const done = proto.ChunkDone
	for _, c := range []struct {
		name   string
		sr     bool
		answer func(q proto.Request) []byte
	}{
		{"magic", true, func(q proto.Request) []byte { return make([]byte, 64) }},
		{"wrong cookie", true, func(q proto.Request) []byte { return data(done, q.Cookie+1, q.Offset, 4096) }},
		{"wrong slot", true, func(q proto.Request) []byte { return data(done, q.Cookie|0xffffffff, q.Offset, 4096) }},
		{"simple instead of structured", true, func(q proto.Request) []byte { return append(simple(0, q.Cookie), make([]byte, 4096)...) }},
		{"structured instead of simple", false, func(q proto.Request) []byte { return data(done, q.Cookie, q.Offset, 4096) }},
		{"too short", true, func(q proto.Request) []byte { return data(done, q.Cookie, q.Offset, 4095) }},
		{"too long", true, func(q proto.Request) []byte { return data(done, q.Cookie, q.Offset, 4097) }},
		{"before it", true, func(q proto.Request) []byte { return data(done, q.Cookie, q.Offset-1, 4096) }},
		{"behind it", true, func(q proto.Request) []byte { return data(done, q.Cookie, q.Offset+4096, 4096) }},
		{"far away", true, func(q proto.Request) []byte { return data(done, q.Cookie, 1<<63+5, 4096) }},
		{"twice the same", true, func(q proto.Request) []byte {
			return append(data(0, q.Cookie, q.Offset, 2048), data(done, q.Cookie, q.Offset, 2048)...)
		}},
		{"overlap", true, func(q proto.Request) []byte {
			return append(hole(0, q.Cookie, q.Offset+1024, 2048), data(done, q.Cookie, q.Offset, 2048)...)
		}},
		{"nothing", true, func(q proto.Request) []byte { return chunk(done, proto.ChunkNone, q.Cookie, 0) }},
		{"half", true, func(q proto.Request) []byte {
			return append(data(0, q.Cookie, q.Offset, 2048), chunk(done, proto.ChunkNone, q.Cookie, 0)...)
		}},
		{"giant hole", true, func(q proto.Request) []byte { return hole(done, q.Cookie, q.Offset, 1<<32-1) }},
		{"empty hole", true, func(q proto.Request) []byte { return hole(done, q.Cookie, q.Offset, 0) }},
		{"giant length", true, func(q proto.Request) []byte { return chunk(done, proto.ChunkOffsetData, q.Cookie, 1<<32-1) }},
		{"status unasked", true, func(q proto.Request) []byte {
			return chunk(done, proto.ChunkBlockStatus, q.Cookie, 12, make([]byte, 12)...)
		}},
		{"unknown chunk", true, func(q proto.Request) []byte { return chunk(done, 77, q.Cookie, 0) }},
		{"error that lies about its text", true, func(q proto.Request) []byte {
			return chunk(done, proto.ChunkError, q.Cookie, 6, 0, 0, 0, 5, 0xff, 0xff)
		}},
		{"hangs up", true, func(q proto.Request) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := open(t, unitOptions{timeout: time.Second}, script(t, func(nc net.Conn) {
				if !negotiate(nc, c.sr) {
					return
				}
				if q, ok := request(nc); ok {
					nc.Write(c.answer(q))
				}
			}))
			u.ready(t)
			mem := bytes.Repeat([]byte{0x5a}, 3*4096)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			b := devops.Buf{Blkno: 64, Bytes: 4096, Flags: devops.BRead, Data: abi.IovOf(mem[4096:8192:8192])}
			if err := u.strategy(ctx, &b); !errors.Is(err, abi.EIO) {
				t.Errorf("%v", err)
			}
			if !bytes.Equal(mem[:4096], bytes.Repeat([]byte{0x5a}, 4096)) || !bytes.Equal(mem[8192:], mem[:4096]) {
				t.Error("memory beside it was written to")
			}
			u.stop()
		})
	}
}

// TestAnswersTwice: the second answer to a request ends the connection, not more.
func TestAnswersTwice(t *testing.T) {
	first := true
	u := open(t, unitOptions{}, script(t, func(nc net.Conn) {
		if !negotiate(nc, false) {
			return
		}
		for {
			q, ok := request(nc)
			if !ok {
				return
			}
			b := make([]byte, proto.SimpleSize)
			s := proto.Simple{Cookie: q.Cookie}
			s.Put(b)
			nc.Write(b)
			if first {
				first = false
				nc.Write(b)
				return
			}
		}
	}))
	u.ready(t)
	for range 20 {
		if err := u.op(t.Context(), devops.BFlush, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, func() bool { return u.cnt.connects.Load() == 2 })
	u.stop()
}

// TestSilent: servers that stop talking, in the handshake or in the middle of an
// answer, are left; requests are EIO when their time is over.
func TestSilent(t *testing.T) {
	hold := func(nc net.Conn) { io.Copy(io.Discard, nc) }
	t.Run("greeting", func(t *testing.T) {
		u := open(t, unitOptions{timeout: 200 * time.Millisecond}, script(t, hold))
		wait(t, func() bool { return u.logged("timeout") })
		if _, err := u.geometry(); !errors.Is(err, abi.ENXIO) {
			t.Error(err)
		}
		u.stop()
	})
	for _, n := range []int{0, 10, 100} { // bytes of the answer
		u := open(t, unitOptions{timeout: 400 * time.Millisecond}, script(t, func(nc net.Conn) {
			if negotiate(nc, true) {
				if q, ok := request(nc); ok {
					b := make([]byte, proto.ChunkSize+proto.DataHeadSize+4096)
					proto.PutDataChunk(b, proto.ChunkDone, q.Cookie, q.Offset, 4096)
					nc.Write(b[:n])
				}
				hold(nc)
			}
		}))
		u.ready(t)
		if err := u.rw(t.Context(), devops.BRead, 0, make([]byte, 4096)); !errors.Is(err, abi.EIO) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		u.stop()
	}
}

// TestBadHandshakes: no device comes of them, and the log says why.
func TestBadHandshakes(t *testing.T) {
	greeting := proto.AppendGreeting(nil, proto.FlagFixedNewstyle|proto.FlagNoZeroes)
	goReply := func(size uint64, f proto.TxFlags, bs *proto.BlockSize) func(net.Conn) {
		return func(nc net.Conn) {
			nc.Write(greeting)
			var b [proto.OptionSize]byte
			io.ReadFull(nc, b[:4])
			io.ReadFull(nc, b[:])
			nc.Write(proto.AppendReply(nil, proto.OptStructuredReply, proto.RepAck, nil))
			io.ReadFull(nc, b[:])
			o, _ := proto.ParseOption(b[:])
			io.CopyN(io.Discard, nc, int64(o.Len))
			e := proto.Export{Size: size, Flags: f}
			out := proto.AppendReply(nil, proto.OptGo, proto.RepInfo, e.Append(nil))
			if bs != nil {
				out = proto.AppendReply(out, proto.OptGo, proto.RepInfo, bs.Append(nil))
			}
			nc.Write(proto.AppendReply(out, proto.OptGo, proto.RepAck, nil))
			io.Copy(io.Discard, nc)
		}
	}
	for _, c := range []struct {
		name string
		f    func(nc net.Conn)
		says string
	}{
		{"another protocol", func(nc net.Conn) { nc.Write([]byte("SSH-2.0-OpenSSH_9.9 hello\r\n")) }, "no NBD server"},
		{"oldstyle", func(nc net.Conn) {
			nc.Write(append([]byte("NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"), make([]byte, 136)...))
		}, "oldstyle"},
		{"giant reply", func(nc net.Conn) {
			nc.Write(greeting)
			var b [4 + proto.OptionSize]byte
			io.ReadFull(nc, b[:])
			r := proto.AppendReply(nil, proto.OptStructuredReply, proto.RepAck, nil)
			r[16] = 0xff
			nc.Write(r)
		}, "protocol violated"},
		{"replies for ever", func(nc net.Conn) {
			nc.Write(greeting)
			var b [4 + proto.OptionSize]byte
			io.ReadFull(nc, b[:])
			for {
				if _, err := nc.Write(proto.AppendReply(nil, proto.OptStructuredReply, proto.RepServer, nil)); err != nil {
					return
				}
			}
		}, "more than 64 replies"},
		{"no size", func(nc net.Conn) { goReply(0, 0, nil)(nc) }, "does not tell"},
		{"negative size", goReply(1<<63, 1, nil), "protocol violated"},
		{"block size 3", goReply(1<<20, 1, &proto.BlockSize{Min: 3, Preferred: 4, Max: 5}), "block sizes"},
		{"payload below a sector", goReply(1<<20, 1, &proto.BlockSize{Min: 1, Preferred: 1, Max: 100}), "payloads of at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := open(t, unitOptions{timeout: time.Second}, script(t, c.f))
			wait(t, func() bool { return u.logged(c.says) })
			if _, err := u.geometry(); !errors.Is(err, abi.ENXIO) {
				t.Error(err)
			}
			u.stop()
		})
	}
}

// FuzzServer: whatever a server says after a good handshake, nothing panics and
// requests end.
func FuzzServer(f *testing.F) {
	f.Add([]byte("no reply at all"), false)
	b := make([]byte, 64)
	proto.PutHoleChunk(b, proto.ChunkDone, 1<<32, 0, 4096)
	f.Add(b, true)
	proto.PutDataChunk(b, 0, 1<<32, 0, 16)
	f.Add(b[:44], true)
	s := proto.Simple{Cookie: 1 << 32}
	s.Put(b)
	f.Add(b, false)
	f.Fuzz(func(t *testing.T, say []byte, structured bool) {
		u := newUnit("nbd0", unitOptions{timeout: 100 * time.Millisecond}, script(t, func(nc net.Conn) {
			if negotiate(nc, structured) {
				request(nc)
				nc.Write(say)
			}
		}), &testLog{}, newTestCounters())
		u.start()
		defer u.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		u.up(ctx)
		p := make([]byte, 4096)
		if err := u.rw(ctx, devops.BRead, 0, p); errors.Is(err, context.DeadlineExceeded) {
			t.Error("it never ends")
		}
	})
}
