package posixtest

import "github.com/rumpus-kernel/rumpus/modapi/abi"

var _ = group("permission",
	Case{Name: "owner, group and others", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.chown("f", 7, 70)
		own, grp, sup, oth := p.as(7, 1), p.as(8, 70), p.as(8, 1, 5, 70), p.as(9, 9)
		for _, c := range []struct {
			mode uint32
			q    *P
			r, w any
		}{
			{0o600, own, abi.Errno(0), abi.Errno(0)}, {0o600, grp, abi.EACCES, abi.EACCES}, {0o600, oth, abi.EACCES, abi.EACCES},
			{0o440, own, abi.Errno(0), abi.EACCES}, {0o440, grp, abi.Errno(0), abi.EACCES}, {0o440, sup, abi.Errno(0), abi.EACCES}, {0o440, oth, abi.EACCES, abi.EACCES},
			{0o066, own, abi.EACCES, abi.EACCES}, {0o066, grp, abi.Errno(0), abi.Errno(0)}, {0o066, oth, abi.Errno(0), abi.Errno(0)},
			{0o606, own, abi.Errno(0), abi.Errno(0)}, {0o606, grp, abi.EACCES, abi.EACCES}, {0o606, sup, abi.EACCES, abi.EACCES}, {0o606, oth, abi.Errno(0), abi.Errno(0)},
			{0o222, own, abi.EACCES, abi.Errno(0)}, {0, own, abi.EACCES, abi.EACCES},
		} {
			p.chmod("f", c.mode)
			c.q.open("f", rdonly, 0, c.r)
			c.q.open("f", wronly, 0, c.w)
			c.q.access("f", abi.R_OK, c.r)
			c.q.access("f", abi.W_OK, c.w)
		}
	}},
	Case{Name: "the super-user may everything", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.chown("f", 7, 7)
		p.chmod("f", 0)
		p.holds("f", "x")
		p.mkdir("d", 0)
		p.chmod("d", 0)
		p.file("d/f", "")
		p.access("f", abi.R_OK|abi.W_OK)
		p.access("f", abi.X_OK, abi.EACCES)
		p.access("d", abi.X_OK)
	}},
	Case{Name: "access", Run: func(p *P) {
		p.file("f", "")
		p.access("f", abi.F_OK)
		p.access("none", abi.F_OK, abi.ENOENT)
		p.access("f/x", abi.F_OK, abi.ENOTDIR)
		p.access("f", 0o777, abi.EINVAL)
	}},
	Case{Name: "access of an executable", Root: true, Run: func(p *P) {
		p.file("f", "")
		q := p.as(7, 7)
		q.access("f", abi.X_OK, abi.EACCES)
		p.chmod("f", 0o755)
		q.access("f", abi.X_OK|abi.R_OK)
		q.access("f", abi.X_OK|abi.W_OK, abi.EACCES)
	}},
	Case{Name: "search", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "x")
		p.chmod("d", 0o744)
		q := p.as(7, 7)
		q.stat("d/f", abi.EACCES)
		q.stat("d/none", abi.EACCES)
		q.open("d/f", rdonly, 0, abi.EACCES)
		q.chdir("d", abi.EACCES)
		q.open("d/.", rdonly, 0, abi.EACCES)
		q.open("d/../d", rdonly, 0, abi.EACCES)
		eq(q, "names", names(q.ls("d")), "f")
		p.chmod("d", 0o711)
		q.holds("d/f", "x")
		q.open("d", abi.O_DIRECTORY, 0, abi.EACCES)
		q.chdir("d")
	}},
	Case{Name: "search of every directory on the way", Root: true, Run: func(p *P) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.file("a/b/f", "")
		p.symlink("a/b/f", "l")
		q := p.as(7, 7)
		q.stat("a/b/f")
		q.stat("l")
		p.chmod("a", 0o700)
		q.stat("a/b/f", abi.EACCES)
		q.stat("l", abi.EACCES)
		q.lstat("l")
		p.chmod("a", 0o755)
		q.stat("a/b/f")
	}},
	Case{Name: "names need write permission in their directory", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		p.mkdir("d/e", 0o755)
		p.chown("d/f", 7, 7)
		q := p.as(7, 7)
		q.open("d/new", creat|rdwr, 0o644, abi.EACCES)
		q.mkdir("d/new", 0o755, abi.EACCES)
		q.mkfifo("d/new", 0o644, abi.EACCES)
		q.symlink("t", "d/new", abi.EACCES)
		q.link("d/f", "d/new", abi.EACCES)
		q.unlink("d/f", abi.EACCES)
		q.rmdir("d/e", abi.EACCES)
		q.rename("d/f", "d/g", abi.EACCES)
		q.open("d/f", creat|rdwr, 0o644) // it is there
		p.chmod("d", 0o777)
		q.unlink("d/f")
		q.rmdir("d/e")
	}},
	Case{Name: "what is there comes before who may", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		q := p.as(7, 7)
		q.mkdir("d/f", 0o755, abi.EEXIST)
		q.open("d/f", creat|excl|rdwr, 0o644, abi.EEXIST)
		q.symlink("t", "d/f", abi.EEXIST)
		q.unlink("d/none", abi.ENOENT)
	}},
	Case{Name: "O_TRUNC needs write permission", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.as(7, 7).open("f", rdonly|trunc, 0, abi.EACCES)
		p.holds("f", "x")
	}},
	Case{Name: "an open file outlives its permissions", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.chmod("f", 0o666)
		q := p.as(7, 7)
		fd := q.open("f", rdwr, 0)
		p.chmod("f", 0)
		q.pwrite(fd, "y", 0)
		eq(q, "read", q.pread(fd, 1, 0), "y")
		q.ftruncate(fd, 0)
	}},
	Case{Name: "sticky directories", Root: true, Run: func(p *P) {
		p.mkdir("s", 0o755)
		p.chmod("s", 0o1777)
		p.file("s/root", "")
		q, r := p.as(7, 7), p.as(8, 8)
		q.file("s/mine", "")
		q.chmod("s/mine", 0o666)
		r.unlink("s/mine", abi.EPERM)
		q.unlink("s/root", abi.EPERM)
		q.mkdir("s/d", 0o777)
		r.rmdir("s/d", abi.EPERM)
		q.unlink("s/mine")
		q.rmdir("s/d")
		p.chown("s", 8, 8)
		r.unlink("s/root") // the directory's owner may
	}},
	Case{Name: "groups of a process", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chown("d", 0, 50)
		p.chmod("d", 0o770)
		p.as(7, 7).open("d/f", creat|rdwr, 0o644, abi.EACCES)
		p.as(7, 50).open("d/f", creat|rdwr, 0o644)
		p.as(7, 7, 50).stat("d/f")
	}},
)

var _ = group("chmod and chown",
	Case{Name: "all bits", Run: func(p *P) {
		p.file("f", "")
		p.mkdir("d", 0o755)
		for _, m := range []uint32{0, 0o777, 0o400, 0o644, 0o4755, 0o2755} {
			p.chmod("f", m)
			p.mode("f", m)
			p.chmod("d", m|0o700)
			p.mode("d", m|0o700)
		}
		p.chmod("d", 0o1777)
		p.mode("d", 0o1777)
	}},
	Case{Name: "of an open file", Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdonly, 0)
		p.check("fchmod", p.s.Fchmod(fd, 0o600), nil)
		p.mode("f", 0o600)
		p.check("fchmod", p.s.Fchmod(999, 0o600), []any{abi.EBADF})
		d := p.dirfd(".")
		p.check("fchmod", p.s.Fchmod(d, 0o711), nil)
		p.mode(".", 0o711)
	}},
	Case{Name: "follows symbolic links", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.chmod("l", 0o600)
		p.mode("f", 0o600)
		p.symlink("none", "m")
		p.chmod("m", 0o600, abi.ENOENT)
	}},
	Case{Name: "what is not there", Run: func(p *P) {
		p.file("f", "")
		p.chmod("none", 0o600, abi.ENOENT)
		p.chmod("f/x", 0o600, abi.ENOTDIR)
		p.chown("none", -1, -1, abi.ENOENT)
	}},
	Case{Name: "is the owner's", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chmod("f", 0o666)
		q := p.as(7, 7)
		q.chmod("f", 0o600, abi.EPERM)
		p.chown("f", 7, 7)
		q.chmod("f", 0o600)
		p.mode("f", 0o600)
	}},
	Case{Name: "set-group-id of a foreign group", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chown("f", 7, 50)
		q := p.as(7, 7)
		q.chmod("f", 0o2755, differ(abi.EPERM, 0, "NetBSD refuses, Linux drops the bit, as POSIX lets it"))
		p.that("the bit is set", p.stat("f").Mode&0o2000 == 0)
		r := p.as(7, 7, 50)
		r.chmod("f", 0o2755)
		p.mode("f", 0o2755)
	}},
	Case{Name: "sticky files", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chown("f", 7, 7)
		p.as(7, 7).chmod("f", 0o1644, differ3(abi.EFTYPE, 0, 0, "NetBSD says EFTYPE to all but the super-user, POSIX lets it be ignored"))
		p.chmod("f", 0o1644)
	}},
	Case{Name: "chown", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chown("f", 7, 70)
		p.owner("f", 7, 70)
		p.chown("f", -1, 71)
		p.owner("f", 7, 71)
		p.chown("f", 8, -1)
		p.owner("f", 8, 71)
		p.chown("f", -1, -1)
		p.owner("f", 8, 71)
		big := uint32(1<<31 + 5) // an int of 32 bits does not hold it, but carries it
		p.chown("f", int(int32(big)), int(int32(big+1)))
		p.owner("f", big, big+1)
	}},
	Case{Name: "chown of an open file", Root: true, Run: func(p *P) {
		p.file("f", "")
		fd := p.open("f", rdonly, 0)
		p.check("fchown", p.s.Fchown(fd, 7, 8), nil)
		p.owner("f", 7, 8)
		p.check("fchown", p.s.Fchown(999, 7, 8), []any{abi.EBADF})
	}},
	Case{Name: "giving a file away", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chown("f", 7, 7)
		q := p.as(7, 7, 50)
		q.chown("f", 8, -1, abi.EPERM)
		q.chown("f", -1, 60, abi.EPERM)
		q.chown("f", -1, 50)
		p.owner("f", 7, 50)
		q.chown("f", 7, 7)
		r := p.as(9, 9)
		r.chown("f", -1, 9, abi.EPERM)
		r.chown("f", 9, -1, abi.EPERM)
	}},
	Case{Name: "set-id bits go with the owner", Root: true, Run: func(p *P) {
		p.file("f", "")
		p.chown("f", 7, 7)
		p.chmod("f", 0o6755)
		p.as(7, 7, 50).chown("f", -1, 50)
		p.mode("f", 0o755)
	}},
	Case{Name: "set-id bits and a chown by the super-user", Root: true, Needs: "chownsetid", Run: func(p *P) {
		p.file("f", "")
		p.chmod("f", 0o4755)
		p.stat("f")
		p.chown("f", 0, 0)
		st := p.stat("f")
		// POSIX leaves it open for the super-user: NetBSD keeps them, Linux does not.
		if p.w.Kind == BSD {
			eq(p, "mode", st.Mode, 0o4755)
		} else {
			eq(p, "mode", st.Mode, 0o755)
		}
	}},
	Case{Name: "set-id bits of directories stay", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chown("d", 7, 7)
		p.chmod("d", 0o2755)
		p.as(7, 7, 50).chown("d", -1, 50)
		p.mode("d", 0o2755)
	}},
	Case{Name: "set-id bits go with a write", Root: true, Run: func(p *P) {
		p.file("f", "x")
		q := p.as(7, 7)
		for _, how := range []func(fd int){
			func(fd int) { q.write(fd, "y") },
			func(fd int) { q.pwrite(fd, "y", 10) },
			func(fd int) { q.ftruncate(fd, 1) },
			func(fd int) { q.ftruncate(fd, 100) },
		} {
			p.chmod("f", 0o6777)
			fd := q.open("f", wronly, 0)
			how(fd)
			p.mode("f", 0o777)
			q.close(fd)
			p.mode("f", 0o777)
		}
		p.chmod("f", 0o6777)
		q.truncate("f", 5)
		p.mode("f", 0o777)
		p.chmod("f", 0o6777)
		q.close(q.open("f", wronly|trunc, 0))
		p.mode("f", 0o777)
	}},
	Case{Name: "set-id bits stay with a read", Root: true, Run: func(p *P) {
		p.file("f", "x")
		p.chmod("f", 0o6755)
		q := p.as(7, 7)
		q.holds("f", "x")
		p.mode("f", 0o6755)
	}},
	Case{Name: "set-id bits go with an allocation", Root: true, Needs: "fallocate punch", Run: func(p *P) {
		p.file("f", "x")
		q := p.as(7, 7)
		p.chmod("f", 0o6777)
		fd := q.open("f", wronly, 0)
		q.check("fallocate", q.s.Fallocate(fd, 0, 100), nil)
		p.mode("f", 0o777)
		p.chmod("f", 0o6777)
		q.check("punch", q.s.Punch(fd, 0, 1), nil)
		p.mode("f", 0o777)
	}},
)

var _ = group("owner of what is new",
	Case{Name: "user and group", Root: true, Run: func(p *P) {
		p.chmod(".", 0o777)
		q := p.as(7, 70)
		q.file("f", "")
		q.mkdir("d", 0o755)
		q.symlink("t", "l")
		q.mkfifo("p", 0o644)
		gid := uint32(70)
		if p.bsd() {
			gid = 0 // the directory's, as BSD has it; Linux takes the process's
		}
		for _, n := range []string{"f", "d", "l", "p"} {
			p.owner(n, 7, gid)
		}
	}},
	Case{Name: "group of a directory of another group", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chown("d", 0, 50)
		p.chmod("d", 0o777)
		p.as(7, 70).file("d/f", "")
		if p.bsd() {
			p.owner("d/f", 7, 50)
		} else {
			p.owner("d/f", 7, 70)
		}
	}},
	Case{Name: "set-group-id directories", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chown("d", 0, 50)
		p.chmod("d", 0o2777)
		q := p.as(7, 70)
		q.file("d/f", "")
		p.owner("d/f", 7, 50)
		q.mkdir("d/e", 0o755)
		p.owner("d/e", 7, 50)
		if !p.bsd() { // there every directory is like that, and the bit says nothing
			p.mode("d/e", 0o2755)
		}
	}},
	Case{Name: "set-group-id files in a foreign group", Root: true, Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.chown("d", 0, 50)
		p.chmod("d", 0o2777)
		q := p.as(7, 70)
		q.close(q.open("d/f", creat|rdwr, 0o2755))
		p.that("the bit is set", p.stat("d/f").Mode&0o2000 == 0)
	}},
	Case{Name: "set-user-id in the mode of an open", Root: true, Run: func(p *P) {
		p.close(p.open("f", creat|rdwr, 0o4755))
		p.mode("f", 0o4755)
	}},
)
