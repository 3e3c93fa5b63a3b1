package fuse

import (
	"errors"
	"math"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestAllowsOther(t *testing.T) {
	for conf, want := range map[string]bool{
		"": false, "user_allow_other": true, "# user_allow_other\n": false, "#user_allow_other\n user_allow_other \n": true,
		"user_allow_others\n": false, "mount_max = 5\nuser_allow_other\n": true,
	} {
		if got := allowsOther([]byte(conf)); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
	if got := reason([]byte(" fusermount3: no \n"), errors.New("exit status 1")); got != "fusermount3: no" {
		t.Errorf("%q", got)
	}
	if got := reason(nil, errors.New("exit status 1")); got != "fusermount3: exit status 1" {
		t.Errorf("%q", got)
	}
	if got := unescape(`/a\040b\134c\011\012`); got != "/a b\\c\t\n" {
		t.Errorf("%q", got)
	}
}

func TestGroups(t *testing.T) {
	for text, want := range map[string]int{
		"Name:\tx\nGroups:\t0 5 77 \nNStgid:\t1\n": 3, "Name:\tx\n": 0, "Name:\tx\nGroups:\t\n": 0, "\nGroups:": 0, "\nGroups: x -1 7 99999999999": 1,
	} {
		if got := parseGroups([]byte(text)); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestIDs: in a user's host his ids and 0 change places, and nothing is lost.
func TestIDs(t *testing.T) {
	m := idmap{1000, 100}
	for out, in := range map[uint32]uint32{1000: 0, 0: 1000, 5: 5, 100: 100} {
		if got := m.in(out, m.uid); got != in || m.out(in, m.uid) != out {
			t.Errorf("%d inside is %d, which is %d outside", out, got, m.out(in, m.uid))
		}
	}
	root := idmap{}
	if root.in(7, root.uid) != 7 || root.in(0, root.uid) != 0 {
		t.Error("root's ids are moved")
	}
}

func TestFlockRange(t *testing.T) {
	for _, c := range []struct {
		l    fuse.FileLock
		want abi.Flock
		err  abi.Errno
	}{
		{fuse.FileLock{Start: 3, End: 3, Typ: unix.F_WRLCK}, abi.Flock{Start: 3, Len: 1, Type: abi.F_WRLCK}, 0},
		{fuse.FileLock{Start: 3, End: math.MaxInt64, Typ: unix.F_RDLCK}, abi.Flock{Start: 3, Type: abi.F_RDLCK}, 0},
		{fuse.FileLock{Start: 3, End: math.MaxUint64, Typ: unix.F_RDLCK}, abi.Flock{Start: 3, Type: abi.F_RDLCK}, 0},
		{fuse.FileLock{Start: 4, End: 3, Typ: unix.F_RDLCK}, abi.Flock{}, abi.EINVAL},
		{fuse.FileLock{Start: math.MaxUint64, End: math.MaxUint64, Typ: unix.F_RDLCK}, abi.Flock{}, abi.EINVAL},
		{fuse.FileLock{End: 3, Typ: 9}, abi.Flock{}, abi.EINVAL},
	} {
		got, err := flock(&c.l)
		if abi.ErrnoOf(err) != c.err || err == nil && got != c.want {
			t.Errorf("%+v: %+v, %v", c.l, got, err)
		}
	}
}
