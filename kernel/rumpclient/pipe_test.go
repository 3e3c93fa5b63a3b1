package rumpclient_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// readAll reads until the end of the file.
func readAll(ctx context.Context, c *rumpclient.Client, fd int) ([]byte, error) {
	var all []byte
	buf := make([]byte, 10000)
	for {
		n, err := c.Read(ctx, fd, buf)
		if n == 0 || err != nil {
			return all, err
		}
		all = append(all, buf[:n]...)
	}
}

func TestPipe(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		if _, _, err := c.Pipe2(ctx, abi.O_APPEND); !errors.Is(err, abi.EINVAL) {
			t.Errorf("a flag that pipe2 has not: %v", err)
		}
		r, w, err := c.Pipe2(ctx, abi.O_CLOEXEC|abi.O_NONBLOCK)
		must(t, err)
		if fl, err := c.Fcntl(ctx, w, abi.F_GETFD, 0); fl != abi.FD_CLOEXEC || err != nil {
			t.Errorf("close on exec: %d %v", fl, err)
		}
		if _, err := c.Read(ctx, r, make([]byte, 1)); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("empty: %v", err)
		}
		if _, err := c.Read(ctx, w, make([]byte, 1)); !errors.Is(err, abi.EBADF) {
			t.Errorf("read from the write end: %v", err)
		}
		if _, err := c.Write(ctx, r, make([]byte, 1)); !errors.Is(err, abi.EBADF) {
			t.Errorf("write to the read end: %v", err)
		}
		if _, err := c.Pread(ctx, r, make([]byte, 1), 0); !errors.Is(err, abi.ESPIPE) {
			t.Errorf("pread: %v", err)
		}
		must(t, c.SetNonblock(ctx, r, false))
		must(t, c.SetNonblock(ctx, w, false))
		data := bytes.Repeat([]byte("0123456789"), 50000)
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(ctx, w, data)
			done <- errors.Join(err, c.Close(ctx, w))
		}()
		got, err := readAll(ctx, c, r)
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		must(t, c.Close(ctx, r))

		// poll sees bytes and the end; fstat sees a fifo.
		r, w, err = c.Pipe2(ctx, 0)
		must(t, err)
		fds := []abi.Pollfd{{Fd: int32(r), Events: abi.POLLIN}}
		go func() { c.Write(ctx, w, []byte("abc")); done <- nil }()
		if n, err := c.Poll(ctx, fds, abi.INFTIM); n != 1 || err != nil || fds[0].Revents != abi.POLLIN {
			t.Errorf("poll: %d %v %v", n, fds[0].Revents, err)
		}
		<-done
		var b [4]byte
		if _, err := c.Ioctl(ctx, r, abi.FIONREAD, b[:]); err != nil || binary.LittleEndian.Uint32(b[:]) != 3 {
			t.Errorf("FIONREAD: %v %v", b, err)
		}
		if st, err := c.Fstat(ctx, r); err != nil || st.Type != abi.VFIFO || st.Size != 3 {
			t.Errorf("fstat: %+v %v", st, err)
		}
		must(t, c.Close(ctx, w))
		if n, err := c.Poll(ctx, fds, 0); n != 1 || err != nil || fds[0].Revents != abi.POLLIN|abi.POLLHUP {
			t.Errorf("closed: %d %v %v", n, fds[0].Revents, err)
		}
		must(t, c.Close(ctx, r))
		r, w, err = c.Pipe2(ctx, 0)
		must(t, err)
		must(t, c.Close(ctx, r))
		if _, err := c.Write(ctx, w, []byte("x")); !errors.Is(err, abi.EPIPE) {
			t.Errorf("without a reader: %v", err)
		}
		must(t, c.Close(ctx, w))
		if s, err := c.Sysctl(ctx, "kern.pipe.kvasize"); err != nil || string(s) != "0" {
			t.Errorf("memory of no pipes: %q %v", s, err)
		}
		must(t, c.SysctlSet(ctx, "kern.pipe.maxbigpipes", "0"))
		if err := c.SysctlSet(ctx, "kern.pipe.maxbigpipes", "-1"); !errors.Is(err, abi.EINVAL) {
			t.Errorf("a negative limit: %v", err)
		}
	})
}

func TestFifo(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		must(t, c.Mkfifo(ctx, "/fifo", 0o600))
		if _, err := c.Open(ctx, "/fifo", abi.O_WRONLY|abi.O_NONBLOCK, 0); !errors.Is(err, abi.ENXIO) {
			t.Errorf("a writer without a reader: %v", err)
		}
		type opened struct {
			fd  int
			err error
		}
		got := make(chan opened, 1)
		go func() { fd, err := c.Open(ctx, "/fifo", abi.O_RDONLY, 0); got <- opened{fd, err} }()
		w, err := c.Open(ctx, "/fifo", abi.O_WRONLY, 0)
		must(t, err)
		o := <-got
		must(t, o.err)
		_, err = c.Write(ctx, w, []byte("through"))
		must(t, err)
		if st, err := c.Fstat(ctx, w); err != nil || st.Type != abi.VFIFO || st.Mode != 0o600 {
			t.Errorf("fstat: %+v %v", st, err)
		}
		if _, err := c.Lseek(ctx, w, 0, abi.SEEK_SET); !errors.Is(err, abi.ESPIPE) {
			t.Errorf("lseek: %v", err)
		}
		must(t, c.Unlink(ctx, "/fifo")) // those who have it keep it
		must(t, c.Close(ctx, w))
		if b, err := readAll(ctx, c, o.fd); err != nil || string(b) != "through" {
			t.Errorf("%q %v", b, err)
		}
		must(t, c.Close(ctx, o.fd))
		must(t, c.Mkfifo(ctx, "/fifo", 0o600))
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		if _, err := c.Open(short, "/fifo", abi.O_RDONLY, 0); !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("nobody came: %v", err)
		}
		both, err := c.Open(ctx, "/fifo", abi.O_RDWR, 0)
		must(t, err)
		must(t, c.Close(ctx, both))
	})
}

// TestFadvise: advice on a file is taken, on a pipe it is ESPIPE.
func TestFadvise(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		must(t, c.WriteFile(ctx, "/f", []byte("x"), 0o600))
		fd, err := c.Open(ctx, "/f", abi.O_RDONLY, 0)
		must(t, err)
		for advice := abi.POSIX_FADV_NORMAL; advice <= abi.POSIX_FADV_NOREUSE; advice++ {
			must(t, c.Fadvise(ctx, fd, 0, 0, advice))
		}
		r, _, err := c.Pipe2(ctx, 0)
		must(t, err)
		for what, tc := range map[string]struct {
			err  error
			want abi.Errno
		}{
			"pipe": {c.Fadvise(ctx, r, 0, 0, 0), abi.ESPIPE}, "closed": {c.Fadvise(ctx, 99, 0, 0, 0), abi.EBADF},
			"unknown": {c.Fadvise(ctx, fd, 0, 0, 6), abi.EINVAL}, "negative": {c.Fadvise(ctx, fd, 0, -1, 0), abi.EINVAL},
		} {
			if !errors.Is(tc.err, tc.want) {
				t.Errorf("%s: %v", what, tc.err)
			}
		}
	})
}
