package main

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linux is a directory of the host: on tmpfs, or on FUSE.
type linux struct {
	dir   string // files f0 to f3 of largeIO bytes, many/
	cross string // the same without caches, for crossings; "" = dir
	raw   bool   // raw system calls: never towards FUSE, which may wait for us
	files bool   // no getpid and no TCP
}

// newTmpfs makes the directory on /dev/shm.
func newTmpfs(dir string) (*linux, error) {
	if err := os.MkdirAll(dir+"/d/many", 0o755); err != nil {
		return nil, err
	}
	if _, err := makeDisk(dir + "/d"); err != nil {
		return nil, err
	}
	data := pattern(largeIO)
	for i := range maxCallers {
		if err := os.WriteFile(name(dir+"/d/f", i), data, 0o644); err != nil {
			return nil, err
		}
	}
	for i := range dirEntries {
		if err := os.WriteFile(name(dir+"/d/many/f", i), nil, 0o644); err != nil {
			return nil, err
		}
	}
	return &linux{dir: dir + "/d", raw: true}, nil
}

// sys makes a system call, and an error of its result.
func (l *linux) sys(num uintptr, a, b, c, d uintptr) (int, error) {
	var r uintptr
	var e unix.Errno
	if l.raw {
		r, _, e = unix.RawSyscall6(num, a, b, c, d, 0, 0)
	} else {
		r, _, e = unix.Syscall6(num, a, b, c, d, 0, 0)
	}
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

func ptr(s string) (uintptr, *byte) {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err) // our own names have no NUL
	}
	return uintptr(unsafe.Pointer(p)), p
}

func (l *linux) bind(op string, caller int) (func() error, func(), error) {
	dir := l.dir
	if _, ok := diskOps[op]; ok || op == opXTS1M {
		return l.bindDisk(op, caller)
	}
	if hit, ok := hitOf[op]; ok {
		if op = hit; l.cross != "" {
			dir = l.cross
		}
	}
	switch op {
	case opGetpid:
		if l.files {
			return nil, nil, errAbsent
		}
		return func() error { _, err := l.sys(unix.SYS_GETPID, 0, 0, 0, 0); return err }, nil, nil
	case opTCPRTT, opTCPBulk:
		if l.files {
			return nil, nil, errAbsent
		}
		return bindTCP(op, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
			func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) })
	case opPipeRTT, opPipeBulk, opUnixRTT, opUnixBulk, opPollRTT, opKqRTT:
		if l.files {
			return nil, nil, errAbsent
		}
		return bindIPC(op, linuxFds{})
	case opCreate, opMkdir:
		return l.bindName(op, name(dir+"/new", caller))
	case opReaddir:
		return l.bindReaddir(dir + "/many")
	}
	path := name(dir+"/f", caller)
	if op == opStat || op == opOpen {
		return l.bindName(op, path)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	num, want := uintptr(unix.SYS_PREAD64), smallIO
	switch op {
	case opPread:
	case opPwrite:
		num = unix.SYS_PWRITE64
	case opRead1M:
		want = largeIO
	case opWrite1M:
		num, want = unix.SYS_PWRITE64, largeIO
	}
	// Memory of the host, not of Go: a raw system call gets its address.
	buf, err := unix.Mmap(-1, 0, largeIO, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	for i := range buf {
		buf[i] = 1 // present
	}
	p := uintptr(unsafe.Pointer(&buf[0]))
	return func() error {
		n, err := l.sys(num, uintptr(fd), p, uintptr(want), 0)
		return whole(n, want, err)
	}, func() { unix.Munmap(buf); unix.Close(fd) }, nil
}

// bindName binds operations on a path.
func (l *linux) bindName(op, path string) (func() error, func(), error) {
	p, keep := ptr(path)
	st := new(unix.Stat_t)
	at := unix.AT_FDCWD
	cwd := uintptr(at)
	open := func(flags, mode uintptr) error {
		fd, err := l.sys(unix.SYS_OPENAT, cwd, p, flags|unix.O_CLOEXEC, mode)
		if err == nil {
			_, err = l.sys(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0)
		}
		return err
	}
	done := func() { _ = *keep } // p stays valid until here: Go does not move heap objects
	switch op {
	case opStat:
		q := uintptr(unsafe.Pointer(st))
		return func() error {
			_, err := l.sys(unix.SYS_NEWFSTATAT, cwd, p, q, 0)
			return err
		}, func() { _, _ = *keep, *st }, nil
	case opOpen:
		return func() error { return open(unix.O_RDONLY, 0) }, done, nil
	case opCreate:
		return func() error {
			if err := open(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644); err != nil {
				return err
			}
			_, err := l.sys(unix.SYS_UNLINKAT, cwd, p, 0, 0)
			return err
		}, done, nil
	case opMkdir:
		return func() error {
			if _, err := l.sys(unix.SYS_MKDIRAT, cwd, p, 0o755, 0); err != nil {
				return err
			}
			_, err := l.sys(unix.SYS_UNLINKAT, cwd, p, unix.AT_REMOVEDIR, 0)
			return err
		}, done, nil
	}
	return nil, nil, errAbsent
}

// bindReaddir is rump.bindReaddir with Linux's calls.
func (l *linux) bindReaddir(path string) (func() error, func(), error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	buf := make([]byte, bulkIO)
	return func() error {
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
		for total := 0; ; {
			n, err := unix.Getdents(fd, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				return enough(total)
			}
			total += n
		}
	}, func() { unix.Close(fd) }, nil
}
