package posixtest

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func rng(typ int16, start, n int64) abi.Flock {
	return abi.Flock{Type: typ, Whence: abi.SEEK_SET, Start: start, Len: n}
}

// lock sets a record lock without waiting.
func (p *P) lock(fd int, typ int16, start, n int64, want ...any) {
	p.t.Helper()
	p.check("F_SETLK", p.s.Lock(fd, abi.F_SETLK, rng(typ, start, n)), want)
}

var held = either(abi.EAGAIN, abi.EACCES)

// meanwhile runs fn, which waits for something, checks that it does not come
// back by itself as far as that can be seen, does what it waits for, and checks
// its end.
func (p *P) meanwhile(what string, fn func() error, then func()) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		p.t.Fatalf("%s did not wait: %v", what, err)
	default:
	}
	then()
	p.check(what, <-done, nil)
}

var _ = group("record locks",
	Case{Name: "exclusive", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 0, 10)
		q.lock(g, abi.F_WRLCK, 5, 1, held)
		q.lock(g, abi.F_RDLCK, 0, 0, held)
		q.lock(g, abi.F_WRLCK, 10, 10)
		p.lock(fd, abi.F_UNLCK, 0, 10)
		q.lock(g, abi.F_WRLCK, 0, 5)
	}},
	Case{Name: "shared", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_RDLCK, 0, 10)
		q.lock(g, abi.F_RDLCK, 0, 10)
		q.lock(g, abi.F_WRLCK, 0, 10, held)
		p.lock(fd, abi.F_UNLCK, 0, 10)
		q.lock(g, abi.F_WRLCK, 0, 10)
	}},
	Case{Name: "to the end of the file, however long", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 100, 0)
		q.lock(g, abi.F_WRLCK, 0, 100)
		q.lock(g, abi.F_WRLCK, 1<<40, 1, held)
	}},
	Case{Name: "from the offset and the end", Run: func(p *P) {
		p.file("f", "0123456789")
		fd := p.open("f", rdwr, 0)
		p.seek(fd, 4, abi.SEEK_SET)
		p.check("F_SETLK", p.s.Lock(fd, abi.F_SETLK, abi.Flock{Type: abi.F_WRLCK, Whence: abi.SEEK_CUR, Start: 1, Len: 1}), nil)
		p.check("F_SETLK", p.s.Lock(fd, abi.F_SETLK, abi.Flock{Type: abi.F_WRLCK, Whence: abi.SEEK_END, Start: -1, Len: 1}), nil)
		q := p.again()
		g := q.open("f", rdwr, 0)
		q.lock(g, abi.F_WRLCK, 0, 5)
		q.lock(g, abi.F_WRLCK, 5, 1, held)
		q.lock(g, abi.F_WRLCK, 6, 3)
		q.lock(g, abi.F_WRLCK, 9, 1, held)
	}},
	Case{Name: "a negative length", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.lock(fd, abi.F_WRLCK, 10, -5)
		q := p.again()
		g := q.open("f", rdwr, 0)
		q.lock(g, abi.F_WRLCK, 0, 5)
		q.lock(g, abi.F_WRLCK, 5, 1, held)
		q.lock(g, abi.F_WRLCK, 9, 1, held)
		q.lock(g, abi.F_WRLCK, 10, 1)
		p.lock(fd, abi.F_WRLCK, 3, -5, abi.EINVAL)
		p.lock(fd, abi.F_WRLCK, -1, 5, abi.EINVAL)
	}},
	Case{Name: "a process replaces its own", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 0, 30)
		p.lock(fd, abi.F_RDLCK, 10, 10)
		q.lock(g, abi.F_RDLCK, 10, 10)
		q.lock(g, abi.F_RDLCK, 9, 1, held)
		q.lock(g, abi.F_RDLCK, 20, 1, held)
		p.lock(fd, abi.F_UNLCK, 5, 20)
		q.lock(g, abi.F_WRLCK, 5, 20)
		q.lock(g, abi.F_RDLCK, 4, 1, held)
		q.lock(g, abi.F_RDLCK, 25, 1, held)
	}},
	Case{Name: "F_GETLK", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 10, 10)
		fl, err := q.s.Getlk(g, rng(abi.F_RDLCK, 0, 100))
		q.check("F_GETLK", err, nil)
		eq(q, "type", fl.Type, abi.F_WRLCK)
		eq(q, "start", fl.Start, 10)
		eq(q, "length", fl.Len, 10)
		q.that("no process", fl.Pid > 0)
		fl, err = q.s.Getlk(g, rng(abi.F_WRLCK, 0, 10))
		q.check("F_GETLK", err, nil)
		eq(q, "type", fl.Type, abi.F_UNLCK)
		fl, err = p.s.Getlk(fd, rng(abi.F_WRLCK, 0, 100))
		p.check("F_GETLK", err, nil)
		eq(p, "type of one's own", fl.Type, abi.F_UNLCK)
	}},
	Case{Name: "need the file open that way", Run: func(p *P) {
		p.file("f", "")
		p.lock(p.open("f", rdonly, 0), abi.F_WRLCK, 0, 1, abi.EBADF)
		p.lock(p.open("f", wronly, 0), abi.F_RDLCK, 0, 1, abi.EBADF)
		p.lock(p.open("f", rdonly, 0), abi.F_RDLCK, 0, 1)
		p.lock(999, abi.F_RDLCK, 0, 1, abi.EBADF)
		p.lock(p.open("f", rdwr, 0), 99, 0, 1, abi.EINVAL)
	}},
	Case{Name: "go with any close of the file", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		other := p.open("f", rdonly, 0)
		p.lock(fd, abi.F_WRLCK, 0, 10)
		p.close(other)
		q := p.again()
		q.lock(q.open("f", rdwr, 0), abi.F_WRLCK, 0, 10)
	}},
	Case{Name: "go with the process", Run: func(p *P) {
		p.file("f", "")
		q := p.again()
		q.lock(q.open("f", rdwr, 0), abi.F_WRLCK, 0, 10)
		fd := p.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 0, 10, held)
		q.s.Exit()
		p.check("F_SETLKW", p.s.Lock(fd, abi.F_SETLKW, rng(abi.F_WRLCK, 0, 10)), nil)
	}},
	Case{Name: "F_SETLKW waits", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 0, 10)
		p.meanwhile("F_SETLKW", func() error { return q.s.Lock(g, abi.F_SETLKW, rng(abi.F_WRLCK, 0, 10)) },
			func() { p.lock(fd, abi.F_UNLCK, 0, 0) })
		p.lock(fd, abi.F_WRLCK, 0, 10, held)
	}},
	Case{Name: "two that wait for each other", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		g := q.open("f", rdwr, 0)
		p.lock(fd, abi.F_WRLCK, 0, 1)
		q.lock(g, abi.F_WRLCK, 1, 1)
		// Who comes second is refused, and lets the first have it.
		wait := func(x *P, fd int, at int64) error {
			err := x.s.Lock(fd, abi.F_SETLKW, rng(abi.F_WRLCK, at, 1))
			if abi.ErrnoOf(err) == abi.EDEADLK {
				if err := x.s.Lock(fd, abi.F_SETLK, rng(abi.F_UNLCK, 0, 0)); err != nil {
					return err
				}
			}
			return err
		}
		done := make(chan error, 1)
		go func() { done <- wait(q, g, 0) }()
		mine := wait(p, fd, 1)
		if theirs := <-done; mine == nil {
			p.check("the other", theirs, []any{abi.EDEADLK})
		} else {
			p.check("the first", mine, []any{abi.EDEADLK})
			p.check("the other", theirs, nil)
		}
	}},
	Case{Name: "survive a rename", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.lock(fd, abi.F_WRLCK, 0, 10)
		p.rename("f", "g")
		q := p.again()
		q.lock(q.open("g", rdwr, 0), abi.F_WRLCK, 0, 1, held)
	}},
	Case{Name: "do not stop reads and writes", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.lock(fd, abi.F_WRLCK, 0, 0)
		q := p.again()
		q.write(q.open("f", wronly, 0), "x")
		q.holds("f", "x")
	}},
)

var _ = group("flock",
	Case{Name: "exclusive and shared", Run: func(p *P) {
		a := p.open("f", creat|rdwr, 0o644)
		b, c := p.open("f", rdonly, 0), p.open("f", rdonly, 0)
		nb := func(fd, op int, want ...any) { p.t.Helper(); p.check("flock", p.s.Flock(fd, op|abi.LOCK_NB), want) }
		nb(a, abi.LOCK_EX)
		nb(b, abi.LOCK_SH, abi.EWOULDBLOCK)
		nb(a, abi.LOCK_SH)
		nb(b, abi.LOCK_SH)
		nb(c, abi.LOCK_EX, abi.EWOULDBLOCK)
		nb(a, abi.LOCK_UN)
		nb(b, abi.LOCK_UN)
		nb(c, abi.LOCK_EX)
	}},
	Case{Name: "is the open file's", Run: func(p *P) {
		a := p.open("f", creat|rdwr, 0o644)
		d, err := p.s.Dup(a)
		p.check("dup", err, nil)
		b := p.open("f", rdonly, 0)
		p.check("flock", p.s.Flock(a, abi.LOCK_EX|abi.LOCK_NB), nil)
		p.check("flock", p.s.Flock(d, abi.LOCK_EX|abi.LOCK_NB), nil)
		p.close(a)
		p.check("flock", p.s.Flock(b, abi.LOCK_EX|abi.LOCK_NB), []any{abi.EWOULDBLOCK})
		p.close(d)
		p.check("flock", p.s.Flock(b, abi.LOCK_EX), nil) // FUSE is told of the close behind it
	}},
	Case{Name: "waits", Run: func(p *P) {
		a := p.open("f", creat|rdwr, 0o644)
		q := p.again()
		b := q.open("f", rdonly, 0)
		p.check("flock", p.s.Flock(a, abi.LOCK_EX), nil)
		p.meanwhile("flock", func() error { return q.s.Flock(b, abi.LOCK_EX) }, func() {
			p.check("flock", p.s.Flock(a, abi.LOCK_UN), nil)
		})
	}},
	Case{Name: "refused", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.check("flock", p.s.Flock(fd, 0), []any{abi.EINVAL})
		p.check("flock", p.s.Flock(999, abi.LOCK_EX), []any{abi.EBADF})
	}},
	Case{Name: "of a directory", Run: func(p *P) {
		a, b := p.dirfd("."), p.dirfd(".")
		p.check("flock", p.s.Flock(a, abi.LOCK_EX|abi.LOCK_NB), nil)
		p.check("flock", p.s.Flock(b, abi.LOCK_SH|abi.LOCK_NB), []any{abi.EWOULDBLOCK})
	}},
)
