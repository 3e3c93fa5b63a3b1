package abi

import (
	"bytes"
	"reflect"
	"testing"
)

// TestKeventLayout holds struct kevent of NetBSD 10, byte by byte.
func TestKeventLayout(t *testing.T) {
	e := Kevent{Ident: 0x0102, Filter: EVFILT_TIMER, Flags: EV_ADD | EV_ONESHOT, Fflags: NOTE_EXIT, Data: -2, Udata: 0xff}
	want := []byte{2, 1, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0,
		0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0}
	if got := AppendKevents(nil, []Kevent{e}); !bytes.Equal(got, want) || len(got) != KeventSize {
		t.Errorf("% x", got)
	}
	if got, err := ParseKevents(want); err != nil || len(got) != 1 || got[0] != e {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []struct {
		e    Kevent
		want string
	}{
		{Kevent{Ident: 4, Filter: EVFILT_VNODE, Fflags: NOTE_DELETE | NOTE_LINK}, "VNODE 4 DELETE|LINK"},
		{Kevent{Ident: 4, Flags: EV_ERROR, Data: int64(EBADF)}, "READ 4 EBADF"},
		{Kevent{Filter: 99, Data: 3, Flags: EV_EOF}, "99 0 data=3 EOF"},
	} {
		if got := s.e.String(); got != s.want {
			t.Errorf("%q, not %q", got, s.want)
		}
	}
}

func FuzzKevents(f *testing.F) {
	f.Add(AppendKevents(nil, []Kevent{{1, 2, 3, 4, 5, 6}, {}}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		evs, err := ParseKevents(b)
		if err != nil {
			return
		}
		again, err := ParseKevents(AppendKevents(nil, evs))
		if err != nil || !reflect.DeepEqual(again, evs) {
			t.Errorf("%v, %v", again, err)
		}
	})
}
