package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/xts"
)

// The operations on devices: raw nodes, past the cache. md is a memory disk of
// the dev component, so that each is a crossing; etfs is an image of the host
// on the file system that Linux's peer of both is: pread and pwrite of a file
// of the same size. Places are random, multiples of the length.
const (
	opZero1M  = "read 1M /dev/zero"
	opMd4K    = "md pread 4K"
	opMd1M    = "md pread 1M"
	opEtfs4K  = "etfs pread 4K"
	opEtfs4KW = "etfs pwrite 4K"
	opEtfs1M  = "etfs pread 1M"
	opXTS1M   = "aes-256-xts 1M" // of cgd; in this process only
)

// diskBytes is how large disks are.
const diskBytes = 16 << 20

// diskNames are where a kernel has its disks.
const (
	diskMd   = "/dev/rmd0"
	diskEtfs = "/dev/rdisk0"
	diskFile = "disk.img" // of the host, in the directory granted
)

// diskOp is one of them.
type diskOp struct {
	node  string // in the kernel
	n     int    // bytes
	write bool
	whole bool // from the start each time
}

var diskOps = map[string]diskOp{
	opZero1M:  {node: "/dev/zero", n: largeIO, whole: true},
	opMd4K:    {node: diskMd, n: smallIO},
	opMd1M:    {node: diskMd, n: largeIO},
	opEtfs4K:  {node: diskEtfs, n: smallIO},
	opEtfs4KW: {node: diskEtfs, n: smallIO, write: true},
	opEtfs1M:  {node: diskEtfs, n: largeIO},
}

// makeDisk makes the image in a directory of the host.
func makeDisk(dir string) (string, error) {
	img := dir + "/" + diskFile
	data := pattern(largeIO)
	f, err := os.OpenFile(img, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	for off := int64(0); off < diskBytes && err == nil; off += largeIO {
		_, err = f.WriteAt(data, off)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return img, err
}

// places answers where each transfer goes.
func (d diskOp) places(caller int) func() int64 {
	if d.whole {
		return func() int64 { return 0 }
	}
	r := rand.New(rand.NewPCG(uint64(caller), 3))
	return func() int64 { return r.Int64N(diskBytes/int64(d.n)) * int64(d.n) }
}

// bindDisk binds an operation on a node of a kernel.
func (r rump) bindDisk(op string, caller int) (func() error, func(), error) {
	d, ok := diskOps[op]
	if !ok {
		return nil, nil, errAbsent
	}
	flags, step := abi.O_RDONLY, r.c.Pread
	if d.write {
		flags, step = abi.O_RDWR, r.c.Pwrite
	}
	fd, err := r.c.Open(bg, d.node, flags, 0)
	if err != nil {
		return nil, nil, err
	}
	buf, at := pattern(d.n), d.places(caller)
	return func() error {
		n, err := step(bg, fd, buf, at())
		return whole(n, d.n, err)
	}, func() { r.c.Close(bg, fd) }, nil
}

// bindDisk is the same with Linux's calls.
func (l *linux) bindDisk(op string, caller int) (func() error, func(), error) {
	d, ok := diskOps[op]
	if !ok || l.files {
		return nil, nil, errAbsent
	}
	path := l.dir + "/" + diskFile
	if d.whole {
		path = d.node
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	buf, err := unix.Mmap(-1, 0, d.n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	for i := range buf {
		buf[i] = 1 // present
	}
	num := uintptr(unix.SYS_PREAD64)
	if d.write {
		num = unix.SYS_PWRITE64
	}
	p, at := uintptr(unsafe.Pointer(&buf[0])), d.places(caller)
	return func() error {
		n, err := l.sys(num, uintptr(fd), p, uintptr(d.n), uintptr(at()))
		for err == nil && d.whole && n < d.n { // a signal ends a read of /dev/zero
			var k int
			k, err = l.sys(num, uintptr(fd), p+uintptr(n), uintptr(d.n-n), 0)
			n += k
		}
		return whole(n, d.n, err)
	}, func() { unix.Munmap(buf); unix.Close(fd) }, nil
}

// bindXTS encrypts 1 MiB in sectors of 512 bytes.
func bindXTS() (func() error, func(), error) {
	c, err := xts.New(pattern(64))
	if err != nil {
		return nil, nil, err
	}
	buf := pattern(largeIO)
	return func() error { c.Encrypt(buf, buf, 0, 1, 512); return nil }, nil, nil
}
