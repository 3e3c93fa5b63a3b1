package grant

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialer dials a socket and answers it as a file.
func dialer(path string) func(context.Context) (*os.File, error) {
	return func(ctx context.Context) (*os.File, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, abi.ECONNREFUSED
		}
		defer c.Close()
		return c.(*net.UnixConn).File()
	}
}

func TestTakeDuplicates(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := Take("host.x", w)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	f.Write([]byte("hello"))
	f.Close()
	if b, err := io.ReadAll(r); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Take("host.x", w); !errors.Is(err, abi.EBADF) {
		t.Errorf("closed: %v", err)
	}
}

// TestConnect: each taker has a connection of its own, many at once; one that
// cannot be made is an error, and the next can.
func TestConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	b, err := Broker(dialer(path))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	name := Connect + "unix:" + path
	if _, err := Take(name, b); !errors.Is(err, abi.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			f, err := Take(name, b)
			if err != nil {
				t.Error(err)
				return
			}
			c, err := net.FileConn(f)
			f.Close()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			say := strings.Repeat("x", i+1)
			c.Write([]byte(say))
			c.(*net.UnixConn).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != say || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	l.Close()
	served.Wait()
}

// TestHostile: the broker leaves who talks rubbish, the taker refuses rubbish.
func TestHostile(t *testing.T) {
	for _, say := range []string{"", "CONN", "CONN12345", "XXXX1234"} {
		b, err := Broker(func(context.Context) (*os.File, error) { return nil, abi.EIO })
		if err != nil {
			t.Fatal(err)
		}
		if say != "" {
			syscall.Write(int(b.Fd()), []byte(say))
			var p [16]byte
			if n, _ := syscall.Read(int(b.Fd()), p[:]); n != 0 {
				t.Errorf("%q was answered: %q", say, p[:n])
			}
		}
		b.Close() // goleak sees that the broker ends
	}
	for _, say := range []string{"", "CONN", "CONN\x01\x00\x00\x00\x00\x00\x00\x00\x00", "NOPE\x01\x00\x00\x00\x00\x00\x00\x00"} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "hostile")
		if say != "" {
			syscall.Write(fds[1], []byte(say))
		}
		syscall.Shutdown(fds[1], syscall.SHUT_WR)
		if _, err := Take(Connect+"x", f); !errors.Is(err, abi.EIO) {
			t.Errorf("%q: %v", say, err)
		}
		f.Close()
		syscall.Close(fds[1])
	}
	// The answer to somebody else's question, then success without a descriptor.
	fds, _ := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
	f := os.NewFile(uintptr(fds[0]), "hostile")
	defer f.Close()
	defer syscall.Close(fds[1])
	go func() {
		var b [16]byte
		n, _ := syscall.Read(fds[1], b[:])
		syscall.Write(fds[1], []byte("CONN\xff\xff\xff\xff\x00\x00\x00\x00"))
		syscall.Write(fds[1], append(b[:n:n], 0, 0, 0, 0))
	}()
	if _, err := Take(Connect+"x", f); !errors.Is(err, abi.EIO) || !strings.Contains(err.Error(), "no descriptor") {
		t.Error(err)
	}
}
