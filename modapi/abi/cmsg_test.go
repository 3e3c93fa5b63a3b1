package abi

import (
	"reflect"
	"testing"
)

func TestCmsg(t *testing.T) {
	cred := Sockcred{Pid: 7, Uid: 1, Euid: 2, Gid: 3, Egid: 4, Groups: []uint32{5, 6, 7}}
	b := AppendRights(nil, 3, -1, 5)
	b = AppendCmsg(b, SOL_SOCKET, SCM_CREDS, AppendSockcred(nil, &cred))
	if len(b) != CmsgSpace(12)+CmsgSpace(36) {
		t.Errorf("%d bytes", len(b))
	}
	for cut := range 5 { // the padding of the last may be missing
		ms, err := ParseCmsgs(b[:len(b)-cut])
		if err != nil || len(ms) != 2 {
			t.Fatalf("without %d: %v %v", cut, ms, err)
		}
		if fds, err := ms[0].Rights(); err != nil || !reflect.DeepEqual(fds, []int{3, -1, 5}) {
			t.Errorf("rights: %v %v", fds, err)
		}
		if _, err := ms[1].Rights(); err != EINVAL {
			t.Errorf("credentials are no rights: %v", err)
		}
		if c, err := ParseSockcred(ms[1].Data); err != nil || !reflect.DeepEqual(c, cred) {
			t.Errorf("%+v %v", c, err)
		}
	}
	for _, bad := range [][]byte{b[:3], b[:CmsgHdrLen], append(AppendCmsg(nil, 0, 0, nil), 1), AppendCmsg(nil, 0, 0, nil)[4:]} {
		if ms, err := ParseCmsgs(bad); err != EINVAL {
			t.Errorf("%x: %v %v", bad, ms, err)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 25), AppendSockcred(nil, &cred)[:32]} {
		if c, err := ParseSockcred(bad); err != EINVAL {
			t.Errorf("%x: %v %v", bad, c, err)
		}
	}
}

func TestFlockLayout(t *testing.T) {
	f := Flock{Start: -1, Len: 1 << 40, Pid: 9, Type: F_WRLCK, Whence: SEEK_END}
	b := AppendFlock(nil, &f)
	if g, err := ParseFlock(b); len(b) != FlockSize || err != nil || g != f {
		t.Errorf("%+v %v", g, err)
	}
	if _, err := ParseFlock(b[1:]); err != EINVAL {
		t.Error(err)
	}
	u := Unpcbid{1, 2, 3}
	if g, err := ParseUnpcbid(AppendUnpcbid(nil, u)); err != nil || g != u {
		t.Errorf("%+v %v", g, err)
	}
	if _, err := ParseUnpcbid(make([]byte, UnpcbidSize-1)); err != EINVAL {
		t.Error(err)
	}
}

func FuzzParseCmsgs(f *testing.F) {
	f.Add(AppendRights(AppendCmsg(nil, 1, 2, []byte("x")), 4))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := ParseCmsgs(b)
		if err != nil {
			return
		}
		var again []byte
		for i := range ms {
			again = AppendCmsg(again, ms[i].Level, ms[i].Type, ms[i].Data)
			ms[i].Rights()
			ParseSockcred(ms[i].Data)
		}
		ms2, err := ParseCmsgs(again)
		if err != nil || len(ms2) != len(ms) {
			t.Fatalf("%x: %v", again, err)
		}
	})
}
