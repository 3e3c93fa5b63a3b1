package abi

import (
	"bytes"
	"slices"
	"testing"
)

func TestPollfdGolden(t *testing.T) {
	fds := []Pollfd{{3, POLLIN | POLLOUT, 0}, {-1, -1, POLLNVAL}, {0x01020304, POLLWRBAND, POLLHUP}}
	want := []byte{3, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255, 255, 255, 0x20, 0, 4, 3, 2, 1, 0, 1, 0x10, 0}
	if got := AppendPollfds(nil, fds); !bytes.Equal(got, want) {
		t.Errorf("coded %x, want %x", got, want)
	}
	if got, err := ParsePollfds(want); err != nil || !slices.Equal(got, fds) {
		t.Errorf("parsed %v, %v", got, err)
	}
	if got, err := ParsePollfds(nil); err != nil || len(got) != 0 {
		t.Errorf("nothing parsed to %v, %v", got, err)
	}
}

func TestPollEventsString(t *testing.T) {
	for e, want := range map[PollEvents]string{
		0: "0", POLLIN: "IN", POLLIN | POLLHUP: "IN|HUP", POLLRDBAND | POLLWRBAND: "RDBAND|WRBAND",
		POLLWRNORM: "OUT", -1 << 15: "?", POLLANSWER: "ERR|HUP|NVAL",
	} {
		if e.String() != want {
			t.Errorf("%#x = %q, want %q", uint16(e), e.String(), want)
		}
	}
}

func FuzzParsePollfds(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0, 5, 0, 0, 0})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		fds, err := ParsePollfds(b)
		if (err != nil) != (len(b)%PollfdSize != 0) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err == nil && !bytes.Equal(AppendPollfds(nil, fds), b) {
			t.Fatalf("%x changed on the way", b)
		}
	})
}
