package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The users of what does not come back whole: sockets, character devices, a
// directory of the host. They know when a component was hurt, and what may be
// answered then.

// hurt says since when a component may answer errors: a counter that is odd while
// a fault is under way.
type hurt struct{ n atomic.Int64 }

func (h *hurt) begin() { h.n.Add(1) }
func (h *hurt) end()   { h.n.Add(1) }

// since reports whether there was a fault since was.
func (h *hurt) since(was int64) bool { return h.n.Load() != was || was%2 == 1 }

// fairNet are what a connection may answer when net has died.
func fairNet(err error) bool {
	var e abi.Errno
	if errors.As(err, &e) {
		switch e {
		case abi.ECONNRESET, abi.EPIPE, abi.ENOTCONN, abi.ECONNREFUSED, abi.ECONNABORTED, abi.ENETDOWN:
			return true
		}
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// netUser is a server that never ends and clients that come and go.
type netUser struct {
	c    *rumpclient.Client
	port int
	hurt *hurt
	l    net.Listener
	udp  [2]net.PacketConn
	wg   sync.WaitGroup
	bad  chan error // of the server
	tag  uint64
}

// newNetUser listens, for TCP and UDP.
func newNetUser(ctx context.Context, c *rumpclient.Client, port int, h *hurt) (_ *netUser, err error) {
	u := &netUser{c: c, port: port, hurt: h, bad: make(chan error, 1)}
	if u.l, err = c.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return nil, err
	}
	for i := range u.udp {
		if u.udp[i], err = c.ListenPacket(ctx, "udp", fmt.Sprintf("127.0.0.1:%d", port+i)); err != nil {
			return nil, err
		}
	}
	u.wg.Go(u.serve)
	return u, nil
}

// serve is the echo server. A listener lives on, whatever happens to net.
func (u *netUser) serve() {
	for {
		nc, err := u.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if u.bad <- fmt.Errorf("accept: %w", err); true {
				return
			}
		}
		u.wg.Go(func() {
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			io.Copy(nc, nc)
		})
	}
}

// step is a connection, or a datagram.
func (u *netUser) step(ctx context.Context) error {
	select {
	case err := <-u.bad:
		return err
	default:
	}
	u.tag++
	if u.tag%3 == 0 {
		return u.datagram()
	}
	was := u.hurt.n.Load()
	err := u.connection(ctx)
	if err != nil && fairNet(err) && u.hurt.since(was) {
		return nil
	}
	return err
}

func (u *netUser) connection(ctx context.Context) error {
	nc, err := u.c.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", u.port))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	p, got := make([]byte, 512), make([]byte, 512)
	for i := range uint64(3) {
		for k := 0; k < len(p); k += 16 {
			binary.LittleEndian.PutUint64(p[k:], u.tag)
			binary.LittleEndian.PutUint64(p[k+8:], i<<32|uint64(k))
		}
		if _, err := nc.Write(p); err != nil {
			return fmt.Errorf("write to a connection: %w", err)
		}
		if _, err := io.ReadFull(nc, got); err != nil {
			return fmt.Errorf("read from a connection: %w", err)
		}
		if !bytes.Equal(p, got) {
			return fmt.Errorf("a connection answered other bytes: %w", abi.EILSEQ)
		}
	}
	return nil
}

// datagram sends one from a socket to the other until it arrives: sockets live
// on, what is under way may be lost.
func (u *netUser) datagram() error {
	p := binary.LittleEndian.AppendUint64([]byte("chaos"), u.tag)
	buf := make([]byte, 100)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := u.udp[0].WriteTo(p, u.udp[1].LocalAddr()); err != nil {
			return fmt.Errorf("send of a datagram: %w", err)
		}
		u.udp[1].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, from, err := u.udp[1].ReadFrom(buf)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				break // lost
			}
			if err != nil {
				return fmt.Errorf("receive of a datagram: %w", err)
			}
			if n != len(p) || string(buf[:5]) != "chaos" || binary.LittleEndian.Uint64(buf[5:]) > u.tag || from.String() != u.udp[0].LocalAddr().String() {
				return fmt.Errorf("a datagram of %d bytes from %v, %q: %w", n, from, buf[:n], abi.EILSEQ)
			}
			if bytes.Equal(buf[:n], p) {
				return nil
			}
		}
	}
	return fmt.Errorf("no datagram arrives: %w", abi.ETIMEDOUT)
}

// close ends the server.
func (u *netUser) close() {
	u.l.Close()
	for _, p := range u.udp {
		if p != nil {
			p.Close()
		}
	}
	u.wg.Wait()
}

// chrUser reads character devices: what was in flight when dev died may answer an
// error.
type chrUser struct {
	c    *rumpclient.Client
	fd   int
	hurt *hurt
}

func newChrUser(ctx context.Context, c *rumpclient.Client, h *hurt) (*chrUser, error) {
	fd, err := c.Open(ctx, "/dev/zero", abi.O_RDONLY, 0)
	return &chrUser{c, fd, h}, err
}

func (u *chrUser) step(ctx context.Context) error {
	was := u.hurt.n.Load()
	p := bytes.Repeat([]byte{1}, 4096)
	n, err := u.c.Read(ctx, u.fd, p)
	if err != nil {
		if e := abi.ErrnoOf(err); u.hurt.since(was) && (e == abi.EIO || e == abi.ENXIO) {
			return nil
		}
		return fmt.Errorf("read of /dev/zero: %w", err)
	}
	if n != len(p) || bytes.ContainsFunc(p, func(r rune) bool { return r != 0 }) {
		return fmt.Errorf("/dev/zero: %d bytes, not all of them 0: %w", n, abi.EILSEQ)
	}
	return nil
}

// diskUser writes an encrypted disk, past the cache or not. Nothing may fail.
type diskUser struct {
	c    *rumpclient.Client
	fd   int
	off  int64 // of its share
	mine []byte
	rng  *rand.Rand
	tag  uint64
}

func newDiskUser(ctx context.Context, c *rumpclient.Client, node string, off, size int64, rng *rand.Rand) (*diskUser, error) {
	fd, err := c.Open(ctx, "/dev/"+node, abi.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	u := &diskUser{c: c, fd: fd, off: off, mine: make([]byte, size), rng: rng}
	for at := int64(0); at < size; at += 1 << 20 { // what zeroes decrypt to is not known
		if _, err := c.Pwrite(ctx, fd, u.mine[at:min(at+1<<20, size)], off+at); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func (u *diskUser) step(ctx context.Context) error {
	size := int64(len(u.mine))
	n := 512 * (1 + u.rng.Int64N(32))
	at := u.rng.Int64N((size-n)/512+1) * 512
	if u.rng.IntN(3) > 0 {
		u.tag++
		p := make([]byte, n)
		for i := 0; i < len(p); i += 512 {
			binary.LittleEndian.PutUint64(p[i:], u.tag)
			binary.LittleEndian.PutUint64(p[i+8:], uint64(u.off+at)+uint64(i))
		}
		if k, err := u.c.Pwrite(ctx, u.fd, p, u.off+at); err != nil || k != len(p) {
			return fmt.Errorf("write of a disk: %d bytes of %d: %w", k, len(p), errors.Join(err, abi.EIO))
		}
		copy(u.mine[at:], p)
	}
	if u.rng.IntN(8) == 0 {
		if err := u.c.Fsync(ctx, u.fd); err != nil {
			return fmt.Errorf("fsync of a disk: %w", err)
		}
	}
	return u.compare(ctx, at, n)
}

func (u *diskUser) compare(ctx context.Context, at, n int64) error {
	p := make([]byte, n)
	if k, err := u.c.Pread(ctx, u.fd, p, u.off+at); err != nil || k != len(p) {
		return fmt.Errorf("read of a disk: %d bytes of %d: %w", k, len(p), errors.Join(err, abi.EIO))
	}
	if !bytes.Equal(p, u.mine[at:at+n]) {
		return fmt.Errorf("a disk at %d: %s: %w", u.off+at, differ(p, u.mine[at:at+n]), abi.EILSEQ)
	}
	return nil
}

// all compares the whole share.
func (u *diskUser) all(ctx context.Context) error {
	for at := int64(0); at < int64(len(u.mine)); at += 1 << 20 {
		if err := u.compare(ctx, at, min(1<<20, int64(len(u.mine))-at)); err != nil {
			return err
		}
	}
	return nil
}

// hostUser changes a directory of the host. When vfs dies a call may fail, and
// then it was carried out or it was not, as a whole.
type hostUser struct {
	c     *rumpclient.Client
	dir   string
	hurt  *hurt
	rng   *rand.Rand
	files map[string]string
	tag   int
}

func newHostUser(ctx context.Context, c *rumpclient.Client, dir string, h *hurt, rng *rand.Rand) (*hostUser, error) {
	return &hostUser{c: c, dir: dir, hurt: h, rng: rng, files: map[string]string{}}, c.Mkdir(ctx, dir, 0o755)
}

// attempt makes a call; fair reports whether it failed as it may.
func (u *hostUser) attempt(call func() error) (fair bool, err error) {
	was := u.hurt.n.Load()
	if err = call(); err != nil {
		if e := abi.ErrnoOf(err); u.hurt.since(was) && (e == abi.EIO || e == abi.ESTALE) {
			return true, nil
		}
	}
	return false, err
}

func (u *hostUser) step(ctx context.Context) error {
	name, to := fmt.Sprintf("h%d", u.rng.IntN(6)), fmt.Sprintf("h%d", u.rng.IntN(6))
	path := u.dir + "/" + name
	text, there := u.files[name]
	var fair bool
	var err error
	var maybe func(text string, there bool) bool // what else name may be after a fair failure
	switch k := u.rng.IntN(4); {
	case !there:
		fair, err = u.attempt(func() error {
			fd, err := u.c.Open(ctx, path, abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o600)
			if err == nil {
				u.c.Close(ctx, fd)
			}
			return err
		})
		if err == nil && !fair {
			u.files[name] = ""
		}
		maybe = func(text string, there bool) bool { return text == "" }
	case k == 0:
		u.tag++
		add := fmt.Sprintf("<%d>", u.tag)
		fair, err = u.attempt(func() error {
			fd, err := u.c.Open(ctx, path, abi.O_WRONLY|abi.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer u.c.Close(ctx, fd)
			_, err = u.c.Write(ctx, fd, []byte(add))
			return err
		})
		if err == nil && !fair {
			u.files[name] = text + add
		}
		maybe = func(got string, there bool) bool { return there && (got == text || got == text+add) }
	case k == 1:
		fair, err = u.attempt(func() error { return u.c.Unlink(ctx, path) })
		if err == nil && !fair {
			delete(u.files, name)
		}
		maybe = func(got string, there bool) bool { return !there || got == text }
	case k == 2 && to != name:
		fair, err = u.attempt(func() error { return u.c.Rename(ctx, path, u.dir+"/"+to) })
		if err == nil && !fair {
			delete(u.files, name)
			u.files[to] = text
		}
		if fair { // both or none
			_, still, err := u.look(ctx, name)
			if err != nil {
				return err
			}
			if !still {
				delete(u.files, name)
				u.files[to] = text
			}
			name = to
		}
		old, was := u.files[name]
		maybe = func(got string, there bool) bool { return there == was && got == old }
	default:
		got, is, err := u.look(ctx, name)
		if err == nil && (!is || got != text) {
			err = fmt.Errorf("%s has %q (%v), not %q: %w", path, got, is, text, abi.EILSEQ)
		}
		return err
	}
	if err != nil || !fair {
		return err
	}
	got, is, err := u.look(ctx, name)
	if err != nil {
		return err
	}
	if !maybe(got, is) {
		return fmt.Errorf("after a call that failed, %s/%s has %q (%v): %w", u.dir, name, got, is, abi.EILSEQ)
	}
	if delete(u.files, name); is {
		u.files[name] = got
	}
	return nil
}

// look reads a file, until that does not fail for the fault.
func (u *hostUser) look(ctx context.Context, name string) (text string, there bool, err error) {
	for ctx.Err() == nil {
		fair, err := u.attempt(func() error {
			p, err := u.c.ReadFile(ctx, u.dir+"/"+name)
			text, there = string(p), true
			return err
		})
		if abi.ErrnoOf(err) == abi.ENOENT {
			return "", false, nil
		}
		if !fair {
			return text, there, err
		}
		time.Sleep(time.Millisecond)
	}
	return "", false, ctx.Err()
}

func (u *hostUser) all(ctx context.Context) error {
	for name, want := range u.files {
		if got, is, err := u.look(ctx, name); err != nil || !is || got != want {
			return fmt.Errorf("%s/%s has %q (%v), not %q: %w", u.dir, name, got, is, want, errors.Join(err, abi.EILSEQ))
		}
	}
	return nil
}
