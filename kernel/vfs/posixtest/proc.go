package posixtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// P is a process in a case: Sys with the errors checked. Paths are relative to
// the directory of the case. The last arguments of most methods say which
// error is right: none means success, otherwise an abi.Errno, or what differ or
// either make.
type P struct {
	t   *testing.T
	w   *World
	s   Sys
	dir string // of the case, as the first process sees it

	opened []int                   // descriptors, some of them closed since
	ctimes map[string]abi.Timespec // by old
}

func newP(t *testing.T, w *World, uid, gid uint32, groups ...uint32) *P {
	s := w.New(uid, gid, groups...)
	t.Cleanup(s.Exit)
	return &P{t: t, w: w, s: s}
}

// as is a process of another user in the directory of the case.
func (p *P) as(uid, gid uint32, groups ...uint32) *P {
	p.t.Helper()
	q := newP(p.t, p.w, uid, gid, groups...)
	q.dir = p.dir
	q.check("umask", second(q.s.Umask(0o022)), nil)
	q.check("chdir", q.s.Chdir(p.dir), nil)
	return q
}

// again is another process of the same user.
func (p *P) again() *P {
	p.t.Helper()
	return p.as(0, 0)
}

// differs is an answer that is not the same everywhere.
type differs struct{ bsd, linux, fuse abi.Errno }

// differ is an answer that NetBSD and Linux give differently, for a reason.
func differ(bsd, linux abi.Errno, why string) any { return differs{bsd, linux, linux} }

// differ3 is differ where what comes through FUSE is this kernel's own answer.
func differ3(bsd, linux, fuse abi.Errno, why string) any { return differs{bsd, linux, fuse} }

// either are answers that POSIX both allows.
func either(es ...abi.Errno) any { return es }

// bsd says that this kernel's own rules hold; they do for what it decides behind
// FUSE as well.
func (p *P) bsd() bool { return p.w.Kind != Linux }

func (p *P) check(what string, err error, want []any) {
	p.t.Helper()
	got := abi.ErrnoOf(err)
	var ok []abi.Errno
	for _, w := range want {
		switch w := w.(type) {
		case abi.Errno:
			ok = append(ok, w)
		case []abi.Errno:
			ok = append(ok, w...)
		case differs:
			ok = append(ok, [...]abi.Errno{BSD: w.bsd, Linux: w.linux, FUSE: w.fuse}[p.w.Kind])
		default:
			p.t.Fatalf("%s: %T is no answer", what, w)
		}
	}
	if len(ok) == 0 {
		ok = append(ok, 0)
	}
	var names []string
	for _, e := range ok {
		if got == e {
			return
		}
		names = append(names, name(e))
	}
	p.t.Fatalf("%s: %s, want %s", what, name(got), strings.Join(names, " or "))
}

func name(e abi.Errno) string {
	if e == 0 {
		return "success"
	}
	return e.Name()
}

// eq compares.
func eq[T comparable](p *P, what string, got, want T) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func (p *P) that(what string, ok bool) {
	p.t.Helper()
	if !ok {
		p.t.Fatal(what)
	}
}

const cwd = abi.AT_FDCWD

func (p *P) open(path string, flags int, mode uint32, want ...any) int {
	p.t.Helper()
	return p.openat(cwd, path, flags, mode, want...)
}

func (p *P) openat(fd int, path string, flags int, mode uint32, want ...any) int {
	p.t.Helper()
	n, err := p.s.Openat(fd, path, flags, mode)
	p.check(fmt.Sprintf("open %s %#x", short(path), flags), err, want)
	if err == nil {
		p.opened = append(p.opened, n)
	}
	return n
}

// short cuts a long name for a message.
func short(s string) string {
	if len(s) > 60 {
		return s[:50] + "..."
	}
	return s
}

func (p *P) close(fd int, want ...any) {
	p.t.Helper()
	p.check("close", p.s.Close(fd), want)
}

// file makes a file with contents, mode 0644.
func (p *P) file(path, data string) {
	p.t.Helper()
	fd := p.open(path, abi.O_CREAT|abi.O_TRUNC|abi.O_WRONLY, 0o644)
	if data != "" {
		p.write(fd, data)
	}
	p.close(fd)
}

func (p *P) write(fd int, data string, want ...any) {
	p.t.Helper()
	n, err := p.s.Write(fd, []byte(data))
	p.check("write", err, want)
	if err == nil && n != len(data) {
		p.t.Fatalf("wrote %d of %d", n, len(data))
	}
}

func (p *P) pwrite(fd int, data string, off int64, want ...any) {
	p.t.Helper()
	n, err := p.s.Pwrite(fd, []byte(data), off)
	p.check("pwrite", err, want)
	if err == nil && n != len(data) {
		p.t.Fatalf("wrote %d of %d", n, len(data))
	}
}

func (p *P) read(fd, n int, want ...any) string {
	p.t.Helper()
	b := make([]byte, n)
	got, err := p.s.Read(fd, b)
	p.check("read", err, want)
	return string(b[:max(got, 0)])
}

func (p *P) pread(fd, n int, off int64, want ...any) string {
	p.t.Helper()
	b := make([]byte, n)
	got, err := p.s.Pread(fd, b, off)
	p.check("pread", err, want)
	return string(b[:max(got, 0)])
}

// holds checks the contents of a file by its name.
func (p *P) holds(path, want string) {
	p.t.Helper()
	fd := p.open(path, abi.O_RDONLY, 0)
	got := p.pread(fd, len(want)+100, 0)
	p.close(fd)
	if got != want {
		p.t.Fatalf("%s has %q, want %q", path, short(got), short(want))
	}
}

func (p *P) seek(fd int, off int64, whence int, want ...any) int64 {
	p.t.Helper()
	n, err := p.s.Lseek(fd, off, whence)
	p.check(fmt.Sprintf("lseek %d %d", off, whence), err, want)
	return n
}

func (p *P) stat(path string, want ...any) abi.Stat {
	p.t.Helper()
	st, err := p.s.Fstatat(cwd, path, 0)
	p.check("stat "+short(path), err, want)
	return st
}

func (p *P) lstat(path string, want ...any) abi.Stat {
	p.t.Helper()
	st, err := p.s.Fstatat(cwd, path, abi.AT_SYMLINK_NOFOLLOW)
	p.check("lstat "+short(path), err, want)
	return st
}

func (p *P) fstat(fd int, want ...any) abi.Stat {
	p.t.Helper()
	st, err := p.s.Fstat(fd)
	p.check("fstat", err, want)
	return st
}

func (p *P) mkdir(path string, mode uint32, want ...any) {
	p.t.Helper()
	p.check("mkdir "+short(path), p.s.Mkdirat(cwd, path, mode), want)
}

func (p *P) rmdir(path string, want ...any) {
	p.t.Helper()
	p.check("rmdir "+short(path), p.s.Unlinkat(cwd, path, abi.AT_REMOVEDIR), want)
}

func (p *P) unlink(path string, want ...any) {
	p.t.Helper()
	p.check("unlink "+short(path), p.s.Unlinkat(cwd, path, 0), want)
}

func (p *P) rename(from, to string, want ...any) {
	p.t.Helper()
	p.check("rename "+short(from)+" "+short(to), p.s.Renameat(cwd, from, cwd, to, 0), want)
}

func (p *P) rename2(from, to string, flags int, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("rename %s %s %#x", short(from), short(to), flags), p.s.Renameat(cwd, from, cwd, to, flags), want)
}

func (p *P) link(from, to string, want ...any) {
	p.t.Helper()
	p.check("link "+short(from)+" "+short(to), p.s.Linkat(cwd, from, cwd, to, 0), want)
}

func (p *P) symlink(target, path string, want ...any) {
	p.t.Helper()
	p.check("symlink "+short(path), p.s.Symlinkat(target, cwd, path), want)
}

func (p *P) readlink(path string, want ...any) string {
	p.t.Helper()
	s, err := p.s.Readlinkat(cwd, path)
	p.check("readlink "+short(path), err, want)
	return s
}

func (p *P) mkfifo(path string, mode uint32, want ...any) {
	p.t.Helper()
	p.check("mkfifo "+short(path), p.s.Mkfifoat(cwd, path, mode), want)
}

func (p *P) mknod(path string, mode uint32, dev abi.Dev, want ...any) {
	p.t.Helper()
	p.check("mknod "+short(path), p.s.Mknodat(cwd, path, mode, dev), want)
}

func (p *P) chmod(path string, mode uint32, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("chmod %s %o", short(path), mode), p.s.Fchmodat(cwd, path, mode, 0), want)
}

func (p *P) chown(path string, uid, gid int, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("chown %s %d:%d", short(path), uid, gid), p.s.Fchownat(cwd, path, uid, gid, 0), want)
}

func (p *P) utimens(path string, atime, mtime abi.Timespec, want ...any) {
	p.t.Helper()
	p.check("utimensat "+short(path), p.s.Utimensat(cwd, path, atime, mtime, 0), want)
}

func (p *P) access(path string, mode int, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("access %s %o", short(path), mode), p.s.Faccessat(cwd, path, mode, 0), want)
}

func (p *P) truncate(path string, size int64, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("truncate %s %d", short(path), size), p.s.Truncate(path, size), want)
}

func (p *P) ftruncate(fd int, size int64, want ...any) {
	p.t.Helper()
	p.check(fmt.Sprintf("ftruncate %d", size), p.s.Ftruncate(fd, size), want)
}

func (p *P) chdir(path string, want ...any) {
	p.t.Helper()
	p.check("chdir "+short(path), p.s.Chdir(path), want)
}

func (p *P) dirfd(path string) int {
	p.t.Helper()
	return p.open(path, abi.O_RDONLY|abi.O_DIRECTORY, 0)
}

// gone checks that a name is not there.
func (p *P) gone(path string) {
	p.t.Helper()
	p.lstat(path, abi.ENOENT)
}

// ls lists a directory, without "." and "..".
func (p *P) ls(path string) []string {
	p.t.Helper()
	fd := p.dirfd(path)
	defer p.close(fd)
	return p.list(fd, 4096)
}

// list reads on in an open directory, size bytes at a time.
func (p *P) list(fd, size int) []string {
	p.t.Helper()
	var names []string
	buf := make([]byte, size)
	for {
		ds, err := p.s.Getdents(fd, buf)
		p.check("getdents", err, nil)
		if len(ds) == 0 {
			return names
		}
		for _, d := range ds {
			if d.Name != "." && d.Name != ".." {
				names = append(names, d.Name)
			}
		}
	}
}

func (p *P) mode(path string, want uint32) {
	p.t.Helper()
	if st := p.lstat(path); st.Mode&0o7777 != want {
		p.t.Fatalf("mode of %s is %o, want %o", short(path), st.Mode&0o7777, want)
	}
}

func (p *P) nlink(path string, want uint32) {
	p.t.Helper()
	eq(p, "links of "+path, p.lstat(path).Nlink, want)
}

func (p *P) owner(path string, uid, gid uint32) {
	p.t.Helper()
	st := p.lstat(path)
	if st.Uid != uid || st.Gid != gid {
		p.t.Fatalf("owner of %s is %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}
