package posixtest

import (
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const nonblock = abi.O_NONBLOCK

var _ = group("fifo",
	Case{Name: "reader without a writer, O_NONBLOCK", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdonly|nonblock, 0)
		eq(p, "read", p.read(fd, 10), "")
	}},
	Case{Name: "writer without a reader, O_NONBLOCK", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		p.open("p", wronly|nonblock, 0, abi.ENXIO)
	}},
	Case{Name: "both ends of one descriptor", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		p.write(fd, "abc")
		eq(p, "read", p.read(fd, 2), "ab")
		eq(p, "read", p.read(fd, 2), "c")
	}},
	Case{Name: "O_NONBLOCK reads", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		r := p.open("p", rdonly|nonblock, 0)
		w := p.open("p", wronly|nonblock, 0)
		p.read(r, 10, abi.EAGAIN)
		p.write(w, "abc")
		eq(p, "read", p.read(r, 10), "abc")
		p.close(w)
		eq(p, "the end", p.read(r, 10), "")
	}},
	Case{Name: "O_NONBLOCK writes", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		r := p.open("p", rdonly|nonblock, 0)
		w := p.open("p", wronly|nonblock, 0)
		total := 0
		for {
			n, err := p.s.Write(w, []byte(strings.Repeat("x", 4096)))
			if abi.ErrnoOf(err) == abi.EAGAIN {
				break
			}
			p.check("write", err, nil)
			total += n
			p.that("no end", total < 1<<24)
		}
		p.that("nothing fits", total >= 512)
		got := 0
		for got < total {
			s := p.read(r, 65536)
			got += len(s)
		}
		eq(p, "read", got, total)
	}},
	Case{Name: "an open waits for the other end", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		q := p.again()
		var r int
		p.meanwhile("open for reading", func() (err error) { r, err = q.s.Openat(cwd, "p", rdonly, 0); return err },
			func() { p.write(p.open("p", wronly, 0), "hello") })
		eq(q, "read", q.read(r, 10), "hello")
	}},
	Case{Name: "an open for writing waits for a reader", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		q := p.again()
		var w, r int
		p.meanwhile("open for writing", func() (err error) { w, err = q.s.Openat(cwd, "p", wronly, 0); return err },
			func() { r = p.open("p", rdonly, 0) })
		q.write(w, "x")
		eq(p, "read", p.read(r, 10), "x")
	}},
	Case{Name: "a read waits for data", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		q := p.again()
		r := q.open("p", rdonly, 0)
		b := make([]byte, 10)
		n := 0
		p.meanwhile("read", func() (err error) { n, err = q.s.Read(r, b); return err }, func() { p.write(fd, "data") })
		eq(p, "read", string(b[:n]), "data")
	}},
	Case{Name: "a write without a reader", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		r := p.open("p", rdonly|nonblock, 0)
		w := p.open("p", wronly|nonblock, 0)
		p.close(r)
		p.write(w, "x", abi.EPIPE)
	}},
	Case{Name: "data goes with the last close", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		p.write(fd, "old")
		p.close(fd)
		fd = p.open("p", rdonly|nonblock, 0)
		eq(p, "read", p.read(fd, 10), "")
	}},
	Case{Name: "unlinked and open", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		r := p.open("p", rdonly|nonblock, 0)
		w := p.open("p", wronly, 0)
		p.unlink("p")
		p.mkfifo("p", 0o644)
		p.write(w, "x")
		eq(p, "read", p.read(r, 10), "x")
		p.open("p", wronly|nonblock, 0, abi.ENXIO)
	}},
	Case{Name: "two names are one fifo", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		p.link("p", "q")
		r := p.open("p", rdonly|nonblock, 0)
		p.write(p.open("q", wronly, 0), "x")
		eq(p, "read", p.read(r, 10), "x")
	}},
	Case{Name: "size and ftruncate", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		p.write(fd, "abc")
		eq(p, "size", p.lstat("p").Size, 0)
		p.ftruncate(fd, 0, abi.EINVAL)
		eq(p, "type", p.fstat(fd).Type, abi.VFIFO)
	}},
	Case{Name: "permissions", Root: true, Run: func(p *P) {
		p.mkfifo("p", 0o644)
		q := p.as(7, 7)
		q.open("p", wronly|nonblock, 0, abi.EACCES)
		q.close(q.open("p", rdonly|nonblock, 0))
	}},
)

// enoattr is what an attribute that is missing is: NetBSD's number, or POSIX's
// which Linux has.
var enoattr = either(abi.ENOATTR, abi.ENODATA)

func (p *P) setx(path, name, val string, flags int, want ...any) {
	p.t.Helper()
	p.check("setxattr "+short(name), p.s.Setxattr(path, name, []byte(val), flags), want)
}

func (p *P) getx(path, name string, want ...any) string {
	p.t.Helper()
	b, err := p.s.Getxattr(path, name)
	p.check("getxattr "+short(name), err, want)
	return string(b)
}

var _ = group("xattr",
	Case{Name: "set, get, list, remove", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.getx("f", "user.a", enoattr)
		p.setx("f", "user.a", "one", 0)
		p.setx("f", "user.b", "two", 0)
		eq(p, "value", p.getx("f", "user.a"), "one")
		l, err := p.s.Listxattr("f")
		p.check("listxattr", err, nil)
		eq(p, "names", names(l), "user.a user.b")
		p.check("removexattr", p.s.Removexattr("f", "user.a"), nil)
		p.getx("f", "user.a", enoattr)
		p.check("removexattr", p.s.Removexattr("f", "user.a"), []any{enoattr})
	}},
	Case{Name: "create and replace", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.setx("f", "user.a", "x", abi.XATTR_REPLACE, enoattr)
		p.setx("f", "user.a", "x", abi.XATTR_CREATE)
		p.setx("f", "user.a", "y", abi.XATTR_CREATE, abi.EEXIST)
		p.setx("f", "user.a", "y", abi.XATTR_REPLACE)
		eq(p, "value", p.getx("f", "user.a"), "y")
		p.setx("f", "user.a", "y", 64, abi.EINVAL)
	}},
	Case{Name: "any bytes, and none", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		for _, v := range []string{"", "\x00", "a\x00b", strings.Repeat("\xff", 500)} {
			p.setx("f", "user.a", v, 0)
			that := p.getx("f", "user.a")
			p.that("value", that == v)
		}
	}},
	Case{Name: "long names", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		n := "user." + strings.Repeat("n", 250)
		p.setx("f", n, "x", 0)
		eq(p, "value", p.getx("f", n), "x")
		p.setx("f", n+"n", "x", 0, either(abi.ERANGE, abi.EINVAL, abi.ENAMETOOLONG))
	}},
	Case{Name: "a value too long", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.setx("f", "user.a", strings.Repeat("x", 65537), 0, either(abi.E2BIG, abi.ERANGE, abi.ENOSPC))
	}},
	Case{Name: "of what is not there", Needs: "xattr", Run: func(p *P) {
		p.setx("none", "user.a", "", 0, abi.ENOENT)
		p.getx("none", "user.a", abi.ENOENT)
		p.file("f", "")
		p.getx("f/x", "user.a", abi.ENOTDIR)
	}},
	Case{Name: "go with the file", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.setx("f", "user.a", "x", 0)
		p.link("f", "g")
		p.rename("f", "h")
		eq(p, "value", p.getx("g", "user.a"), "x")
		p.unlink("g")
		eq(p, "value", p.getx("h", "user.a"), "x")
		p.unlink("h")
		p.file("h", "")
		p.getx("h", "user.a", enoattr)
	}},
	Case{Name: "of directories", Needs: "xattr", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.setx("d", "user.a", "x", 0)
		eq(p, "value", p.getx("d", "user.a"), "x")
	}},
	Case{Name: "follow the permissions of the file", Root: true, Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.setx("f", "user.a", "x", 0)
		q := p.as(7, 7)
		eq(q, "value", q.getx("f", "user.a"), "x")
		q.setx("f", "user.a", "y", 0, abi.EACCES)
		q.check("removexattr", q.s.Removexattr("f", "user.a"), []any{abi.EACCES})
		p.chmod("f", 0o600)
		q.getx("f", "user.a", abi.EACCES)
	}},
	Case{Name: "change the change time only", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		p.old("f")
		p.setx("f", "user.a", "x", 0)
		p.changed("f", "c")
	}},
	Case{Name: "many", Needs: "xattr", Run: func(p *P) {
		p.file("f", "")
		var want []string
		for i := range 30 {
			n := "user." + string(rune('a'+i%26)) + string(rune('a'+i/26))
			p.setx("f", n, n, 0)
			want = append(want, n)
		}
		l, err := p.s.Listxattr("f")
		p.check("listxattr", err, nil)
		eq(p, "names", names(l), names(want))
	}},
)
