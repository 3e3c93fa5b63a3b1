package cli

import (
	"fmt"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestParseMode(t *testing.T) {
	for _, c := range []struct {
		text string
		old  uint32
		dir  bool
		want uint32
	}{
		{"644", 0o7777, false, 0o644},
		{"0", 0o777, false, 0},
		{"u+x", 0o644, false, 0o744},
		{"+x", 0o644, false, 0o755},
		{"a-w", 0o666, false, 0o444},
		{"go=", 0o777, false, 0o700},
		{"u=rw,g=r,o=", 0o777, false, 0o640},
		{"a+X", 0o644, false, 0o644},
		{"a+X", 0o744, false, 0o755},
		{"a+X", 0o644, true, 0o755},
		{"u+s", 0o755, false, 0o4755},
		{"g+s,o+t", 0o755, true, 0o3755},
		{"u-x+w", 0o500, false, 0o600},
		{"-x", 0o755, false, 0o644},
	} {
		f, err := parseMode(c.text)
		if err != nil {
			t.Errorf("parseMode(%q): %v", c.text, err)
		} else if got := f(c.old, c.dir); got != c.want {
			t.Errorf("%s of %04o = %04o, not %04o", c.text, c.old, got, c.want)
		}
	}
	for _, bad := range []string{"", "8", "10000", "77777777777777777777", "x", "u", "u+q", "z+r", "u+r,", "rw"} {
		if _, err := parseMode(bad); exitCode(err) != exitUsage {
			t.Errorf("parseMode(%q): %v", bad, err)
		}
	}
}

func FuzzParseMode(f *testing.F) {
	f.Add("u+x,go-w", uint32(0o644))
	f.Add("=", uint32(0))
	f.Fuzz(func(t *testing.T, s string, mode uint32) {
		change, err := parseMode(s)
		if err != nil {
			return
		}
		if m := change(mode&abi.ALLPERMS, false); m&^abi.ALLPERMS != 0 {
			t.Fatalf("%q of %o gives %o", s, mode, m)
		}
	})
}

func TestParseOwner(t *testing.T) {
	for _, c := range []struct {
		text     string
		uid, gid int
	}{{"0", 0, -1}, {"1000:", 1000, -1}, {":5", -1, 5}, {"1:2", 1, 2}} {
		uid, gid, err := parseOwner(c.text)
		if err != nil || uid != c.uid || gid != c.gid {
			t.Errorf("parseOwner(%q) = %d, %d, %v", c.text, uid, gid, err)
		}
	}
	for _, bad := range []string{"", ":", "root", "1:x", "-1", "4294967295", "1:2:3"} {
		if _, _, err := parseOwner(bad); err == nil {
			t.Errorf("parseOwner(%q) is taken", bad)
		}
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		texts []string
		flags uint64
		own   map[string]string
	}{
		{nil, 0, map[string]string{}},
		{[]string{"ro,nosuid"}, abi.MNT_RDONLY | abi.MNT_NOSUID, map[string]string{}},
		{[]string{"ro", "rw"}, 0, map[string]string{}},
		{[]string{"noexec,nodev"}, abi.MNT_NOEXEC | abi.MNT_NODEV, map[string]string{}},
		{[]string{"noexec,sync,exec,nosync"}, 0, map[string]string{}},
		{[]string{"size=10m,,acl", "mode=0755"}, 0, map[string]string{"size": "10m", "acl": "true", "mode": "0755"}},
		{[]string{"x=a=b,y="}, 0, map[string]string{"x": "a=b", "y": ""}},
	} {
		flags, own, err := mountOptions(0, c.texts)
		if err != nil || flags != c.flags || fmt.Sprint(own) != fmt.Sprint(c.own) {
			t.Errorf("mountOptions(%q) = %#x, %v, %v", c.texts, flags, own, err)
		}
	}
	for _, bad := range []string{"=x", "a\x00b"} {
		if _, _, err := mountOptions(0, []string{bad}); exitCode(err) != exitUsage {
			t.Errorf("mountOptions(%q): %v", bad, err)
		}
	}
}

func TestModuleProps(t *testing.T) {
	got, err := moduleProps([]string{"a=true", "b=off"}, []string{"c=0x10"}, []string{"d=", "e=x=y"})
	want := map[string]any{"a": true, "b": false, "c": int64(16), "d": "", "e": "x=y"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("moduleProps = %v, %v", got, err)
	}
}

func TestParseTime(t *testing.T) {
	ts, err := parseTime("2001-02-03T04:05:06.5Z")
	if err != nil || ts != (abi.Timespec{Sec: 981173106, Nsec: 5e8}) {
		t.Errorf("parseTime = %v, %v", ts, err)
	}
	if ts, err := parseTime("1901-01-01T00:00:00Z"); err != nil || ts.Sec >= 0 {
		t.Errorf("parseTime of long ago = %v, %v", ts, err)
	}
}

func TestNcAddrs(t *testing.T) {
	for _, c := range []struct {
		host string
		f    ncFlags
		want string
	}{
		{"127.0.0.1", ncFlags{}, "[127.0.0.1:80]"},
		{"::1", ncFlags{}, "[[::1]:80]"},
		{"fe80::1%2", ncFlags{}, "[[fe80::1%2]:80]"},
		{"localhost", ncFlags{}, "[127.0.0.1:80 [::1]:80]"},
		{"localhost", ncFlags{six: true}, "[[::1]:80]"},
		{"", ncFlags{listen: true}, "[[::]:80 0.0.0.0:80]"},
		{"", ncFlags{listen: true, four: true}, "[0.0.0.0:80]"},
	} {
		to, err := ncAddrs(c.host, 80, c.f)
		if err != nil || fmt.Sprint(to) != c.want {
			t.Errorf("ncAddrs(%q) = %v, %v", c.host, to, err)
		}
	}
}

// FuzzFindData: whatever a file system answers, a copy goes forward and stays in
// the file.
func FuzzFindData(f *testing.F) {
	f.Add(int64(0), int64(100), int64(10), int64(20), uint8(0))
	f.Add(int64(50), int64(100), int64(-1), int64(1000), uint8(3))
	f.Fuzz(func(t *testing.T, off, size, d, h int64, fail uint8) {
		if off < 0 || size <= off {
			return
		}
		start, end := findData(off, size, func(_ int64, whence int) (int64, error) {
			if whence == abi.SEEK_DATA {
				return d, errIf(fail&1 != 0)
			}
			return h, errIf(fail&2 != 0)
		}, abi.ENXIO)
		if start < off || start > size || end > size || start < size && end <= start {
			t.Fatalf("from %d of %d: data %d, hole %d gives %d to %d", off, size, d, h, start, end)
		}
	})
}

func errIf(b bool) error {
	if b {
		return abi.EINVAL
	}
	return nil
}
