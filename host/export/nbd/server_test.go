package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

func TestHandshake(t *testing.T) {
	_, path := serve(t, Options{},
		Export{Name: "a", Description: "the first", Backend: newMem(1<<20, allOps)},
		Export{Name: "ro", Backend: newMem(1<<20, allOps), ReadOnly: true},
		Export{Name: "plain", Backend: &memDev{info: Info{Size: 1<<20 + 100, Block: 512}, b: make([]byte, 1<<20+100), used: make([]bool, 300)}})
	c := dialRaw(t, path)
	c.hello()
	r, l := c.option(proto.OptList, nil)
	names := ""
	for _, b := range l {
		n, d, err := proto.ParseServer(b)
		if err != nil {
			t.Fatal(err)
		}
		names += n + "(" + d + ")"
	}
	if r != proto.RepAck || names != "a(the first)plain()ro()" {
		t.Errorf("list: %v %s", r, names)
	}
	g := func(name string, i ...proto.Info) []byte {
		q := proto.GoRequest{Name: name, Infos: i}
		return q.Append(nil)
	}
	m := func(name string, q ...string) []byte {
		r := proto.MetaRequest{Name: name, Queries: q}
		return r.Append(nil)
	}
	for _, s := range []struct {
		name string
		opt  proto.Opt
		data []byte
		want proto.Rep
		n    int // replies before the last
	}{
		{"list with data", proto.OptList, []byte{1}, proto.RepErrInvalid, 0},
		{"TLS", proto.OptStartTLS, nil, proto.RepErrPolicy, 0},
		{"extended headers", proto.OptExtendedHeaders, nil, proto.RepErrUnsup, 0},
		{"unknown", 4711, []byte("data"), proto.RepErrUnsup, 0},
		{"unknown export", proto.OptInfo, g("b"), proto.RepErrUnknown, 0},
		{"rubbish", proto.OptInfo, []byte{1, 2}, proto.RepErrInvalid, 0},
		{"info", proto.OptInfo, g("a"), proto.RepAck, 1},
		{"all infos", proto.OptInfo, g("a", 0, 1, 2, 3, 99), proto.RepAck, 4},
		{"default export", proto.OptInfo, g("", proto.InfoName), proto.RepAck, 2},
		{"block size told unasked", proto.OptInfo, g("plain"), proto.RepAck, 2},
		{"meta too early", proto.OptSetMetaContext, m("a", proto.BaseAllocation), proto.RepErrInvalid, 0},
		{"structured with data", proto.OptStructuredReply, []byte{0}, proto.RepErrInvalid, 0},
		{"structured", proto.OptStructuredReply, nil, proto.RepAck, 0},
		{"meta list all", proto.OptListMetaContext, m("a"), proto.RepAck, 1},
		{"meta list base", proto.OptListMetaContext, m("a", "base:"), proto.RepAck, 1},
		{"meta set wildcard", proto.OptSetMetaContext, m("a", "base:"), proto.RepAck, 0},
		{"meta set none", proto.OptSetMetaContext, m("a"), proto.RepAck, 0},
		{"meta set other", proto.OptSetMetaContext, m("a", "x-q:y", "base:other"), proto.RepAck, 0},
		{"meta without colon", proto.OptSetMetaContext, m("a", "base"), proto.RepErrInvalid, 0},
		{"meta of unknown", proto.OptSetMetaContext, m("b", proto.BaseAllocation), proto.RepErrUnknown, 0},
		{"meta set", proto.OptSetMetaContext, m("a", "x-q:y", proto.BaseAllocation), proto.RepAck, 1},
		{"too large", 4711, make([]byte, proto.MaxOption+1), proto.RepErrTooBig, 0},
		{"still there", proto.OptInfo, g("ro"), proto.RepAck, 1},
		{"abort", proto.OptAbort, nil, proto.RepAck, 0},
	} {
		if r, l := c.option(s.opt, s.data); r != s.want || len(l) != s.n {
			t.Errorf("%s: %v and %d replies, want %v and %d", s.name, r, len(l), s.want, s.n)
		}
	}
	c.gone()

	for _, old := range []struct {
		flags byte
		n     int
	}{{3, 10}, {0, 134}} {
		c = dialRaw(t, path)
		c.read(proto.GreetingSize)
		c.write(0, 0, 0, old.flags)
		c.write(proto.AppendOption(nil, proto.OptExportName, []byte("plain"))...)
		e, err := proto.ParseExport(c.read(old.n)[:10])
		if err != nil || e.Size != 1<<20 || e.Flags&proto.SendDF != 0 {
			t.Errorf("export name: %+v, %v", e, err)
		}
		c.request(proto.Request{Cookie: 5, Length: 512}, nil)
		if e, k := c.simple(); e != 0 || k != 5 {
			t.Errorf("read: %v %d", e, k)
		}
		c.read(512)
		c.request(proto.Request{Cmd: proto.CmdDisc}, nil)
		c.gone()
	}
}

// TestRequests goes through what a request may be and may not.
func TestRequests(t *testing.T) {
	d := newMem(1<<20, allOps)
	_, path := serve(t, Options{}, Export{Name: "a", Backend: d}, Export{Name: "ro", Backend: d, ReadOnly: true},
		Export{Name: "bare", Backend: newMem(1<<20, 0)}, Export{Name: "sect", Backend: &memDev{info: Info{Size: 1 << 20, Block: 512, Ops: allOps}, b: d.b, used: d.used}})
	const max32 = 1<<32 - 1
	for _, s := range []struct {
		export string
		q      proto.Request
		want   proto.Error
	}{
		{"a", proto.Request{Cmd: proto.CmdFlush}, 0},
		{"a", proto.Request{Cmd: proto.CmdFlush, Length: 1}, proto.EINVAL},
		{"bare", proto.Request{Cmd: proto.CmdFlush}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdTrim, Length: 8192}, 0},
		{"a", proto.Request{Cmd: proto.CmdTrim, Flags: proto.FlagFUA, Length: 8192}, 0},
		{"bare", proto.Request{Cmd: proto.CmdTrim, Length: 8192}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdTrim, Offset: 1 << 20, Length: 1}, proto.EINVAL},
		{"ro", proto.Request{Cmd: proto.CmdTrim, Length: 8192}, proto.EPERM},
		{"ro", proto.Request{Cmd: proto.CmdWriteZeroes, Length: 8192}, proto.EPERM},
		{"a", proto.Request{Cmd: proto.CmdWriteZeroes, Length: 1 << 20, Flags: proto.FlagFastZero | proto.FlagNoHole | proto.FlagFUA}, 0},
		{"bare", proto.Request{Cmd: proto.CmdWriteZeroes, Length: 1 << 20, Flags: proto.FlagFastZero}, proto.ENOTSUP},
		{"bare", proto.Request{Cmd: proto.CmdWriteZeroes, Length: 1 << 20}, 0},
		{"bare", proto.Request{Cmd: proto.CmdWriteZeroes, Length: 512, Flags: proto.FlagFUA}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdWriteZeroes, Offset: 1 << 19, Length: max32}, proto.ENOSPC},
		{"a", proto.Request{Cmd: proto.CmdCache, Length: 4096}, 0},
		{"a", proto.Request{Cmd: proto.CmdRead, Offset: 1<<64 - 1, Length: 2}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdRead, Flags: proto.FlagNoHole, Length: 2}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdRead, Flags: 1 << 9, Length: 2}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdRead, Flags: proto.FlagDF, Length: 2}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdBlockStatus, Length: 2}, proto.EINVAL},
		{"a", proto.Request{Cmd: 99, Length: 2}, proto.EINVAL},
		{"sect", proto.Request{Cmd: proto.CmdRead, Offset: 1, Length: 512}, proto.EINVAL},
		{"sect", proto.Request{Cmd: proto.CmdTrim, Length: 100}, proto.EINVAL},
		{"a", proto.Request{Cmd: proto.CmdWrite, Offset: 1<<20 - 1, Length: 2}, proto.ENOSPC},
		{"ro", proto.Request{Cmd: proto.CmdWrite, Length: 100000}, proto.EPERM},
		{"a", proto.Request{Cmd: proto.CmdWrite}, 0},
		{"a", proto.Request{Cmd: proto.CmdWrite, Length: 3, Offset: 77, Flags: proto.FlagFUA}, 0},
	} {
		c := dialRaw(t, path)
		c.start(s.export, false)
		var data []byte
		if s.q.Cmd == proto.CmdWrite {
			data = make([]byte, s.q.Length)
		}
		s.q.Cookie = 0xc00c1e
		c.request(s.q, data)
		if e, k := c.simple(); e != s.want || k != s.q.Cookie {
			t.Errorf("%s %+v: %v (cookie %x), want %v", s.export, s.q, e, k, s.want)
		}
		// The stream is where it should be.
		c.request(proto.Request{Cmd: proto.CmdCache, Cookie: 1}, nil)
		if e, k := c.simple(); e != 0 || k != 1 {
			t.Errorf("after %s %+v: %v, cookie %x", s.export, s.q, e, k)
		}
		c.nc.Close()
	}
	if d.fuas.Load() != 2 { // zeroes and write; a trim with FUA is flushed
		t.Errorf("%d writes with FUA", d.fuas.Load())
	}
	if d.flushes.Load() != 2 {
		t.Errorf("%d flushes", d.flushes.Load())
	}
}

// TestStructured: reads in pieces, in one piece if so wanted; status; errors
// with text.
func TestStructured(t *testing.T) {
	d := newMem(1<<20, allOps)
	want := make([]byte, 1<<20)
	pattern(want[128<<10:192<<10], 0, 1)
	d.WriteAt(context.Background(), want[128<<10:192<<10], 128<<10, false)
	d.fail = func(cmd string, off int64, n int) error {
		if cmd == "read" && off >= 1<<19 {
			return fmt.Errorf("a secret of the backend: %w", abi.EIO)
		}
		return nil
	}
	_, path := serve(t, Options{}, Export{Backend: d})
	c := dialRaw(t, path)
	c.start("", true)

	got := bytes.Repeat([]byte{0xee}, 256<<10)
	c.request(proto.Request{Cookie: 1, Offset: 64 << 10, Length: 256 << 10}, nil)
	kinds := ""
	for {
		h, p := c.chunk()
		off := proto.ParseOffset(p) - 64<<10
		switch h.Type {
		case proto.ChunkOffsetData:
			kinds += "d"
			copy(got[off:], p[8:])
		case proto.ChunkOffsetHole:
			_, n, err := proto.ParseHole(p)
			if err != nil {
				t.Fatal(err)
			}
			kinds += "h"
			clear(got[off : off+uint64(n)])
		}
		if h.Done() {
			break
		}
	}
	if kinds != "hdh" || !bytes.Equal(got, want[64<<10:320<<10]) {
		t.Errorf("read in pieces %s, equal %v", kinds, bytes.Equal(got, want[64<<10:320<<10]))
	}

	c.request(proto.Request{Cookie: 2, Flags: proto.FlagDF, Offset: 64 << 10, Length: 256 << 10}, nil)
	if h, p := c.chunk(); h.Type != proto.ChunkOffsetData || !h.Done() || !bytes.Equal(p[8:], want[64<<10:320<<10]) {
		t.Errorf("read in one: %+v", h)
	}
	c.request(proto.Request{Cookie: 3, Cmd: proto.CmdBlockStatus, Length: 1 << 20}, nil)
	h, p := c.chunk()
	id, ext, err := proto.ParseBlockStatus(p)
	if id != metaID || err != nil || fmt.Sprint(ext) != "[{131072 3} {65536 0} {851968 3}]" || !h.Done() {
		t.Errorf("status: %d %v %v", id, ext, err)
	}
	c.request(proto.Request{Cookie: 3, Cmd: proto.CmdBlockStatus, Flags: proto.FlagReqOne, Offset: 4096, Length: 8192}, nil)
	_, p = c.chunk()
	if _, ext, err = proto.ParseBlockStatus(p); err != nil || fmt.Sprint(ext) != "[{8192 3}]" {
		t.Errorf("one status: %v %v", ext, err)
	}
	c.request(proto.Request{Cookie: 4, Offset: 1 << 19, Length: 4096}, nil)
	h, p = c.chunk()
	e, text, err := proto.ParseError(p)
	if !h.Done() || h.Cookie != 4 || e != proto.EIO || strings.Contains(text, "secret") || text == "" || err != nil {
		t.Errorf("error: %+v %v %q %v", h, e, text, err)
	}
	c.request(proto.Request{Cookie: 5, Length: proto.MaxPayload + 1}, nil)
	_, p = c.chunk()
	if e, _, _ := proto.ParseError(p); e != proto.EINVAL { // behind the end comes first
		t.Errorf("giant read: %v", e)
	}
	c.request(proto.Request{Cookie: 6}, nil)
	if h, _ := c.chunk(); h.Type != proto.ChunkNone {
		t.Errorf("empty read: %+v", h)
	}
}

// TestMany: hundreds of requests at once over a slow and over a prompt backend
// all come back, each to its cookie, and what was written is read.
func TestMany(t *testing.T) {
	for _, ops := range []Ops{allOps, allOps | OpPrompt} {
		t.Run(fmt.Sprint(ops), func(t *testing.T) {
			_, path := serve(t, Options{}, Export{Backend: newMem(4<<20, ops)})
			c := dialRaw(t, path)
			c.start("", false)
			const n = 512
			go func() {
				p := make([]byte, 8192)
				for i := range int64(n) {
					pattern(p, i*8192, 0)
					b := make([]byte, proto.RequestSize)
					q := proto.Request{Cmd: proto.CmdWrite, Cookie: uint64(i), Offset: uint64(i * 8192), Length: 8192}
					q.Put(b)
					c.nc.Write(append(b, p...))
				}
			}()
			seen := map[uint64]bool{}
			for range n {
				e, k := c.simple()
				if e != 0 || seen[k] {
					t.Fatalf("reply %v to %d", e, k)
				}
				seen[k] = true
			}
			go func() {
				var all []byte
				for i := range int64(n) {
					b := make([]byte, proto.RequestSize)
					q := proto.Request{Cookie: uint64(i), Offset: uint64(i * 8192), Length: 8192}
					q.Put(b)
					all = append(all, b...)
				}
				c.nc.Write(all)
			}()
			p, want := make([]byte, 8192), make([]byte, 8192)
			for range n {
				e, k := c.simple()
				if e != 0 || !seen[k] {
					t.Fatalf("reply %v to %d", e, k)
				}
				delete(seen, k)
				copy(p, c.read(8192))
				if pattern(want, int64(k)*8192, 0); !bytes.Equal(p, want) {
					t.Fatalf("request %d read something else", k)
				}
			}
		})
	}
}

// TestHostile: each attack ends its connection and no other, in bounded time.
func TestHostile(t *testing.T) {
	d := newMem(64<<20, allOps)
	s, path := serve(t, Options{Handshake: 300 * time.Millisecond, Stall: 300 * time.Millisecond, Memory: 4 << 20}, Export{Backend: d})
	good := dialRaw(t, path)
	good.start("", true)
	opt := func(o proto.Opt, n uint32) []byte {
		b := proto.AppendOption(nil, o, nil)
		binary.BigEndian.PutUint32(b[12:], n)
		return b
	}
	q := func(r proto.Request) []byte {
		b := make([]byte, proto.RequestSize)
		r.Put(b)
		return b
	}
	for _, a := range []struct {
		name  string
		hello int // 0 nothing, 1 greeting, 2 transmission
		bytes []byte
		flood bool // again and again, never reading
		allow bool // a hard end is not needed
	}{
		{name: "silence"},
		{name: "another protocol", bytes: []byte("GET / HTTP/1.1\r\n\r\n")},
		{name: "unknown client flags", bytes: []byte{0xff, 0, 0, 3}},
		{name: "half flags", bytes: []byte{0, 0}},
		{name: "silence after the greeting", hello: 1},
		{name: "option magic", hello: 1, bytes: make([]byte, 16)},
		{name: "giant option", hello: 1, bytes: opt(proto.OptInfo, 1<<32-1)},
		{name: "giant export name", hello: 1, bytes: opt(proto.OptExportName, 1<<31)},
		{name: "unknown export by name", hello: 1, bytes: proto.AppendOption(nil, proto.OptExportName, []byte("?"))},
		{name: "half option", hello: 1, bytes: opt(proto.OptGo, 100)},
		{name: "options for ever", hello: 1, bytes: opt(proto.OptList, 0), flood: true},
		{name: "request magic", hello: 2, bytes: make([]byte, 28)},
		{name: "half a request", hello: 2, bytes: q(proto.Request{})[:20]},
		{name: "giant write", hello: 2, bytes: q(proto.Request{Cmd: proto.CmdWrite, Length: 1<<32 - 1})},
		{name: "half a write", hello: 2, bytes: append(q(proto.Request{Cmd: proto.CmdWrite, Length: 100000}), 1, 2, 3)},
		{name: "half a wrong write", hello: 2, bytes: append(q(proto.Request{Cmd: proto.CmdWrite, Offset: 1 << 60, Length: 1 << 20}), 1, 2, 3)},
		{name: "reads never taken", hello: 2, bytes: q(proto.Request{Length: 1 << 20}), flood: true},
		{name: "large reads never taken", hello: 2, bytes: q(proto.Request{Length: 1 << 21}), flood: true},
		{name: "flushes never taken", hello: 2, bytes: q(proto.Request{Cmd: proto.CmdFlush}), flood: true},
		{name: "errors never taken", hello: 2, bytes: q(proto.Request{Cmd: 4711}), flood: true},
	} {
		t.Run(a.name, func(t *testing.T) {
			c := dialRaw(t, path)
			switch a.hello {
			case 1:
				c.hello()
			case 2:
				c.start("", true)
			}
			c.nc.Write(a.bytes)
			for a.flood {
				if _, err := c.nc.Write(a.bytes); err != nil {
					break
				}
			}
			c.gone()
			// The good one is served meanwhile and afterwards.
			good.request(proto.Request{Cookie: 9, Length: 4096}, nil)
			if h, p := good.chunk(); h.Cookie != 9 || len(p) != 8+4096 {
				t.Errorf("the good client got %+v", h)
			}
		})
	}
	wait(t, func() bool { return s.Conns() == 1 })
	if s.memory.free != s.memory.total {
		t.Errorf("%d of %d bytes free", s.memory.free, s.memory.total)
	}
}

// wait polls for something that happens soon.
func wait(t testing.TB, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it does not happen")
		}
	}
}

// TestStarved: others hold all shared memory and do not take their answers;
// small requests of a third are served all the same.
func TestStarved(t *testing.T) {
	d := newMem(8<<20, allOps)
	s, path := serve(t, Options{Memory: 2 << 20, Stall: time.Minute}, Export{Backend: d})
	for range 2 {
		c := dialRaw(t, path)
		c.start("", false)
		for range 8 {
			c.request(proto.Request{Length: 1 << 20}, nil)
		}
	}
	wait(t, func() bool { s.memory.mu.Lock(); defer s.memory.mu.Unlock(); return len(s.memory.queue) > 0 })
	c := dialRaw(t, path)
	c.start("", false)
	for range 100 {
		c.request(proto.Request{Length: 64 << 10}, nil)
		if e, _ := c.simple(); e != 0 {
			t.Fatal(e)
		}
		c.read(64 << 10)
	}
}

// TestEnd: Close answers what is in flight; Remove ends one export's clients;
// too many connections are refused.
func TestEnd(t *testing.T) {
	d := newMem(1<<20, allOps)
	d.gate = make(chan struct{})
	other := newMem(1<<20, allOps)
	s, path := serve(t, Options{MaxConns: 2}, Export{Name: "a", Backend: d}, Export{Name: "b", Backend: other})
	a, b := dialRaw(t, path), dialRaw(t, path)
	a.start("a", false)
	b.start("b", false)
	dialRaw(t, path).gone()
	if err := s.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	b.gone()
	if err := s.Remove(t.Context(), "b"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("removed twice: %v", err)
	}
	a.request(proto.Request{Cookie: 7, Length: 512}, nil)
	wait(t, func() bool { return s.cnt.requests.Load() == 1 })
	done := make(chan struct{})
	go func() { defer close(done); s.Close(context.Background()) }()
	close(d.gate)
	if e, k := a.simple(); e != 0 || k != 7 {
		t.Errorf("%v %d", e, k)
	}
	a.read(512)
	a.gone()
	<-done
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("somebody still listens")
	}

	// A backend that hangs: the context of Close bounds it.
	d2 := newMem(1<<20, allOps)
	d2.gate = make(chan struct{})
	s2, path2 := serve(t, Options{}, Export{Backend: d2})
	c := dialRaw(t, path2)
	c.start("", false)
	c.request(proto.Request{Length: 512}, nil)
	wait(t, func() bool { return s2.cnt.requests.Load() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s2.Close(ctx)
	c.gone()
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for addr, want := range map[string]abi.Errno{
		"unix:" + file: abi.EEXIST, "unix:": abi.EINVAL, "unix:" + strings.Repeat("x", 108): abi.EINVAL,
		"tcp:0.0.0.0:0": abi.EACCES, "tcp::0": abi.EACCES, "tcp:example.com:1": abi.EACCES, "tcp:1": abi.EINVAL, "quic:x": abi.EINVAL,
	} {
		l, err := Listen(addr, false)
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	path := filepath.Join(dir, "s")
	l, err := Listen("unix:"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := Listen("unix:"+path, false); !errors.Is(err, abi.EADDRINUSE) {
		t.Errorf("taken: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen("unix:"+path, false); err != nil {
		t.Errorf("a dead one's: %v", err)
	} else {
		l.Close()
	}
	if l, err = Listen("tcp:127.0.0.1:0", false); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
}

func TestAdd(t *testing.T) {
	s := NewServer(Options{})
	defer s.Close(t.Context())
	d := newMem(4096, 0)
	for _, c := range []struct {
		e    Export
		want error
	}{
		{Export{Name: "a", Backend: d}, nil},
		{Export{Name: "a", Backend: d}, abi.EEXIST},
		{Export{Name: "\xff", Backend: d}, abi.EINVAL},
		{Export{Name: "b", Backend: &memDev{info: Info{Block: 3}}}, abi.EINVAL},
		{Export{Name: "b", Backend: &memDev{info: Info{Size: -1}}}, abi.EINVAL},
		{Export{Name: "b", Backend: &memDev{info: Info{Preferred: 1 << 30}}}, abi.EINVAL},
	} {
		if err := s.Add(c.e); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
}
