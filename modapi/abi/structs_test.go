package abi

import (
	"reflect"
	"testing"
)

func TestStatRoundTrip(t *testing.T) {
	in := Stat{Vattr: Vattr{Type: VREG, Mode: 0o4755, Nlink: 2, Uid: 1, Gid: 3, Flags: 4, Rdev: Makedev(7, 300),
		Size: 1 << 40, Bytes: 4096, Blksize: 4096, Fileid: 99, Gen: 5, Atime: Timespec{-1, 5}, Mtime: Timespec{1 << 33, 999999999},
		Ctime: Timespec{3, 0}, Btime: Timespec{4, 1}}, Dev: 12}
	b := AppendStat(nil, &in)
	if len(b) != StatSize {
		t.Fatalf("%d bytes, want %d", len(b), StatSize)
	}
	var out Stat
	if err := ParseStat(b, &out); err != nil || out != in {
		t.Errorf("got %+v, %v, want %+v", out, err, in)
	}
	if err := ParseStat(b[:StatSize-1], &out); err != EINVAL {
		t.Errorf("short: %v", err)
	}
}

func FuzzParseStatvfs(f *testing.F) {
	in := Statvfs{Flag: 1, Bsize: 2, Frsize: 3, Blocks: 4, Bfree: 5, Bavail: 6, Files: 7, Ffree: 8, Namemax: 9, Fsid: 10, FSType: "tmpfs", From: "a", On: "/"}
	f.Add(AppendStatvfs(nil, &in))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, s2 Statvfs
		n, err := ParseStatvfs(b, &s)
		if err != nil {
			return
		}
		if len(s.FSType) > PATH_MAX || len(s.From) > PATH_MAX || len(s.On) > PATH_MAX {
			return
		}
		c := AppendStatvfs(nil, &s)
		if m, err := ParseStatvfs(c, &s2); err != nil || m != n || !reflect.DeepEqual(s, s2) {
			t.Errorf("round trip: %v %d %d", err, m, n)
		}
	})
}
