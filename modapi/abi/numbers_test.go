package abi

import (
	"strings"
	"testing"
)

// Numbers that programs are compiled with, from the headers of NetBSD 10.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"O_CREAT", O_CREAT, 0x200}, {"O_TRUNC", O_TRUNC, 0x400}, {"O_EXCL", O_EXCL, 0x800},
		{"O_NONBLOCK", O_NONBLOCK, 4}, {"O_APPEND", O_APPEND, 8}, {"O_SYNC", O_SYNC, 0x80},
		{"O_DIRECTORY", O_DIRECTORY, 0x200000}, {"O_CLOEXEC", O_CLOEXEC, 0x400000},
		{"F_DUPFD_CLOEXEC", F_DUPFD_CLOEXEC, 12}, {"F_GETLK", F_GETLK, 7}, {"F_WRLCK", F_WRLCK, 3},
		{"AT_FDCWD", AT_FDCWD, -100}, {"AT_REMOVEDIR", AT_REMOVEDIR, 0x800},
		{"S_IFSOCK", S_IFSOCK, 0xc000}, {"S_ISUID", S_ISUID, 0x800},
		{"MNT_FORCE", MNT_FORCE, 0x80000}, {"MNT_UPDATE", MNT_UPDATE, 0x10000},
		{"MNT_OP_FLAGS", MNT_OP_FLAGS, 0x4d0000},
		{"RB_POWERDOWN", RB_POWERDOWN, 0x808},
		{"RLIMIT_NOFILE", RLIMIT_NOFILE, 8}, {"RLIM_INFINITY", RLIM_INFINITY, 0x7fffffffffffffff},
		{"UTIME_NOW", UTIME_NOW, 0x3fffffff}, {"UTIME_OMIT", UTIME_OMIT, 0x3ffffffe},
		{"AF_INET6", AF_INET6, 24}, {"AF_ROUTE", AF_ROUTE, 34}, {"SOL_SOCKET", SOL_SOCKET, 0xffff},
		{"SO_REUSEADDR", SO_REUSEADDR, 4}, {"SO_ERROR", SO_ERROR, 0x1007}, {"SO_RCVTIMEO", SO_RCVTIMEO, 0x100c},
		{"MSG_DONTWAIT", MSG_DONTWAIT, 0x80}, {"MSG_NOSIGNAL", MSG_NOSIGNAL, 0x400},
		{"IPV6_V6ONLY", IPV6_V6ONLY, 27}, {"TCP_KEEPIDLE", TCP_KEEPIDLE, 3}, {"IP_PKTINFO", IP_PKTINFO, 25},
		{"POLLNVAL", int64(POLLNVAL), 0x20}, {"POLLWRNORM", int64(POLLWRNORM), 4},
	} {
		if c.got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, c.got, c.want)
		}
	}
}

// Flags that are or'ed together must not share bits.
func TestFlagsAreBits(t *testing.T) {
	for name, set := range map[string][]int64{
		"open": {O_ACCMODE, O_NONBLOCK, O_APPEND, O_SHLOCK, O_EXLOCK, O_ASYNC, O_SYNC, O_NOFOLLOW, O_CREAT,
			O_TRUNC, O_EXCL, O_NOCTTY, O_DSYNC, O_RSYNC, O_ALT_IO, O_DIRECT, O_DIRECTORY, O_CLOEXEC, O_SEARCH,
			O_NOSIGPIPE, O_REGULAR, O_EXEC},
		"mount": {MNT_RDONLY, MNT_SYNCHRONOUS, MNT_NOEXEC, MNT_NOSUID, MNT_NODEV, MNT_UNION, MNT_ASYNC,
			MNT_NOCOREDUMP, MNT_RELATIME, MNT_IGNORE, MNT_DISCARD, MNT_EXTATTR, MNT_LOG, MNT_NOATIME,
			MNT_AUTOMOUNTED, MNT_SYMPERM, MNT_NODEVMTIME, MNT_SOFTDEP, MNT_LOCAL, MNT_QUOTA, MNT_ROOTFS,
			MNT_EXRDONLY, MNT_EXPORTED, MNT_DEFEXPORTED, MNT_EXPORTANON, MNT_EXKERB, MNT_EXNORESPORT,
			MNT_UPDATE, MNT_RELOAD, MNT_FORCE, MNT_GETARGS},
		"send": {MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_EOR, MSG_TRUNC, MSG_CTRUNC, MSG_WAITALL, MSG_DONTWAIT,
			MSG_BCAST, MSG_MCAST, MSG_NOSIGNAL, MSG_CMSG_CLOEXEC, MSG_NBIO, MSG_WAITFORONE},
		"at":     {AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_REMOVEDIR},
		"access": {int64(VEXEC), int64(VWRITE), int64(VREAD), int64(VADMIN), int64(VAPPEND)},
	} {
		var all int64
		for _, f := range set {
			if all&f != 0 {
				t.Errorf("%s: %#x is taken", name, all&f)
			}
			all |= f
		}
		if name == "open" && all != O_MASK {
			t.Errorf("O_MASK lacks %#x", all^O_MASK)
		}
	}
}

func TestFFlags(t *testing.T) {
	for _, c := range []struct{ o, f uint32 }{
		{O_RDONLY, FREAD},
		{O_WRONLY, FWRITE},
		{O_RDWR, FREAD | FWRITE},
		{O_RDWR | O_APPEND | O_CLOEXEC, FREAD | FWRITE | O_APPEND | O_CLOEXEC},
		{O_ACCMODE | O_CREAT, O_CREAT},
	} {
		if FFlags(c.o) != c.f || OFlags(c.f) != c.o {
			t.Errorf("%#x: %#x and back %#x", c.o, FFlags(c.o), OFlags(c.f))
		}
	}
}

func TestModeType(t *testing.T) {
	for v := VREG; v <= VFIFO; v++ {
		if got := ModeType(TypeMode(v) | 0o7777); got != v {
			t.Errorf("%v becomes %v", v, got)
		}
	}
	for mode, want := range map[uint32]VType{0: VNON, S_IFWHT: VNON, S_IFMT: VBAD, 0o644: VNON} {
		if got := ModeType(mode); got != want {
			t.Errorf("ModeType(%o) = %v, want %v", mode, got, want)
		}
	}
	if TypeMode(VNON) != 0 || TypeMode(200) != 0 {
		t.Error("a type that is none has type bits")
	}
}

// The table cannot hold two names of one number; it could hold one name twice.
func TestSyscallTable(t *testing.T) {
	seen := map[string]int{}
	own := 0
	for num, name := range syscallTab {
		if name == "" {
			continue
		}
		if old, dup := seen[name]; dup {
			t.Errorf("%s is %d and %d", name, old, num)
		}
		seen[name] = num
		if num >= SYS_MINOWN {
			own++
			if num > SYS_MAXOWN {
				t.Errorf("%s = %d lies where modules' calls are", name, num)
			}
		}
		if got, ok := SyscallByName(name); !ok || got != num || SyscallName(num) != name {
			t.Errorf("%d: %q, back %d, %v", num, SyscallName(num), got, ok)
		}
	}
	if own < 14 || len(seen) < 300 {
		t.Errorf("%d names, %d of them our own", len(seen), own)
	}
}

func TestSyscallNumbers(t *testing.T) {
	for name, num := range map[string]int{
		"exit": 1, "fork": 2, "read": 3, "open": 5, "link": 9, "chdir": 12, "modctl": 246, "mount": 410,
		"reboot": 208, "poll": 209, "__sysctl": 202, "__clone": 287, "getdents": 390, "socket": 394,
		"clock_gettime": 427, "kevent": 435, "pollts": 437, "stat": 439, "fstat": 440, "lstat": 441,
		"mknod": 450, "pipe2": 453, "dup3": 454, "paccept": 456, "utimensat": 467, "openat": 468,
		"posix_fallocate": 479, "statvfs1": 484, "renameat2": 512, "copy_file_range": 513, "syncfs": 514,
		"sysctlbyname": 515, "mountx": 516, "modstat": 517, "msgbuf": 518, "ifstat": 519, "events": 520, "lwproc_rfork": 521, "lwproc_attach": 522, "procstat": 523, "filestat": 524,
	} {
		if got, ok := SyscallByName(name); !ok || got != num {
			t.Errorf("%s = %d, %v, want %d", name, got, ok, num)
		}
	}
	for _, num := range []int{-1, 8, 511, SYS_NSYSENT - 1, SYS_NSYSENT, 999, 1 << 40} {
		if got := SyscallName(num); !strings.HasPrefix(got, "syscall ") {
			t.Errorf("SyscallName(%d) = %q", num, got)
		}
	}
	if got := SyscallName(999); got != "syscall 999" {
		t.Errorf("SyscallName(999) = %q", got)
	}
	if n, ok := SyscallByName(""); ok {
		t.Errorf("no name is %d", n)
	}
}

// The written numbers are what the helpers make of group, number and length.
func TestIoctl(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint32
	}{
		{"FIOCLEX", IO('f', 1), FIOCLEX}, {"FIONCLEX", IO('f', 2), FIONCLEX},
		{"FIONREAD", IOR('f', 127, 4), FIONREAD}, {"FIONBIO", IOW('f', 126, 4), FIONBIO},
		{"FIOASYNC", IOW('f', 125, 4), FIOASYNC}, {"FIOSETOWN", IOW('f', 124, 4), FIOSETOWN},
		{"FIOGETOWN", IOR('f', 123, 4), FIOGETOWN}, {"FIONWRITE", IOR('f', 121, 4), FIONWRITE},
		{"FIONSPACE", IOR('f', 120, 4), FIONSPACE},
		{"TIOCGETA", IOR('t', 19, TermiosSize), TIOCGETA}, {"TIOCSETA", IOW('t', 20, TermiosSize), TIOCSETA},
		{"TIOCSETAW", IOW('t', 21, TermiosSize), TIOCSETAW}, {"TIOCSETAF", IOW('t', 22, TermiosSize), TIOCSETAF},
		{"TIOCGWINSZ", IOR('t', 104, WinsizeSize), TIOCGWINSZ}, {"TIOCSWINSZ", IOW('t', 103, WinsizeSize), TIOCSWINSZ},
		{"TIOCGPGRP", IOR('t', 119, 4), TIOCGPGRP}, {"TIOCSPGRP", IOW('t', 118, 4), TIOCSPGRP},
		{"TIOCOUTQ", IOR('t', 115, 4), TIOCOUTQ}, {"TIOCSCTTY", IO('t', 97), TIOCSCTTY},
		{"TIOCNOTTY", IO('t', 113), TIOCNOTTY}, {"TIOCGSID", IOR('t', 99, 4), TIOCGSID},
		{"SIOCATMARK", IOR('s', 7, 4), SIOCATMARK},
	} {
		if c.got != c.want {
			t.Errorf("%s = %#x, made %#x", c.name, c.want, c.got)
		}
	}
	cmd := IOWR('x', 200, 0x1234)
	if IOCParmLen(cmd) != 0x1234 || IOCGroup(cmd) != 'x' || IOCDir(cmd) != IOC_INOUT || byte(cmd) != 200 {
		t.Errorf("%#x: length %#x, group %c, direction %#x", cmd, IOCParmLen(cmd), IOCGroup(cmd), IOCDir(cmd))
	}
	if got := IOW('x', 1, 0x2000+4); got != IOW('x', 1, 4) {
		t.Errorf("a length too large spills: %#x", got)
	}
}
