package posixtest

import (
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var _ = group("read and write",
	Case{Name: "read at the end", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		eq(p, "read", p.read(fd, 10), "")
		p.write(fd, "abc")
		eq(p, "read", p.read(fd, 10), "")
		p.seek(fd, 1, abi.SEEK_SET)
		eq(p, "read", p.read(fd, 10), "bc")
		eq(p, "read", p.read(fd, 10), "")
	}},
	Case{Name: "nothing", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", rdwr, 0)
		before := p.fstat(fd)
		p.write(fd, "")
		eq(p, "read", p.read(fd, 0), "")
		eq(p, "size", p.fstat(fd).Size, 3)
		eq(p, "mtime", p.fstat(fd).Mtime, before.Mtime)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 0)
		p.pwrite(fd, "", 100)
		eq(p, "size", p.fstat(fd).Size, 3)
	}},
	Case{Name: "writes go on where the last ended", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		for _, s := range []string{"one", "two", "three"} {
			p.write(fd, s)
		}
		p.holds("f", "onetwothree")
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 11)
	}},
	Case{Name: "pread and pwrite leave the offset", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdwr, 0)
		p.seek(fd, 2, abi.SEEK_SET)
		p.pwrite(fd, "X", 5)
		eq(p, "pread", p.pread(fd, 3, 3), "deX")
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 2)
	}},
	Case{Name: "pread behind the end", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", rdwr, 0)
		eq(p, "pread", p.pread(fd, 10, 3), "")
		eq(p, "pread", p.pread(fd, 10, 1<<40), "")
	}},
	Case{Name: "negative offsets", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", rdwr, 0)
		p.pread(fd, 1, -1, abi.EINVAL)
		p.pwrite(fd, "x", -1, abi.EINVAL)
		p.pread(fd, 1, -1<<63, abi.EINVAL)
	}},
	Case{Name: "readv and writev", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		n, err := p.s.Writev(fd, [][]byte{[]byte("ab"), {}, []byte("cde")})
		p.check("writev", err, nil)
		eq(p, "written", n, 5)
		p.seek(fd, 0, abi.SEEK_SET)
		a, b := make([]byte, 3), make([]byte, 10)
		n, err = p.s.Readv(fd, [][]byte{a, b})
		p.check("readv", err, nil)
		eq(p, "read", n, 5)
		eq(p, "pieces", string(a)+"|"+string(b[:2]), "abc|de")
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 5)
	}},
	Case{Name: "preadv and pwritev", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		n, err := p.s.Pwritev(fd, [][]byte{[]byte("ab"), []byte("c")}, 3)
		p.check("pwritev", err, nil)
		eq(p, "written", n, 3)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 0)
		a, b := make([]byte, 4), make([]byte, 4)
		n, err = p.s.Preadv(fd, [][]byte{a, b}, 1)
		p.check("preadv", err, nil)
		eq(p, "read", n, 5)
		eq(p, "pieces", string(a)+"|"+string(b[:1]), "\x00\x00ab|c")
		_, err = p.s.Preadv(fd, [][]byte{a}, -1)
		p.check("preadv", err, []any{abi.EINVAL})
	}},
	Case{Name: "vectors of the wrong descriptor", Run: func(p *P) {
		p.file("f", "abc")
		b := [][]byte{make([]byte, 1)}
		_, err := p.s.Readv(p.open("f", wronly, 0), b)
		p.check("readv", err, []any{abi.EBADF})
		_, err = p.s.Writev(p.open("f", rdonly, 0), b)
		p.check("writev", err, []any{abi.EBADF})
	}},
	Case{Name: "too many pieces", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		iov := make([][]byte, 1025)
		for i := range iov {
			iov[i] = []byte("x")
		}
		_, err := p.s.Writev(fd, iov)
		p.check("writev", err, []any{abi.EINVAL})
		n, err := p.s.Writev(fd, iov[:1024])
		p.check("writev", err, nil)
		eq(p, "written", n, 1024)
	}},
	Case{Name: "across pages", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		data := strings.Repeat("0123456789abcdef", 2000)
		p.pwrite(fd, data, 100)
		eq(p, "size", p.fstat(fd).Size, 32100)
		p.that("contents", p.pread(fd, 40000, 0) == strings.Repeat("\x00", 100)+data)
		p.pwrite(fd, "PAGE", 8190)
		eq(p, "pread", p.pread(fd, 8, 8188), data[8088:8090]+"PAGE"+data[8094:8096])
	}},
	Case{Name: "a megabyte at once", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		data := strings.Repeat("0123456789abcdef", 1<<16)
		p.write(fd, data)
		p.that("contents", p.pread(fd, 1<<20, 0) == data)
		eq(p, "pread", p.pread(fd, 10, 1<<20-4), "cdef")
	}},
	Case{Name: "a write behind the end leaves zeros", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, "abc")
		p.pwrite(fd, "x", 10000)
		got := p.pread(fd, 20000, 0)
		eq(p, "length", len(got), 10001)
		p.that("contents", got == "abc"+strings.Repeat("\x00", 9997)+"x")
	}},
	Case{Name: "what another wrote is seen at once", Run: func(p *P) {
		p.file("f", "old")
		fd := p.open("f", rdonly, 0)
		eq(p, "pread", p.pread(fd, 3, 0), "old")
		q := p.again()
		out := q.open("f", wronly, 0)
		q.pwrite(out, "new and longer", 0)
		eq(p, "pread", p.pread(fd, 20, 0), "new and longer")
		eq(p, "size", p.fstat(fd).Size, 14)
	}},
	Case{Name: "seek", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdonly, 0)
		eq(p, "SEEK_SET", p.seek(fd, 3, abi.SEEK_SET), 3)
		eq(p, "SEEK_CUR", p.seek(fd, 2, abi.SEEK_CUR), 5)
		eq(p, "SEEK_CUR", p.seek(fd, -1, abi.SEEK_CUR), 4)
		eq(p, "SEEK_END", p.seek(fd, -2, abi.SEEK_END), 4)
		eq(p, "read", p.read(fd, 9), "ef")
		eq(p, "SEEK_END", p.seek(fd, 100, abi.SEEK_END), 106)
		eq(p, "read", p.read(fd, 9), "")
	}},
	Case{Name: "a seek that fails leaves the offset", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdonly, 0)
		p.seek(fd, 2, abi.SEEK_SET)
		p.seek(fd, -1, abi.SEEK_SET, abi.EINVAL)
		p.seek(fd, -3, abi.SEEK_CUR, abi.EINVAL)
		p.seek(fd, -7, abi.SEEK_END, abi.EINVAL)
		p.seek(fd, 0, 99, abi.EINVAL)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 2)
	}},
	Case{Name: "a seek too far", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdonly, 0)
		p.seek(fd, 1<<63-1, abi.SEEK_END, either(abi.EOVERFLOW, abi.EINVAL))
	}},
	Case{Name: "seek does not make the file longer", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.seek(fd, 1000, abi.SEEK_SET)
		eq(p, "size", p.fstat(fd).Size, 0)
		p.write(fd, "x")
		eq(p, "size", p.fstat(fd).Size, 1001)
	}},
	Case{Name: "seek of a fifo", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		p.seek(fd, 0, abi.SEEK_CUR, abi.ESPIPE)
		p.pread(fd, 1, 0, abi.ESPIPE)
		p.pwrite(fd, "x", 0, abi.ESPIPE)
	}},
	Case{Name: "truncate shorter", Run: func(p *P) {
		p.file("f", "abcdef")
		p.truncate("f", 2)
		p.holds("f", "ab")
	}},
	Case{Name: "truncate longer", Run: func(p *P) {
		p.file("f", "abc")
		p.truncate("f", 6)
		p.holds("f", "abc\x00\x00\x00")
	}},
	Case{Name: "truncate shorter and longer leaves zeros", Run: func(p *P) {
		p.file("f", strings.Repeat("x", 10000))
		fd := p.open("f", rdwr, 0)
		p.ftruncate(fd, 5000)
		p.ftruncate(fd, 10000)
		got := p.pread(fd, 20000, 0)
		p.that("contents", got == strings.Repeat("x", 5000)+strings.Repeat("\x00", 5000))
	}},
	Case{Name: "truncate inside a page", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdwr, 0)
		p.ftruncate(fd, 1)
		p.pwrite(fd, "z", 5)
		eq(p, "contents", p.pread(fd, 10, 0), "a\x00\x00\x00\x00z")
	}},
	Case{Name: "truncate leaves the offset", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdwr, 0)
		p.seek(fd, 4, abi.SEEK_SET)
		p.ftruncate(fd, 2)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 4)
		p.write(fd, "x")
		p.holds("f", "ab\x00\x00x")
	}},
	Case{Name: "truncate refused", Run: func(p *P) {
		p.file("f", "abc")
		p.mkdir("d", 0o755)
		p.truncate("f", -1, abi.EINVAL)
		p.truncate("none", 0, abi.ENOENT)
		p.truncate("d", 0, abi.EISDIR)
		p.truncate("f/x", 0, abi.ENOTDIR)
		p.ftruncate(p.open("f", rdwr, 0), -1, abi.EINVAL)
		p.ftruncate(999, 0, abi.EBADF)
		p.ftruncate(p.dirfd("d"), 0, either(abi.EINVAL, abi.EBADF))
		p.holds("f", "abc")
	}},
	Case{Name: "truncate follows symbolic links", Run: func(p *P) {
		p.file("f", "abc")
		p.symlink("f", "l")
		p.truncate("l", 1)
		p.holds("f", "a")
	}},
	Case{Name: "truncate by who may not write", Root: true, Run: func(p *P) {
		p.file("f", "abc")
		p.as(7, 7).truncate("f", 0, abi.EACCES)
		p.holds("f", "abc")
	}},
	Case{Name: "a file of one byte at 4 GiB", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.pwrite(fd, "x", 1<<32)
		st := p.fstat(fd)
		eq(p, "size", st.Size, 1<<32+1)
		p.that("it takes up space", st.Bytes < 1<<20)
		eq(p, "pread", p.pread(fd, 3, 1<<32-1), "\x00x")
		p.ftruncate(fd, 10)
		eq(p, "size", p.fstat(fd).Size, 10)
	}},
	Case{Name: "too large", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.ftruncate(fd, 1<<63-1, either(abi.EFBIG, 0)) // Linux's tmpfs takes any size
	}},
	Case{Name: "a write that ends beyond all sizes", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.pwrite(fd, "xx", 1<<63-1, either(abi.EFBIG, abi.EINVAL))
		eq(p, "size", p.fstat(fd).Size, 0)
	}},
	Case{Name: "RLIMIT_FSIZE", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.check("setrlimit", p.s.SetFsize(1000), nil)
		p.pwrite(fd, "x", 999)
		p.pwrite(fd, "x", 1000, abi.EFBIG)
		p.ftruncate(fd, 1001, abi.EFBIG)
		p.truncate("f", 5000, abi.EFBIG)
		p.ftruncate(fd, 1000)
		p.check("setrlimit", p.s.SetFsize(-1), nil)
		p.pwrite(fd, "x", 1000)
		eq(p, "size", p.fstat(fd).Size, 1001)
	}},
	Case{Name: "RLIMIT_FSIZE cuts a write short", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.pwrite(fd, "x", 997)
		p.check("setrlimit", p.s.SetFsize(1000), nil)
		n, err := p.s.Pwrite(fd, []byte("abcdef"), 998)
		p.check("setrlimit", p.s.SetFsize(-1), nil)
		if p.w.Kind == BSD && abi.ErrnoOf(err) == abi.EFBIG {
			// NetBSD's vn_rlimit_fsize refuses the whole write.
			eq(p, "size", p.fstat(fd).Size, 998)
			return
		}
		p.check("pwrite", err, nil)
		eq(p, "written", n, 2)
		eq(p, "size", p.fstat(fd).Size, 1000)
	}},
	Case{Name: "writes of two do not mix", Run: func(p *P) {
		p.file("f", "")
		var wg sync.WaitGroup
		for i := range 2 {
			q := p.again()
			fd := q.open("f", wronly, 0)
			data := []byte(strings.Repeat(string(rune('a'+i)), 100))
			wg.Go(func() {
				for range 100 {
					if _, err := q.s.Pwrite(fd, data, 0); err != nil {
						p.t.Errorf("pwrite: %v", err)
					}
				}
			})
		}
		wg.Wait()
		fd := p.open("f", rdonly, 0)
		got := p.pread(fd, 1000, 0)
		eq(p, "length", len(got), 100)
		eq(p, "bytes of the last", strings.Count(got, got[:1]), 100)
	}},
	Case{Name: "fsync and fdatasync", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, "x")
		p.check("fsync", p.s.Fsync(fd), nil)
		p.check("fdatasync", p.s.Fdatasync(fd), nil)
		p.check("fsync", p.s.Fsync(p.open("f", rdonly, 0)), nil)
		p.check("fsync", p.s.Fsync(p.dirfd(".")), nil)
		p.check("fsync", p.s.Fsync(999), []any{abi.EBADF})
		p.check("fdatasync", p.s.Fdatasync(999), []any{abi.EBADF})
		p.holds("f", "x")
	}},
)

var _ = group("holes",
	Case{Name: "SEEK_DATA and SEEK_HOLE without holes", Run: func(p *P) {
		p.file("f", strings.Repeat("x", 5000))
		fd := p.open("f", rdonly, 0)
		eq(p, "data", p.seek(fd, 0, abi.SEEK_DATA), 0)
		eq(p, "data", p.seek(fd, 4999, abi.SEEK_DATA), 4999)
		eq(p, "hole", p.seek(fd, 0, abi.SEEK_HOLE), 5000)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 5000)
	}},
	Case{Name: "SEEK_DATA and SEEK_HOLE at the end", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", rdonly, 0)
		p.seek(fd, 1, abi.SEEK_SET)
		p.seek(fd, 3, abi.SEEK_DATA, abi.ENXIO)
		p.seek(fd, 3, abi.SEEK_HOLE, abi.ENXIO)
		p.seek(fd, 1<<40, abi.SEEK_HOLE, abi.ENXIO)
		p.seek(fd, -1, abi.SEEK_DATA, abi.ENXIO)
		eq(p, "offset", p.seek(fd, 0, abi.SEEK_CUR), 1)
	}},
	Case{Name: "of an empty file", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.seek(fd, 0, abi.SEEK_DATA, abi.ENXIO)
		p.seek(fd, 0, abi.SEEK_HOLE, abi.ENXIO)
	}},
	Case{Name: "data behind a hole", Needs: "holes", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		const mb = 1 << 20
		p.pwrite(fd, strings.Repeat("x", 4096), 3*mb)
		p.pwrite(fd, "y", 5*mb)
		p.check("fsync", p.s.Fsync(fd), nil)
		eq(p, "first data", p.seek(fd, 0, abi.SEEK_DATA), 3*mb)
		eq(p, "hole", p.seek(fd, 0, abi.SEEK_HOLE), 0)
		eq(p, "hole", p.seek(fd, 3*mb, abi.SEEK_HOLE), 3*mb+4096)
		eq(p, "data", p.seek(fd, 3*mb+4096, abi.SEEK_DATA), 5*mb)
		eq(p, "the end is a hole", p.seek(fd, 5*mb, abi.SEEK_HOLE), 5*mb+1)
		p.that("holes take space", p.fstat(fd).Bytes < mb)
	}},
	Case{Name: "nothing but a hole", Needs: "holes", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.ftruncate(fd, 1<<30)
		p.seek(fd, 0, abi.SEEK_DATA, abi.ENXIO)
		eq(p, "hole", p.seek(fd, 12345, abi.SEEK_HOLE), 12345)
		eq(p, "read", p.pread(fd, 3, 1<<29), "\x00\x00\x00")
		p.that("it takes space", p.fstat(fd).Bytes < 1<<20)
	}},
	Case{Name: "a hole that is written", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.ftruncate(fd, 100000)
		p.pwrite(fd, "mid", 50000)
		got := p.pread(fd, 100001, 0)
		p.that("contents", got == strings.Repeat("\x00", 50000)+"mid"+strings.Repeat("\x00", 49997))
	}},
	Case{Name: "st_blocks grows and shrinks", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, strings.Repeat("x", 1<<20))
		p.check("fsync", p.s.Fsync(fd), nil)
		p.that("no space for a megabyte", p.fstat(fd).Bytes >= 1<<20)
		p.ftruncate(fd, 0)
		p.check("fsync", p.s.Fsync(fd), nil)
		p.that("space of an empty file", p.fstat(fd).Bytes <= 8192)
	}},
)

var _ = group("allocate",
	Case{Name: "makes the file longer", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, "abc")
		p.check("fallocate", p.s.Fallocate(fd, 0, 10000), nil)
		eq(p, "size", p.fstat(fd).Size, 10000)
		p.that("contents", p.pread(fd, 20000, 0) == "abc"+strings.Repeat("\x00", 9997))
		p.that("no space", p.fstat(fd).Bytes >= 10000)
	}},
	Case{Name: "inside the file changes nothing but space", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.ftruncate(fd, 1<<20)
		p.pwrite(fd, "mid", 500000)
		p.check("fallocate", p.s.Fallocate(fd, 0, 1<<20), nil)
		eq(p, "size", p.fstat(fd).Size, 1<<20)
		p.that("no space", p.fstat(fd).Bytes >= 1<<20)
		eq(p, "contents", p.pread(fd, 5, 499999), "\x00mid\x00")
	}},
	Case{Name: "from the middle on", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.check("fallocate", p.s.Fallocate(fd, 100, 5000), nil)
		eq(p, "size", p.fstat(fd).Size, 5100)
	}},
	Case{Name: "refused", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		for _, r := range [][2]int64{{-1, 10}, {0, 0}, {0, -1}, {10, -20}} {
			p.check("fallocate", p.s.Fallocate(fd, r[0], r[1]), []any{abi.EINVAL})
			p.check("punch", p.s.Punch(fd, r[0], r[1]), []any{abi.EINVAL})
		}
		p.check("fallocate", p.s.Fallocate(fd, 1<<62, 1<<62), []any{abi.EFBIG})
		p.check("fallocate", p.s.Fallocate(p.open("f", rdonly, 0), 0, 10), []any{abi.EBADF})
		p.check("punch", p.s.Punch(p.open("f", rdonly, 0), 0, 10), []any{abi.EBADF})
		p.check("fallocate", p.s.Fallocate(999, 0, 10), []any{abi.EBADF})
		eq(p, "size", p.fstat(fd).Size, 0)
	}},
	Case{Name: "of a fifo", Needs: "fallocate", Run: func(p *P) {
		p.mkfifo("p", 0o644)
		fd := p.open("p", rdwr, 0)
		p.check("fallocate", p.s.Fallocate(fd, 0, 10), []any{abi.ESPIPE})
	}},
	Case{Name: "RLIMIT_FSIZE", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.check("setrlimit", p.s.SetFsize(1000), nil)
		err := p.s.Fallocate(fd, 0, 1001)
		p.check("setrlimit", p.s.SetFsize(-1), nil)
		p.check("fallocate", err, []any{abi.EFBIG})
	}},
	Case{Name: "changes the times", Needs: "fallocate", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.old("f")
		p.check("fallocate", p.s.Fallocate(fd, 0, 10), nil)
		p.changed("f", "mc")
	}},
	Case{Name: "punch inside a file", Needs: "punch", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, strings.Repeat("x", 1<<16))
		p.check("punch", p.s.Punch(fd, 5000, 30000), nil)
		eq(p, "size", p.fstat(fd).Size, 1<<16)
		p.that("contents", p.pread(fd, 1<<17, 0) == strings.Repeat("x", 5000)+strings.Repeat("\x00", 30000)+strings.Repeat("x", 1<<16-35000))
		p.check("fsync", p.s.Fsync(fd), nil)
		p.that("no space given back", p.fstat(fd).Bytes <= 1<<16-6*4096)
	}},
	Case{Name: "punch inside a page", Needs: "punch", Run: func(p *P) {
		p.file("f", "abcdefgh")
		fd := p.open("f", rdwr, 0)
		p.check("punch", p.s.Punch(fd, 2, 3), nil)
		p.holds("f", "ab\x00\x00\x00fgh")
	}},
	Case{Name: "punch behind the end", Needs: "punch", Run: func(p *P) {
		p.file("f", "abc")
		fd := p.open("f", rdwr, 0)
		p.check("punch", p.s.Punch(fd, 1, 1<<30), nil)
		p.check("punch", p.s.Punch(fd, 1<<30, 1<<30), nil)
		p.holds("f", "a\x00\x00")
	}},
	Case{Name: "a punched hole is found", Needs: "punch holes", Run: func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.write(fd, strings.Repeat("x", 1<<20))
		p.check("punch", p.s.Punch(fd, 1<<18, 1<<18), nil)
		eq(p, "hole", p.seek(fd, 0, abi.SEEK_HOLE), 1<<18)
		eq(p, "data", p.seek(fd, 1<<18, abi.SEEK_DATA), 1<<19)
		p.pwrite(fd, "back", 1<<18)
		eq(p, "contents", p.pread(fd, 5, 1<<18), "back\x00")
	}},
	Case{Name: "punch changes the times", Needs: "punch", Run: func(p *P) {
		p.file("f", "abcdef")
		fd := p.open("f", rdwr, 0)
		p.old("f")
		p.check("punch", p.s.Punch(fd, 0, 3), nil)
		p.changed("f", "mc")
	}},
)
