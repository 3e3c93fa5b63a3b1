package main

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fds are the descriptors of Linux or of a kernel of ours. Calls wait in the
// goroutine that makes them.
type fds interface {
	pipe() (r, w int, err error)
	pair() (a, b int, err error)
	read(fd int, p []byte) (int, error)
	write(fd int, p []byte) (int, error)
	close(fd int)
	// ready prepares waiting until fd can be read, by poll or by kqueue (epoll).
	ready(fd int, queue bool) (wait func() error, done func(), err error)
}

// bindIPC makes two goroutines that talk: this one and an echo or a sink. In a
// round trip of poll and of kqueue each side waits for its descriptor before it
// reads, so that it has two wake-ups and eight calls.
func bindIPC(op string, f fds) (func() error, func(), error) {
	var undo []func()
	end := func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	fail := func(err error) (func() error, func(), error) { end(); return nil, nil, err }
	// Ours to read and to write, and the other side's.
	var r, w, or, ow int
	var err error
	if op == opUnixRTT || op == opUnixBulk {
		if r, or, err = f.pair(); err != nil {
			return fail(err)
		}
		w, ow = r, or
		undo = append(undo, func() { f.close(or) })
	} else {
		if or, w, err = f.pipe(); err != nil {
			return fail(err)
		}
		undo = append(undo, func() { f.close(or) })
		if r, ow, err = f.pipe(); err != nil {
			f.close(w)
			return fail(err)
		}
		undo = append(undo, func() { f.close(r) }, func() { f.close(ow) })
	}
	hangUp := sync.OnceFunc(func() { f.close(w) }) // what ends the other side
	undo = append(undo, hangUp)
	nothing := func() error { return nil }
	wait, owait := nothing, nothing
	if op == opPollRTT || op == opKqRTT {
		for _, side := range []struct {
			fd   int
			wait *func() error
		}{{r, &wait}, {or, &owait}} {
			fn, done, err := f.ready(side.fd, op == opKqRTT)
			if err != nil {
				return fail(err)
			}
			*side.wait = fn
			undo = append(undo, done)
		}
	}
	over := make(chan struct{})
	go func() { // until the last byte: our end is closed
		defer close(over)
		if oneWay[op] {
			for buf := make([]byte, bulkIO); ; {
				if n, err := f.read(or, buf); n == 0 || err != nil {
					return
				}
			}
		}
		for buf := make([]byte, 1); ; {
			if owait() != nil {
				return
			}
			if n, err := f.read(or, buf); n == 0 || err != nil {
				return
			}
			if n, err := f.write(ow, buf); n == 0 || err != nil {
				return
			}
		}
	}()
	done := func() { hangUp(); <-over; end() }
	if oneWay[op] {
		buf := pattern(bulkIO)
		return func() error {
			for sent := 0; sent < len(buf); {
				n, err := f.write(w, buf[sent:])
				if err != nil {
					return err
				}
				sent += n
			}
			return nil
		}, done, nil
	}
	one := make([]byte, 1)
	return func() error {
		if n, err := f.write(w, one); n != 1 || err != nil {
			return whole(n, 1, err)
		}
		if err := wait(); err != nil {
			return err
		}
		n, err := f.read(r, one)
		if n == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		return err
	}, done, nil
}

// linuxFds are the host's, with calls that wait in a thread.
type linuxFds struct{}

func (linuxFds) pipe() (int, int, error) {
	var p [2]int
	err := unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], p[1], err
}

func (linuxFds) pair() (int, int, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return p[0], p[1], err
}

func (linuxFds) read(fd int, p []byte) (int, error)  { return again(unix.Read, fd, p) }
func (linuxFds) write(fd int, p []byte) (int, error) { return again(unix.Write, fd, p) }
func (linuxFds) close(fd int)                        { unix.Close(fd) }

func again(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		if n, err := call(fd, p); err != unix.EINTR {
			return n, err
		}
	}
}

func (linuxFds) ready(fd int, queue bool) (func() error, func(), error) {
	if !queue {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		return func() error {
			_, err := unix.Poll(set, -1)
			for err == unix.EINTR {
				_, err = unix.Poll(set, -1)
			}
			return err
		}, func() {}, nil
	}
	q, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(q, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		unix.Close(q)
		return nil, nil, err
	}
	got := make([]unix.EpollEvent, 1)
	return func() error {
		_, err := unix.EpollWait(q, got, -1)
		for err == unix.EINTR {
			_, err = unix.EpollWait(q, got, -1)
		}
		return err
	}, func() { unix.Close(q) }, nil
}

// rumpFds are a kernel's of ours.
type rumpFds struct{ c *rumpclient.Client }

func (f rumpFds) pipe() (int, int, error) { return f.c.Pipe2(bg, 0) }

func (f rumpFds) pair() (int, int, error) {
	return f.c.Socketpair(bg, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
}

func (f rumpFds) read(fd int, p []byte) (int, error)  { return f.c.Read(bg, fd, p) }
func (f rumpFds) write(fd int, p []byte) (int, error) { return f.c.Write(bg, fd, p) }
func (f rumpFds) close(fd int)                        { f.c.Close(bg, fd) }

func (f rumpFds) ready(fd int, queue bool) (func() error, func(), error) {
	if !queue {
		set := []abi.Pollfd{{Fd: int32(fd), Events: abi.POLLIN}}
		return func() error { _, err := f.c.Poll(bg, set, abi.INFTIM); return err }, func() {}, nil
	}
	q, err := f.c.Kqueue(bg)
	if err != nil {
		return nil, nil, err
	}
	add := []abi.Kevent{{Ident: uint64(fd), Filter: abi.EVFILT_READ, Flags: abi.EV_ADD}}
	if _, err := f.c.Kevent(bg, q, add, nil, 0); err != nil {
		f.c.Close(bg, q)
		return nil, nil, err
	}
	got := make([]abi.Kevent, 1)
	return func() error {
		_, err := f.c.Kevent(context.Background(), q, nil, got, -time.Nanosecond)
		return err
	}, func() { f.c.Close(bg, q) }, nil
}
