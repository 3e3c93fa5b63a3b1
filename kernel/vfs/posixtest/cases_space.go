package posixtest

import (
	"fmt"
	"path"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// small runs fn in an empty directory of the small file system.
func small(name string, fn func(p *P)) Case {
	return Case{Name: name, Needs: "small", Run: func(p *P) {
		dir := path.Join(p.w.Small, "d")
		p.mkdir(dir, 0o755)
		p.chdir(dir)
		fn(p)
		for _, fd := range p.opened { // the end of a process may come later
			p.s.Close(fd)
		}
		p.chdir(p.dir)
		p.clear(dir)
		p.rmdir(dir)
	}}
}

// clear removes what is in a directory.
func (p *P) clear(dir string) {
	p.t.Helper()
	for _, n := range p.ls(dir) {
		n = path.Join(dir, n)
		if p.lstat(n).Type == abi.VDIR {
			p.clear(n)
			p.rmdir(n)
		} else {
			p.unlink(n)
		}
	}
}

// fill writes until there is no space and answers how much was written.
func (p *P) fill(fd int) int64 {
	p.t.Helper()
	data := []byte(strings.Repeat("x", 65536))
	total := int64(0)
	for {
		n, err := p.s.Write(fd, data)
		if abi.ErrnoOf(err) == abi.ENOSPC {
			return total
		}
		p.check("write", err, nil)
		p.that("nothing was written without an error", n > 0)
		if total += int64(n); total > 1<<28 {
			p.t.Fatal("no end of space")
		}
	}
}

var _ = group("space",
	small("writes end with ENOSPC", func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		n := p.fill(fd)
		eq(p, "size", p.fstat(fd).Size, n)
		p.write(fd, strings.Repeat("x", 8192), abi.ENOSPC)
		eq(p, "size", p.fstat(fd).Size, n)
		p.that("contents", p.pread(fd, 100, n-100) == strings.Repeat("x", 100))
		p.pwrite(fd, "y", 5) // what has space needs none
		p.ftruncate(fd, n/2)
		p.pwrite(fd, strings.Repeat("z", 8192), n/2)
	}),
	small("space comes back with the last close", func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		n := p.fill(fd)
		p.unlink("f")
		g := p.open("g", creat|rdwr, 0o644)
		p.write(g, strings.Repeat("x", 65536), abi.ENOSPC)
		p.close(fd)
		p.that("not all came back", p.fill(g) >= n-65536)
	}),
	small("a hole needs no space until it is written", func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		p.ftruncate(fd, 1<<28)
		p.pwrite(fd, "x", 1<<27)
		g := p.open("g", creat|rdwr, 0o644)
		p.fill(g)
		p.pwrite(fd, "x", 1<<26, abi.ENOSPC)
		eq(p, "read", p.pread(fd, 1, 1<<26), "\x00")
	}),
	small("fallocate", func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		// Only here: on a large file system this would take all that others have.
		p.check("fallocate", p.s.Fallocate(fd, 0, 1<<28), []any{abi.ENOSPC})
		p.check("fallocate", p.s.Fallocate(fd, 0, 1<<55), []any{either(abi.ENOSPC, abi.EFBIG)})
		eq(p, "size", p.fstat(fd).Size, 0)
		p.check("fallocate", p.s.Fallocate(fd, 0, 300000), nil)
		g := p.open("g", creat|rdwr, 0o644)
		p.fill(g)
		p.pwrite(fd, strings.Repeat("x", 300000), 0)
	}),
	small("punch gives space back", func(p *P) {
		fd := p.open("f", creat|rdwr, 0o644)
		n := p.fill(fd)
		p.check("punch", p.s.Punch(fd, 0, n), nil)
		g := p.open("g", creat|rdwr, 0o644)
		p.that("not all came back", p.fill(g) >= n-65536)
	}),
	small("statvfs", func(p *P) {
		before, err := p.s.Statvfs(".")
		p.check("statvfs", err, nil)
		p.that("no numbers", before.Blocks > 0 && before.Bfree > 0 && before.Bfree <= before.Blocks && before.Bavail <= before.Bfree)
		fd := p.open("f", creat|rdwr, 0o644)
		p.fill(fd)
		after, err := p.s.Statvfs(".")
		p.check("statvfs", err, nil)
		p.that("still much free", after.Bfree*after.Frsize < 8192)
	}),
	Case{Name: "statvfs of a path", Run: func(p *P) {
		sv, err := p.s.Statvfs(".")
		p.check("statvfs", err, nil)
		p.that("no block size", sv.Frsize > 0 && sv.Bsize > 0)
		eq(p, "longest name", sv.Namemax, 255)
		_, err = p.s.Statvfs("none")
		p.check("statvfs", err, []any{abi.ENOENT})
	}},
	Case{Name: "numbers are not used twice", Run: func(p *P) {
		seen := map[abi.Fileid]string{}
		for i := range 100 {
			n := fmt.Sprint(i)
			p.file(n, "")
			id := p.stat(n).Fileid
			if was := seen[id]; was != "" {
				p.t.Fatalf("%s and %s have number %d", was, n, id)
			}
			seen[id] = n
		}
	}},
)
