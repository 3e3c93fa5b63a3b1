package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// rump is a client of a kernel of ours, embedded or remote.
type rump struct {
	c    *rumpclient.Client
	pure bool // with its modules in this process
}

var bg = context.Background()

// Where the kernel's files are. Each caller has a file of largeIO bytes below
// the directories but many.
const (
	hitDir   = "/bench/d" // tmpfs, cached
	crossDir = "/x/d"     // tmpfs that the kernel must not cache
	hostDir  = "/host/d"  // hostfs
	manyDir  = "/bench/many"
)

// populate makes the files below some of the directories. The mounts are there.
func populate(c *rumpclient.Client, dirs ...string) error {
	data := pattern(largeIO)
	for _, dir := range dirs {
		if err := c.MkdirAll(bg, dir, 0o755); err != nil {
			return err
		}
		for i := range maxCallers {
			p := data
			switch dir {
			case crossDir:
				p = nil // its contents would be the kernel's
			case manyDir:
				continue
			}
			if err := c.WriteFile(bg, name(dir+"/f", i), p, 0o644); err != nil {
				return err
			}
		}
	}
	for i := range dirEntries {
		if !slices.Contains(dirs, manyDir) {
			break
		}
		if err := c.WriteFile(bg, name(manyDir+"/f", i), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r rump) bind(op string, caller int) (func() error, func(), error) {
	if _, ok := diskOps[op]; ok {
		return r.bindDisk(op, caller)
	}
	switch op {
	case opXTS1M:
		if r.pure {
			return bindXTS()
		}
		return nil, nil, errAbsent
	case opStatX, opOpenX:
		return r.bindFile(op, name(crossDir+"/f", caller))
	case opPreadX, opPwriteX:
		return r.bindFile(op, name(hostDir+"/f", caller))
	case opTCPRTT, opTCPBulk:
		return bindTCP(op, func() (net.Listener, error) { return r.c.Listen(bg, "tcp", "127.0.0.1:0") },
			func(addr string) (net.Conn, error) { return r.c.Dial(bg, "tcp", addr) })
	case opPipeRTT, opPipeBulk, opUnixRTT, opUnixBulk, opPollRTT, opKqRTT:
		return bindIPC(op, rumpFds{r.c})
	}
	return r.bindFile(op, name(hitDir+"/f", caller))
}

func (r rump) bindFile(op, path string) (func() error, func(), error) {
	c, tmp := r.c, path+".new"
	switch op {
	case opGetpid:
		return func() error { _, err := c.Getpid(bg); return err }, nil, nil
	case opStat, opStatX:
		return func() error { _, err := c.Stat(bg, path); return err }, nil, nil
	case opOpen, opOpenX:
		return func() error {
			fd, err := c.Open(bg, path, abi.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return c.Close(bg, fd)
		}, nil, nil
	case opCreate:
		return func() error {
			fd, err := c.Open(bg, tmp, abi.O_WRONLY|abi.O_CREAT|abi.O_EXCL, 0o644)
			if err == nil {
				err = c.Close(bg, fd)
			}
			if err != nil {
				return err
			}
			return c.Unlink(bg, tmp)
		}, nil, nil
	case opMkdir:
		return func() error {
			if err := c.Mkdir(bg, tmp, 0o755); err != nil {
				return err
			}
			return c.Rmdir(bg, tmp)
		}, nil, nil
	case opReaddir:
		return r.bindReaddir()
	}
	fd, err := c.Open(bg, path, abi.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	done := func() { c.Close(bg, fd) }
	want := smallIO
	step := c.Pread
	switch op {
	case opPread, opPreadX:
	case opPwrite, opPwriteX:
		step = c.Pwrite
	case opRead1M:
		want = largeIO
	case opWrite1M:
		want, step = largeIO, c.Pwrite
	default:
		done()
		return nil, nil, errAbsent
	}
	buf := make([]byte, want)
	return func() error {
		n, err := step(bg, fd, buf, 0)
		return whole(n, want, err)
	}, done, nil
}

// whole makes an error of a piece.
func whole(n, want int, err error) error {
	if err == nil && n != want {
		err = fmt.Errorf("%d bytes of %d: %w", n, want, io.ErrShortBuffer)
	}
	return err
}

// bindReaddir lists the directory through one descriptor, from its start each
// time, into the same buffer, without looking at the entries.
func (r rump) bindReaddir() (func() error, func(), error) {
	fd, err := r.c.Open(bg, manyDir, abi.O_RDONLY|abi.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, bulkIO)
	return func() error {
		if _, err := r.c.Lseek(bg, fd, 0, io.SeekStart); err != nil {
			return err
		}
		for total := 0; ; {
			a := abi.Sysargs{Out: buf}
			a.SetInt(0, fd)
			if err := r.c.Syscall(bg, abi.SYS_getdents, &a); err != nil {
				return err
			}
			if a.NO == 0 {
				return enough(total)
			}
			total += a.NO
		}
	}, func() { r.c.Close(bg, fd) }, nil
}

// enough checks that a listing was one of dirEntries entries.
func enough(bytes int) error {
	if bytes < dirEntries*len("f1") {
		return fmt.Errorf("a listing of %d bytes: %w", bytes, io.ErrUnexpectedEOF)
	}
	return nil
}

// bindTCP makes a connection to an echo, or to a sink, in the same process.
func bindTCP(op string, listen func() (net.Listener, error), dial func(addr string) (net.Conn, error)) (func() error, func(), error) {
	l, err := listen()
	if err != nil {
		return nil, nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		peer, err := l.Accept()
		if err != nil {
			return
		}
		defer peer.Close()
		if op == opTCPBulk {
			// No io.Copy: Linux would splice.
			for buf := make([]byte, largeIO); err == nil; {
				_, err = peer.Read(buf)
			}
			return
		}
		for buf := make([]byte, 1); err == nil; {
			if _, err = io.ReadFull(peer, buf); err == nil {
				_, err = peer.Write(buf)
			}
		}
	}()
	c, err := dial(l.Addr().String())
	if err != nil {
		l.Close()
		<-served
		return nil, nil, err
	}
	done := func() { c.Close(); l.Close(); <-served }
	if op == opTCPBulk {
		buf := make([]byte, bulkIO)
		return func() error { n, err := c.Write(buf); return whole(n, bulkIO, err) }, done, nil
	}
	one := make([]byte, 1)
	return func() error {
		if _, err := c.Write(one); err != nil {
			return err
		}
		_, err := io.ReadFull(c, one)
		return err
	}, done, nil
}
