package nbd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestGolden holds coded forms against bytes that were written by hand from the
// protocol document.
func TestGolden(t *testing.T) {
	put := func(n int, f func([]byte)) []byte {
		b := make([]byte, n)
		f(b)
		return b
	}
	ex := Export{Size: 0x100000, Flags: HasFlags | SendFlush}
	bs := BlockSize{1, 4096, 1 << 25}
	goReq := GoRequest{Name: "a", Infos: []Info{InfoBlockSize}}
	meta := MetaRequest{Name: "a", Queries: []string{"base:"}}
	req := Request{FlagFUA, CmdWrite, 0x1122334455667788, 0x1000, 512}
	sim := Simple{EIO, 7}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"greeting", AppendGreeting(nil, 3), "4e42444d41474943 49484156454f5054 0003"},
		{"option", AppendOption(nil, OptGo, []byte{1, 2}), "49484156454f5054 00000007 00000002 0102"},
		{"reply", AppendReply(nil, OptList, RepErrPolicy, nil), "0003e889045565a9 00000003 80000002 00000000"},
		{"go", goReq.Append(nil), "00000001 61 0001 0003"},
		{"meta", meta.Append(nil), "00000001 61 00000001 00000005 626173653a"},
		{"export", ex.Append(nil), "0000 0000000000100000 0005"},
		{"block size", bs.Append(nil), "0003 00000001 00001000 02000000"},
		{"server", AppendServer(nil, "a", "bc"), "00000001 61 6263"},
		{"context", AppendMetaContext(nil, 1, "x:y"), "00000001 783a79"},
		{"request", put(RequestSize, req.Put), "25609513 0001 0001 1122334455667788 0000000000001000 00000200"},
		{"simple", put(SimpleSize, sim.Put), "67446698 00000005 0000000000000007"},
		{"data chunk", put(ChunkSize+8, func(b []byte) { PutDataChunk(b, ChunkDone, 7, 0x200, 512) }), "668e33ef 0001 0001 0000000000000007 00000208 0000000000000200"},
		{"hole chunk", put(HoleChunkSize, func(b []byte) { PutHoleChunk(b, 0, 7, 0x200, 512) }), "668e33ef 0000 0002 0000000000000007 0000000c 0000000000000200 00000200"},
		{"error", AppendError(nil, ENOSPC, "no"), "0000001c 0002 6e6f"},
		{"block status", AppendBlockStatus(nil, 1, []Extent{{512, StateHole | StateZero}}), "00000001 00000200 00000003"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%s: %x, want %x", c.name, c.got, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	g := GoRequest{Name: "größe", Infos: []Info{0, 3, 77}}
	if got, err := ParseGoRequest(g.Append(nil)); err != nil || !reflect.DeepEqual(got, g) || !got.Wants(77) || got.Wants(1) {
		t.Errorf("go: %+v, %v", got, err)
	}
	m := MetaRequest{Name: "", Queries: []string{"base:allocation", "x-a:"}}
	if got, err := ParseMetaRequest(m.Append(nil)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("meta: %+v, %v", got, err)
	}
	e := Export{1 << 40, 0x1f}
	i, p, err := ParseInfo(e.Append(nil))
	if got, err2 := ParseExport(p); i != InfoExport || err != nil || err2 != nil || got != e {
		t.Errorf("export: %v %+v, %v, %v", i, got, err, err2)
	}
	s := BlockSize{512, 4096, 1 << 20}
	if got, err := ParseBlockSize(s.Append(nil)[2:]); err != nil || got != s {
		t.Errorf("block size: %+v, %v", got, err)
	}
	r := Request{3, CmdWriteZeroes, 9, 1 << 50, 1 << 31}
	var b [RequestSize]byte
	r.Put(b[:])
	if got, err := ParseRequest(b[:]); err != nil || got != r {
		t.Errorf("request: %+v, %v", got, err)
	}
	ext := []Extent{{1, 0}, {2, 3}}
	if id, got, err := ParseBlockStatus(AppendBlockStatus(nil, 5, ext)); id != 5 || err != nil || !reflect.DeepEqual(got, ext) {
		t.Errorf("status: %d %+v, %v", id, got, err)
	}
	if e, s, err := ParseError(AppendError(nil, EIO, strings.Repeat("x", 9999))); e != EIO || len(s) != MaxString || err != nil {
		t.Errorf("error: %v, %d bytes, %v", e, len(s), err)
	}
}

func TestRefusals(t *testing.T) {
	long := GoRequest{Name: strings.Repeat("n", MaxString+1)}
	nul := GoRequest{Name: "a\x00b"}
	utf := GoRequest{Name: "\xff"}
	many := MetaRequest{Queries: make([]string, MaxQueries+1)}
	chunk := func(t ChunkType, flags uint16, n uint32) []byte {
		b := make([]byte, ChunkSize)
		c := Chunk{flags, t, 1, n}
		c.Put(b)
		return b
	}
	for name, f := range map[string]func() error{
		"short greeting": func() error { _, err := ParseGreeting(make([]byte, 17)); return err },
		"no greeting":    func() error { _, err := ParseGreeting([]byte("HTTP/1.1 400 Bad Request")); return err },
		"oldstyle": func() error {
			_, err := ParseGreeting([]byte("NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53.."))
			return err
		},
		"option magic":     func() error { _, err := ParseOption(make([]byte, OptionSize)); return err },
		"reply magic":      func() error { _, err := ParseReply(make([]byte, ReplySize)); return err },
		"request magic":    func() error { _, err := ParseRequest(make([]byte, RequestSize)); return err },
		"head magic":       func() error { _, err := ParseHead(make([]byte, ChunkSize)); return err },
		"long name":        func() error { _, err := ParseGoRequest(long.Append(nil)); return err },
		"NUL in name":      func() error { _, err := ParseGoRequest(nul.Append(nil)); return err },
		"no UTF-8":         func() error { _, err := ParseGoRequest(utf.Append(nil)); return err },
		"lying name":       func() error { _, err := ParseGoRequest([]byte{0xff, 0xff, 0xff, 0xff, 0, 0}); return err },
		"lying infos":      func() error { _, err := ParseGoRequest([]byte{0, 0, 0, 0, 0, 9}); return err },
		"many queries":     func() error { _, err := ParseMetaRequest(many.Append(nil)); return err },
		"lying queries":    func() error { _, err := ParseMetaRequest([]byte{0, 0, 0, 0, 0, 0, 0, 1}); return err },
		"rest":             func() error { _, err := ParseMetaRequest([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1}); return err },
		"export length":    func() error { _, err := ParseExport(make([]byte, 9)); return err },
		"negative size":    func() error { _, err := ParseExport(bytes.Repeat([]byte{0xff}, 10)); return err },
		"no block size":    func() error { _, err := ParseBlockSize(make([]byte, 12)); return err },
		"short info":       func() error { _, _, err := ParseInfo([]byte{1}); return err },
		"short server":     func() error { _, _, err := ParseServer([]byte{0, 0, 0, 2, 'a'}); return err },
		"short context":    func() error { _, _, err := ParseMetaContext([]byte{0, 0}); return err },
		"none not done":    func() error { _, err := ParseHead(chunk(ChunkNone, 0, 0)); return err },
		"none with data":   func() error { _, err := ParseHead(chunk(ChunkNone, 1, 1)); return err },
		"empty data":       func() error { _, err := ParseHead(chunk(ChunkOffsetData, 1, 8)); return err },
		"giant data":       func() error { _, err := ParseHead(chunk(ChunkOffsetData, 1, 1<<31)); return err },
		"odd status":       func() error { _, err := ParseHead(chunk(ChunkBlockStatus, 1, 13)); return err },
		"giant error":      func() error { _, err := ParseHead(chunk(ChunkError, 1, 1<<20)); return err },
		"unknown chunk":    func() error { _, err := ParseHead(chunk(99, 1, 0)); return err },
		"lying error text": func() error { _, _, err := ParseError([]byte{0, 0, 0, 5, 0, 9, 'x'}); return err },
		"empty extent":     func() error { _, _, err := ParseBlockStatus(make([]byte, 12)); return err },
		"empty hole":       func() error { _, _, err := ParseHole(make([]byte, 12)); return err },
	} {
		if err := f(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An unknown error chunk is an error, but not a violation.
	if h, err := ParseHead(chunk(1<<15+99, 1, 6)); err != nil || !h.Chunk.Type.IsErr() {
		t.Errorf("unknown error chunk: %+v, %v", h, err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		wire Error
		back abi.Errno
	}{
		{nil, 0, 0}, {abi.EROFS, EPERM, abi.EROFS}, {abi.ENOSPC, ENOSPC, abi.ENOSPC}, {abi.EDQUOT, ENOSPC, abi.ENOSPC},
		{abi.EINVAL, EINVAL, abi.EINVAL}, {abi.EOPNOTSUPP, ENOTSUP, abi.EOPNOTSUPP}, {abi.ENXIO, EIO, abi.EIO}, {errors.New("x"), EIO, abi.EIO},
		{abi.EOVERFLOW, EOVERFLOW, abi.EOVERFLOW}, {abi.ENOMEM, ENOMEM, abi.ENOMEM},
	} {
		if w := ErrorOf(c.err); w != c.wire || w.Errno() != c.back {
			t.Errorf("%v: %v, %v", c.err, w, w.Errno())
		}
	}
	if e := Error(4711); e.Errno() != abi.EINVAL {
		t.Errorf("unknown error: %v", e.Errno())
	}
}

// FuzzParse: no decoder panics, and what one takes comes out the same again.
func FuzzParse(f *testing.F) {
	g := GoRequest{Name: "a", Infos: []Info{3}}
	m := MetaRequest{Name: "a", Queries: []string{"base:allocation"}}
	f.Add(g.Append(nil))
	f.Add(m.Append(nil))
	f.Add(AppendGreeting(nil, 3))
	f.Add(AppendOption(nil, OptGo, nil))
	f.Add(AppendReply(nil, OptGo, RepAck, nil))
	f.Add(AppendServer(nil, "a", "b"))
	f.Add(AppendError(nil, EIO, "text"))
	f.Add(AppendBlockStatus(nil, 1, []Extent{{1, 1}}))
	b := make([]byte, 64)
	PutHoleChunk(b, 1, 2, 3, 4)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseGreeting(b)
		ParseOption(b)
		ParseReply(b)
		ParseExport(b)
		ParseBlockSize(b)
		ParseHole(b)
		ParseServer(b)
		ParseMetaContext(b)
		if i, p, err := ParseInfo(b); err == nil && len(p) != len(b)-2 {
			t.Errorf("info %v: %d of %d bytes", i, len(p), len(b))
		}
		if g, err := ParseGoRequest(b); err == nil && !bytes.Equal(g.Append(nil), b) {
			t.Errorf("go %+v from %x", g, b)
		}
		if m, err := ParseMetaRequest(b); err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("meta %+v from %x", m, b)
		}
		if id, e, err := ParseBlockStatus(b); err == nil && !bytes.Equal(AppendBlockStatus(nil, id, e), b) {
			t.Errorf("status %+v from %x", e, b)
		}
		if e, s, err := ParseError(b); err == nil && (e == 0 || len(s) > len(b)) {
			t.Errorf("error %v %q from %x", e, s, b)
		}
		if r, err := ParseRequest(b); err == nil {
			var c [RequestSize]byte
			if r.Put(c[:]); !bytes.Equal(c[:], b[:RequestSize]) {
				t.Errorf("request %+v from %x", r, b)
			}
		}
		if h, err := ParseHead(b); err == nil && h.Structured {
			var c [ChunkSize]byte
			if h.Chunk.Put(c[:]); !bytes.Equal(c[:], b[:ChunkSize]) {
				t.Errorf("chunk %+v from %x", h, b)
			}
		}
	})
}
