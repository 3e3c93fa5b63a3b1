package posixtest

import (
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	rdonly = abi.O_RDONLY
	wronly = abi.O_WRONLY
	rdwr   = abi.O_RDWR
	creat  = abi.O_CREAT
	excl   = abi.O_EXCL
	trunc  = abi.O_TRUNC
	app    = abi.O_APPEND
)

var _ = group("open",
	Case{Name: "missing", Run: func(p *P) { p.open("none", rdonly, 0, abi.ENOENT) }},
	Case{Name: "missing directory", Run: func(p *P) { p.open("none/f", creat|rdwr, 0o644, abi.ENOENT) }},
	Case{Name: "below a file", Run: func(p *P) {
		p.file("f", "")
		p.open("f/x", rdonly, 0, abi.ENOTDIR)
		p.open("f/x", creat|rdwr, 0o644, abi.ENOTDIR)
	}},
	Case{Name: "a file with a slash", Run: func(p *P) {
		p.file("f", "")
		p.open("f/", rdonly, 0, abi.ENOTDIR)
	}},
	Case{Name: "O_CREAT makes an empty file", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o640)
		st := p.fstat(fd)
		eq(p, "type", st.Type, abi.VREG)
		eq(p, "size", st.Size, 0)
		eq(p, "links", st.Nlink, 1)
		p.mode("f", 0o640)
	}},
	Case{Name: "O_CREAT opens what is there", Run: func(p *P) {
		p.file("f", "data")
		p.chmod("f", 0o600)
		fd := p.open("f", creat|rdwr, 0o777)
		eq(p, "contents", p.read(fd, 10), "data")
		p.mode("f", 0o600)
	}},
	Case{Name: "O_CREAT for reading only", Run: func(p *P) {
		fd := p.open("f", creat|rdonly, 0o644)
		p.write(fd, "x", abi.EBADF)
	}},
	Case{Name: "O_CREAT without write permission in the mode", Run: func(p *P) {
		fd := p.open("f", creat|wronly, 0o444)
		p.write(fd, "x")
		p.holds("f", "x")
		p.mode("f", 0o444)
	}},
	Case{Name: "O_CREAT with a slash", Run: func(p *P) {
		p.open("new/", creat|rdwr, 0o644, abi.EISDIR)
		p.gone("new")
	}},
	Case{Name: "O_CREAT on a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.open("d", creat, 0o644, abi.EISDIR)
		p.open("d", creat|rdwr, 0o644, abi.EISDIR)
	}},
	Case{Name: "O_CREAT on dot", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.open("d/.", creat|rdwr, 0o644, abi.EISDIR)
		p.open("d/..", creat|rdwr, 0o644, abi.EISDIR)
	}},
	Case{Name: "O_CREAT through a symbolic link", Run: func(p *P) {
		p.symlink("t", "l")
		p.close(p.open("l", creat|rdwr, 0o644))
		eq(p, "type", p.lstat("t").Type, abi.VREG)
	}},
	Case{Name: "O_CREAT through a link into a missing directory", Run: func(p *P) {
		p.symlink("none/t", "l")
		p.open("l", creat|rdwr, 0o644, abi.ENOENT)
	}},
	Case{Name: "O_CREAT through links in another directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.symlink("m", "d/l")
		p.symlink("../t", "d/m")
		p.close(p.open("d/l", creat|rdwr, 0o644))
		p.stat("t")
	}},
	Case{Name: "O_EXCL on a file", Run: func(p *P) {
		p.file("f", "data")
		p.open("f", creat|excl|rdwr, 0o644, abi.EEXIST)
		p.open("f", creat|excl|trunc|rdwr, 0o644, abi.EEXIST)
		p.holds("f", "data")
	}},
	Case{Name: "O_EXCL on a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.open("d", creat|excl|rdwr, 0o644, abi.EEXIST)
	}},
	Case{Name: "O_EXCL on a symbolic link", Run: func(p *P) {
		p.symlink("t", "l")
		p.open("l", creat|excl|rdwr, 0o644, abi.EEXIST)
		p.gone("t")
	}},
	Case{Name: "O_EXCL on dot", Run: func(p *P) {
		p.open(".", creat|excl|rdwr, 0o644, abi.EEXIST)
	}},
	Case{Name: "O_EXCL makes one of many", Run: func(p *P) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		made := 0
		for range 4 {
			q := p.again()
			wg.Go(func() {
				_, err := q.s.Openat(cwd, "f", creat|excl|rdwr, 0o644)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else if abi.ErrnoOf(err) != abi.EEXIST {
					p.t.Errorf("open: %v", err)
				}
			})
		}
		wg.Wait()
		eq(p, "made", made, 1)
	}},
	Case{Name: "O_TRUNC", Run: func(p *P) {
		p.file("f", "data")
		before := p.stat("f")
		p.close(p.open("f", trunc|wronly, 0))
		st := p.stat("f")
		eq(p, "size", st.Size, 0)
		eq(p, "number", st.Fileid, before.Fileid)
		p.that("the modification time went back", !st.Mtime.Before(before.Mtime))
	}},
	Case{Name: "O_TRUNC with O_RDWR", Run: func(p *P) {
		p.file("f", "data")
		fd := p.open("f", trunc|rdwr, 0)
		eq(p, "read", p.read(fd, 10), "")
		p.write(fd, "new")
		p.holds("f", "new")
	}},
	Case{Name: "O_TRUNC on a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.open("d", trunc|wronly, 0, abi.EISDIR)
	}},
	Case{Name: "O_TRUNC through a symbolic link", Run: func(p *P) {
		p.file("f", "data")
		p.symlink("f", "l")
		p.close(p.open("l", trunc|wronly, 0))
		p.holds("f", "")
	}},
	Case{Name: "O_TRUNC on a fifo does nothing", Run: func(p *P) {
		p.mkfifo("f", 0o644)
		p.close(p.open("f", trunc|rdwr|abi.O_NONBLOCK, 0))
		eq(p, "type", p.lstat("f").Type, abi.VFIFO)
	}},
	Case{Name: "O_DIRECTORY", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.close(p.open("d", abi.O_DIRECTORY, 0))
		p.close(p.open("d/", abi.O_DIRECTORY, 0))
	}},
	Case{Name: "O_DIRECTORY on a file", Run: func(p *P) {
		p.file("f", "")
		p.open("f", abi.O_DIRECTORY, 0, abi.ENOTDIR)
	}},
	Case{Name: "O_DIRECTORY on a fifo does not wait", Run: func(p *P) {
		p.mkfifo("f", 0o644)
		p.open("f", abi.O_DIRECTORY, 0, abi.ENOTDIR)
	}},
	Case{Name: "O_DIRECTORY through a link to a file", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.open("l", abi.O_DIRECTORY, 0, abi.ENOTDIR)
	}},
	Case{Name: "O_DIRECTORY through a link to a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		p.close(p.open("l", abi.O_DIRECTORY, 0))
	}},
	Case{Name: "O_NOFOLLOW", Run: func(p *P) {
		p.file("f", "")
		p.symlink("f", "l")
		p.open("l", abi.O_NOFOLLOW, 0, abi.ELOOP)
		p.close(p.open("f", abi.O_NOFOLLOW, 0))
	}},
	Case{Name: "O_NOFOLLOW on a dangling link", Run: func(p *P) {
		p.symlink("none", "l")
		p.open("l", abi.O_NOFOLLOW|rdwr, 0, abi.ELOOP)
		p.open("l", abi.O_NOFOLLOW|creat|rdwr, 0o644, abi.ELOOP)
		p.gone("none")
	}},
	Case{Name: "O_NOFOLLOW follows links on the way", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.file("d/f", "")
		p.symlink("d", "l")
		p.close(p.open("l/f", abi.O_NOFOLLOW, 0))
	}},
	Case{Name: "O_NOFOLLOW with O_DIRECTORY on a link", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.symlink("d", "l")
		p.open("l", abi.O_NOFOLLOW|abi.O_DIRECTORY, 0, either(abi.ENOTDIR, abi.ELOOP))
	}},
	Case{Name: "O_CLOEXEC", Run: func(p *P) {
		for _, c := range []bool{true, false} {
			fl := creat | rdwr
			if c {
				fl |= abi.O_CLOEXEC
			}
			got, err := p.s.Getfd(p.open("f", fl, 0o644))
			p.check("fcntl", err, nil)
			eq(p, "close on exec", got, c)
		}
	}},
	Case{Name: "dup has no O_CLOEXEC", Run: func(p *P) {
		fd, err := p.s.Dup(p.open("f", creat|rdwr|abi.O_CLOEXEC, 0o644))
		p.check("dup", err, nil)
		got, err := p.s.Getfd(fd)
		p.check("fcntl", err, nil)
		eq(p, "close on exec", got, false)
	}},
	Case{Name: "dup shares the offset", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdonly, 0)
		other, err := p.s.Dup(fd)
		p.check("dup", err, nil)
		eq(p, "read", p.read(fd, 2), "ab")
		eq(p, "read", p.read(other, 2), "cd")
		p.close(fd)
		eq(p, "read", p.read(other, 2), "ef")
	}},
	Case{Name: "two opens have two offsets", Run: func(p *P) {
		p.file("f", "abcdef")
		a, b := p.open("f", rdonly, 0), p.open("f", rdonly, 0)
		eq(p, "read", p.read(a, 2), "ab")
		eq(p, "read", p.read(b, 2), "ab")
	}},
	Case{Name: "the lowest descriptor", Run: func(p *P) {
		a := p.open("f", creat|rdwr, 0o644)
		b := p.open("f", rdwr, 0)
		p.that("not the next", b > a)
		p.close(a)
		eq(p, "descriptor", p.open("f", rdwr, 0), a)
	}},
	Case{Name: "a directory for writing", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.open("d", wronly, 0, abi.EISDIR)
		p.open("d", rdwr, 0, abi.EISDIR)
	}},
	Case{Name: "read of a directory", Run: func(p *P) {
		p.mkdir("d", 0o755)
		p.read(p.dirfd("d"), 10, abi.EISDIR)
	}},
	Case{Name: "write of a file open for reading", Run: func(p *P) {
		p.file("f", "data")
		fd := p.open("f", rdonly, 0)
		p.write(fd, "x", abi.EBADF)
		p.pwrite(fd, "x", 0, abi.EBADF)
		p.ftruncate(fd, 0, either(abi.EINVAL, abi.EBADF))
	}},
	Case{Name: "read of a file open for writing", Run: func(p *P) {
		p.file("f", "data")
		fd := p.open("f", wronly, 0)
		p.read(fd, 1, abi.EBADF)
		p.pread(fd, 1, 0, abi.EBADF)
	}},
	Case{Name: "closed descriptors", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.close(fd)
		p.close(fd, abi.EBADF)
		p.read(fd, 1, abi.EBADF)
		p.write(fd, "x", abi.EBADF)
		p.fstat(fd, abi.EBADF)
		p.seek(fd, 0, abi.SEEK_SET, abi.EBADF)
		p.close(-1, abi.EBADF)
	}},
	Case{Name: "O_APPEND", Run: func(p *P) {
		p.file("f", "one")
		fd := p.open("f", app|wronly, 0)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 0)
		p.seek(fd, 1, abi.SEEK_SET)
		p.write(fd, "two")
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 6)
		p.holds("f", "onetwo")
	}},
	Case{Name: "O_APPEND by fcntl", Run: func(p *P) {
		p.file("f", "one")
		fd := p.open("f", rdwr, 0)
		p.check("F_SETFL", p.s.Setfl(fd, app), nil)
		p.write(fd, "two")
		p.check("F_SETFL", p.s.Setfl(fd, 0), nil)
		p.seek(fd, 0, abi.SEEK_SET)
		p.write(fd, "X")
		p.holds("f", "Xnetwo")
	}},
	Case{Name: "O_APPEND reads anywhere", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", app|rdwr, 0)
		eq(p, "read", p.read(fd, 2), "ab")
		p.write(fd, "d")
		eq(p, "read", p.read(fd, 2), "")
		eq(p, "pread", p.pread(fd, 4, 0), "abcd")
	}},
	Case{Name: "O_APPEND behind a truncation", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", app|wronly, 0)
		p.write(fd, "g")
		p.truncate("f", 2)
		p.write(fd, "h")
		p.holds("f", "abh")
	}},
	Case{Name: "O_APPEND loses nothing", Run: func(p *P) {
		const each, many = 60, 4
		var wg sync.WaitGroup
		p.file("f", "")
		for i := range many {
			q := p.again()
			fd := q.open("f", app|wronly, 0)
			line := strings.Repeat(string(rune('a'+i)), 99) + "\n"
			wg.Go(func() {
				for range each {
					if n, err := q.s.Write(fd, []byte(line)); n != len(line) || err != nil {
						p.t.Errorf("write: %d, %v", n, err)
					}
				}
			})
		}
		wg.Wait()
		fd := p.open("f", rdonly, 0)
		got := p.pread(fd, each*many*100+1, 0)
		eq(p, "length", len(got), each*many*100)
		for _, l := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
			if len(l) != 99 || strings.Count(l, l[:1]) != 99 {
				p.t.Fatalf("a line of two: %q", l)
			}
		}
	}},
	Case{Name: "O_APPEND takes vectors whole", Run: func(p *P) {
		p.file("f", "0")
		fd := p.open("f", app|wronly, 0)
		n, err := p.s.Writev(fd, [][]byte{[]byte("ab"), []byte("c"), nil, []byte("d")})
		p.check("writev", err, nil)
		eq(p, "written", n, 4)
		p.holds("f", "0abcd")
	}},
	Case{Name: "O_SYNC and O_DSYNC", Run: func(p *P) {
		fd := p.open("f", creat|wronly|abi.O_SYNC, 0o644)
		p.write(fd, "one")
		fd = p.open("f", wronly|abi.O_DSYNC|app, 0)
		p.write(fd, "two")
		p.holds("f", "onetwo")
	}},
	Case{Name: "umask", Run: func(p *P) {
		old, err := p.s.Umask(0o027)
		p.check("umask", err, nil)
		eq(p, "old umask", old, 0o022)
		p.close(p.open("f", creat|rdwr, 0o666))
		p.mode("f", 0o640)
		p.mkdir("d", 0o777)
		p.mode("d", 0o750)
		p.mkfifo("p", 0o666)
		p.mode("p", 0o640)
		p.chmod("f", 0o666)
		p.mode("f", 0o666)
	}},
	Case{Name: "umask is the process's", Run: func(p *P) {
		q := p.again()
		p.check("umask", second(p.s.Umask(0)), nil)
		old, err := q.s.Umask(0o022)
		p.check("umask", err, nil)
		eq(p, "umask of another", old, 0o022)
	}},
	Case{Name: "unlinked and open", Run: func(p *P) {
		p.file("f", "data")
		fd := p.open("f", rdwr, 0)
		p.unlink("f")
		eq(p, "links", p.fstat(fd).Nlink, 0)
		p.pwrite(fd, "more", 4)
		eq(p, "read", p.pread(fd, 20, 0), "datamore")
		p.file("f", "new")
		eq(p, "read", p.pread(fd, 20, 0), "datamore")
		p.ftruncate(fd, 2)
		eq(p, "read", p.pread(fd, 20, 0), "da")
		p.check("fchmod", p.s.Fchmod(fd, 0o600), nil)
		p.close(fd)
		p.holds("f", "new")
	}},
	Case{Name: "replaced and open", Run: func(p *P) {
		p.file("f", "old")
		p.file("g", "new")
		fd := p.open("f", rdonly, 0)
		p.rename("g", "f")
		eq(p, "read", p.pread(fd, 10, 0), "old")
		eq(p, "links", p.fstat(fd).Nlink, 0)
		p.holds("f", "new")
	}},
	Case{Name: "a removed directory that is open", Run: func(p *P) {
		p.mkdir("d", 0o755)
		fd := p.dirfd("d")
		p.rmdir("d")
		p.openat(fd, "f", creat|rdwr, 0o644, abi.ENOENT)
		p.check("mkdirat", p.s.Mkdirat(fd, "x", 0o755), []any{abi.ENOENT})
		ds, err := p.s.Getdents(fd, make([]byte, 1000))
		p.check("getdents", err, []any{either(0, abi.ENOENT)})
		p.that("it has names", len(ds) == 0 || len(ds) == 2 && ds[0].Name == ".")
		p.fstat(fd)
	}},
	Case{Name: "a device that is not there", Root: true, Needs: "devices", Run: func(p *P) {
		p.mknod("dev", abi.S_IFCHR|0o666, abi.Makedev(3999, 77), nil...)
		p.open("dev", rdonly, 0, either(abi.ENXIO, abi.EACCES, abi.ENODEV)) // EACCES: mounted with nodev
	}},
	Case{Name: "many descriptors of a file", Run: func(p *P) {
		p.file("f", "x")
		var fds []int
		for range 100 {
			fds = append(fds, p.open("f", rdwr, 0))
		}
		p.unlink("f")
		for i, fd := range fds {
			eq(p, "read", p.pread(fd, 1, 0), "x")
			if i%2 == 0 {
				p.close(fd)
			}
		}
		eq(p, "read", p.pread(fds[99], 1, 0), "x")
	}},
)
