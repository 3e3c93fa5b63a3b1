package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FuzzSyscallByHand compares the messages that are coded by hand with their
// description: the same bytes, the same values, the same verdict.
func FuzzSyscallByHand(f *testing.F) {
	req := SyscallReq{Num: -5, Lid: 3, A: [6]uint64{1, 1 << 63, 3, 4, 5, 6}, Path: [2]string{"/a/b", "c"}, Addr: []byte{1, 2, 3}}
	res := SyscallRes{R: [2]uint64{1, 1 << 63}, Addr: []byte{16, 2}}
	whole := req.Append(nil)
	for i := range whole {
		f.Add(whole[:i])
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x81
		f.Add(flipped)
	}
	ents := Dirents{{Fileid: 1, Cookie: 2, Type: abi.VREG, Name: "a"}, {Fileid: 1 << 63, Cookie: 1 << 62, Name: ""}, {Name: strings.Repeat("n", 255)}}
	list := ents.Append(nil)
	for _, n := range []int{1, DirentSize - 1, DirentSize, DirentSize + 1, 2*DirentSize + 1, len(list) - 1, len(list)} {
		f.Add(list[:n])
	}
	f.Add(whole)
	f.Add(append(whole, 0))
	f.Add(new(SyscallReq).Append(nil))
	f.Add(new(SyscallRes).Append(nil))
	f.Add(res.Append(nil))
	f.Add(res.Append(nil)[:17])
	f.Fuzz(func(t *testing.T, b []byte) {
		var q1, q2 SyscallReq
		c := coder{b: b, dec: true}
		q2.code(&c)
		compare(t, b, q1.Parse(b), c.end(), &q1, &q2)
		if c.err == nil {
			if !bytes.Equal(q1.Append([]byte("x"))[1:], b) {
				t.Errorf("coded again: %x, was %x", q1.Append(nil), b)
			}
		}
		var d1, d2 Dirents
		c = coder{b: b, dec: true}
		d2.code(&c)
		compare(t, b, d1.Parse(b), c.end(), &d1, &d2)
		if c.err == nil {
			d := coder{b: []byte("x")}
			d2.code(&d)
			if got := d1.Append([]byte("x")); !bytes.Equal(got, d.b) || !bytes.Equal(got[1:], b) {
				t.Errorf("coded again: %x, was %x", got, b)
			}
		}
		var s1, s2 SyscallRes
		c = coder{b: b, dec: true}
		s2.code(&c)
		compare(t, b, s1.Parse(b), c.end(), &s1, &s2)
		if c.err == nil {
			if !bytes.Equal(s1.Append([]byte("x"))[1:], b) {
				t.Errorf("coded again: %x, was %x", s1.Append(nil), b)
			}
		}
	})
}

func compare(t *testing.T, b []byte, got, want error, g, w any) {
	t.Helper()
	switch {
	case (got == nil) != (want == nil), got != nil && got.Error() != want.Error():
		t.Errorf("%T of %x: %v, its description says %v", g, b, got, want)
	case got == nil && !reflect.DeepEqual(g, w):
		t.Errorf("%T of %x: %+v, its description says %+v", g, b, g, w)
	}
}

func BenchmarkSyscall(b *testing.B) {
	q, s := SyscallReq{Num: 5, Path: [2]string{"/bench/d/f0"}}, SyscallRes{}
	var q2 SyscallReq
	var s2 SyscallRes
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = q.Append(buf[:0])
		if err := q2.Parse(buf); err != nil {
			b.Fatal(err)
		}
		buf = s.Append(buf[:0])
		if err := s2.Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}
