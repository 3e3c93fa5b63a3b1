package posixtest

import (
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// oldTime is what old sets.
var oldTime = abi.Timespec{Sec: 1000000000, Nsec: 5}

// old sets the times of files far back, and waits until the clock that change
// times come from has moved on: Linux's goes by ticks.
func (p *P) old(paths ...string) {
	p.t.Helper()
	p.ctimes = map[string]abi.Timespec{}
	for _, f := range paths {
		p.check("utimensat", p.s.Utimensat(cwd, f, oldTime, oldTime, abi.AT_SYMLINK_NOFOLLOW), nil)
		p.ctimes[f] = p.lstat(f).Ctime
	}
	was := p.ctimes[paths[len(paths)-1]]
	name := p.dir + "/.tick"
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		fd := p.open(name, creat|rdwr, 0o600)
		st := p.fstat(fd)
		p.close(fd)
		p.unlink(name)
		if was.Before(st.Ctime) {
			return
		}
	}
	p.t.Fatal("the clock stands still")
}

// changed checks which times of a path have changed since old: letters of "amc",
// access, modification and change. "A" means that access may have or not.
func (p *P) changed(path, want string) {
	p.t.Helper()
	st := p.lstat(path)
	got := ""
	if st.Atime != oldTime && !strings.Contains(want, "A") {
		got += "a"
	}
	if st.Mtime != oldTime {
		got += "m"
	}
	if p.ctimes[path].Before(st.Ctime) {
		got += "c"
	}
	if want = strings.Replace(want, "A", "", 1); got != want {
		p.t.Fatalf("changed of %s: %q, want %q (ctime was %v; now %v %v %v)", path, got, want, p.ctimes[path], st.Atime, st.Mtime, st.Ctime)
	}
}

// timeCase does op in a directory with a file f, directories d and e, a file d/f,
// and a symbolic link l to f; want says which times of which paths change, "-"
// that the path is gone. Those of all others stay, but that a directory which is
// walked through may count as read.
func timeCase(name string, op func(p *P), want ...string) Case {
	return Case{Name: name, Run: func(p *P) {
		p.mkdir("w", 0o755)
		p.chdir("w")
		p.file("f", "data")
		p.mkdir("d", 0o755)
		p.file("d/f", "data")
		p.symlink("f", "l")
		p.mkdir("e", 0o755)
		all := []string{"f", "d/f", "l", "d", "e", "."}
		p.old(all...)
		op(p)
		for _, f := range all {
			w := ""
			if f == "d" || f == "." || f == "l" {
				w = "A"
			}
			for _, s := range want {
				if path, times, _ := strings.Cut(s, " "); path == f {
					w = times
				}
			}
			if w != "-" {
				p.changed(f, w)
			}
		}
	}}
}

var _ = group("times",
	timeCase("nothing", func(p *P) {}),
	timeCase("stat and access", func(p *P) { p.stat("f"); p.access("f", abi.R_OK); p.stat("l") }),
	timeCase("open and close", func(p *P) { p.close(p.open("f", rdwr, 0)) }),
	timeCase("read", func(p *P) { p.read(p.open("f", rdonly, 0), 4) }, "f a"),
	timeCase("write", func(p *P) { p.write(p.open("f", wronly, 0), "x") }, "f mc"),
	timeCase("write of nothing", func(p *P) { p.write(p.open("f", wronly, 0), "") }),
	timeCase("truncate", func(p *P) { p.truncate("f", 2) }, "f mc"),
	timeCase("truncate to a longer size", func(p *P) { p.truncate("f", 200) }, "f mc"),
	timeCase("ftruncate to the same size", func(p *P) { p.ftruncate(p.open("f", wronly, 0), 4) }, "f mc"),
	timeCase("O_TRUNC", func(p *P) { p.close(p.open("f", wronly|trunc, 0)) }, "f mc"),
	timeCase("O_CREAT of a new file", func(p *P) { p.close(p.open("d/new", creat|wronly, 0o644)) }, "d Amc"),
	timeCase("O_CREAT of a file that is there", func(p *P) { p.close(p.open("f", creat|wronly, 0o644)) }),
	timeCase("mkdir", func(p *P) { p.mkdir("d/new", 0o755) }, "d Amc"),
	timeCase("mkfifo", func(p *P) { p.mkfifo("d/new", 0o644) }, "d Amc"),
	timeCase("symlink", func(p *P) { p.symlink("x", "d/new") }, "d Amc"),
	timeCase("mkdir that fails", func(p *P) { p.mkdir("d/f", 0o755, abi.EEXIST) }),
	timeCase("link", func(p *P) { p.link("f", "d/new") }, "f c", "d Amc"),
	timeCase("unlink", func(p *P) { p.unlink("d/f") }, "d/f -", "d Amc"),
	timeCase("unlink of one of two names", func(p *P) {
		p.link("f", p.dir+"/other")
		p.old("f", "d/f", "l", "d", "e", ".")
		p.unlink(p.dir + "/other")
	}, "f c"),
	timeCase("rmdir", func(p *P) { p.rmdir("e") }, "e -", ". Amc"),
	timeCase("unlink that fails", func(p *P) { p.unlink("d/none", abi.ENOENT) }),
	timeCase("rename inside a directory", func(p *P) { p.rename("d/f", "d/g"); p.rename("d/g", "d/f") }, "d/f c", "d Amc"),
	timeCase("rename to another directory", func(p *P) { p.rename("d/f", "e/f") }, "d/f -", "d Amc", "e Amc"),
	timeCase("rename to itself", func(p *P) { p.rename("d/f", "d/f") }),
	timeCase("rename that fails", func(p *P) { p.rename("d/none", "e/f", abi.ENOENT) }),
	timeCase("chmod", func(p *P) { p.chmod("f", 0o600) }, "f c"),
	timeCase("chmod to what it was", func(p *P) { p.chmod("f", 0o644) }, "f c"),
	timeCase("fchmod", func(p *P) { p.check("fchmod", p.s.Fchmod(p.open("f", rdonly, 0), 0o600), nil) }, "f c"),
	timeCase("chown", func(p *P) { st := p.stat("f"); p.chown("f", int(st.Uid), int(st.Gid)) }, "f c"),
	timeCase("readlink", func(p *P) { p.readlink("l") }),
	timeCase("readdir", func(p *P) { p.ls("e") }, "e A"),
	timeCase("utimensat", func(p *P) { p.utimens("f", oldTime, oldTime) }, "f c"),
	timeCase("a lookup that misses", func(p *P) { p.stat("d/none", abi.ENOENT) }),

	Case{Name: "the three times of a new file", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("f", "")
		for _, f := range []string{"f", "d"} {
			st := p.stat(f)
			eq(p, "mtime", st.Mtime, st.Ctime)
			p.that("atime", !st.Ctime.Before(st.Atime))
			d := time.Since(time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)))
			p.that("not now", d < time.Hour && d > -time.Hour)
		}
	}},
	Case{Name: "nanoseconds", Run: func(p *P) {
		p.file("f", "")
		a, m := abi.Timespec{Sec: 1, Nsec: 999999999}, abi.Timespec{Sec: 2, Nsec: 1}
		p.utimens("f", a, m)
		st := p.stat("f")
		eq(p, "atime", st.Atime, a)
		eq(p, "mtime", st.Mtime, m)
	}},
	Case{Name: "past 2038 and 2106", Run: func(p *P) {
		p.file("f", "")
		for _, sec := range []int64{1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<33 + 7} {
			ts := abi.Timespec{Sec: sec, Nsec: 123456789}
			p.utimens("f", ts, ts)
			eq(p, "mtime", p.stat("f").Mtime, ts)
			eq(p, "atime", p.stat("f").Atime, ts)
		}
	}},
	Case{Name: "before 1970", Run: func(p *P) {
		p.file("f", "")
		ts := abi.Timespec{Sec: -1000, Nsec: 5}
		p.utimens("f", ts, ts)
		eq(p, "mtime", p.stat("f").Mtime, ts)
	}},
	Case{Name: "times of directories, links and fifos", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.mkfifo("p", 0o644)
		ts := abi.Timespec{Sec: 77, Nsec: 78}
		for _, f := range []string{"d", "p"} {
			p.utimens(f, ts, ts)
			eq(p, "mtime", p.lstat(f).Mtime, ts)
		}
	}},
	Case{Name: "UTIME_OMIT", Run: func(p *P) {
		p.file("f", "")
		p.old("f")
		omit := abi.Timespec{Nsec: abi.UTIME_OMIT}
		p.utimens("f", omit, abi.Timespec{Sec: 9})
		st := p.stat("f")
		eq(p, "atime", st.Atime, oldTime)
		eq(p, "mtime", st.Mtime, abi.Timespec{Sec: 9})
		p.utimens("f", abi.Timespec{Sec: 8}, omit)
		st = p.stat("f")
		eq(p, "atime", st.Atime, abi.Timespec{Sec: 8})
		eq(p, "mtime", st.Mtime, abi.Timespec{Sec: 9})
	}},
	Case{Name: "UTIME_OMIT twice does nothing", Run: func(p *P) {
		p.file("f", "")
		p.old("f")
		omit := abi.Timespec{Nsec: abi.UTIME_OMIT}
		p.utimens("f", omit, omit)
		p.changed("f", "")
		p.utimens("none", omit, omit, either(abi.ENOENT, 0)) // Linux does not look
	}},
	Case{Name: "UTIME_NOW", Run: func(p *P) {
		p.file("f", "")
		p.old("f")
		now := abi.Timespec{Nsec: abi.UTIME_NOW}
		p.utimens("f", now, abi.Timespec{Nsec: abi.UTIME_OMIT})
		p.changed("f", "ac")
		p.utimens("f", now, now)
		st := p.stat("f")
		eq(p, "times", st.Atime, st.Mtime)
	}},
	Case{Name: "nanoseconds that are none", Run: func(p *P) {
		p.file("f", "")
		p.utimens("f", abi.Timespec{Nsec: 1000000000}, abi.Timespec{}, abi.EINVAL)
		p.utimens("f", abi.Timespec{}, abi.Timespec{Nsec: -1}, abi.EINVAL)
	}},
	Case{Name: "futimens", Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdonly, 0)
		ts := abi.Timespec{Sec: 5, Nsec: 6}
		p.check("futimens", p.s.Futimens(fd, ts, ts), nil)
		eq(p, "mtime", p.stat("f").Mtime, ts)
		p.check("futimens", p.s.Futimens(999, ts, ts), []any{abi.EBADF})
	}},
	Case{Name: "explicit times need ownership", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chmod("f", 0o666)
		q := p.as(7, 7)
		ts := abi.Timespec{Sec: 5}
		now := abi.Timespec{Nsec: abi.UTIME_NOW}
		q.utimens("f", ts, ts, abi.EPERM)
		q.utimens("f", ts, now, abi.EPERM)
		q.utimens("f", now, abi.Timespec{Nsec: abi.UTIME_OMIT}, abi.EPERM)
	}},
	Case{Name: "now needs ownership or write permission", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chmod("f", 0o666)
		q := p.as(7, 7)
		now := abi.Timespec{Nsec: abi.UTIME_NOW}
		q.utimens("f", now, now)
		p.chmod("f", 0o644)
		q.utimens("f", now, now, abi.EACCES)
		p.chown("f", 7, 7)
		p.chmod("f", 0)
		q.utimens("f", now, now)
	}},
	Case{Name: "times survive a rename and a link", Run: func(p *P) {
		p.file("f", "")
		ts := abi.Timespec{Sec: 5, Nsec: 6}
		p.utimens("f", ts, ts)
		p.rename("f", "g")
		p.link("g", "h")
		eq(p, "mtime", p.stat("h").Mtime, ts)
		eq(p, "atime", p.stat("h").Atime, ts)
	}},
	Case{Name: "a write after times were set", Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdwr, 0)
		p.write(fd, "x")
		p.check("futimens", p.s.Futimens(fd, oldTime, oldTime), nil)
		p.close(fd)
		eq(p, "mtime", p.stat("f").Mtime, oldTime)
		fd = p.open("f", rdwr, 0)
		p.write(fd, "y")
		p.that("mtime stayed", p.fstat(fd).Mtime != oldTime)
	}},
)
