package rumpclient

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	mute := filepath.Join(dir, "mute")
	l, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stale := filepath.Join(dir, "stale")
	s, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	s.SetUnlinkOnClose(false)
	s.Close()
	for _, c := range []struct{ url, want string }{
		{"unix://" + dir + "/none", "no kernel reached at unix://" + dir + "/none: no such file or directory: is `rumpus run` running?"},
		{dir + "/none", "no kernel reached at unix://" + dir + "/none: no such file or directory: is `rumpus run` running?"},
		{stale, "no kernel reached at unix://" + stale + ": connection refused: is `rumpus run` running?"},
		{mute, "no kernel reached at unix://" + mute + ": it does not answer: " + abi.ETIMEDOUT.Error()},
		{"tcp://1.2.3.4:5", "no kernel reached at tcp://1.2.3.4:5: not an address of a kernel (unix:///path)"},
		{"", "no kernel reached at : not an address of a kernel (unix:///path)"},
	} {
		limit := time.Minute
		if c.url == mute { // this one does run into it
			limit = 200 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		_, err := Open(ctx, c.url)
		cancel()
		var ce *ConnectError
		if !errors.As(err, &ce) || err.Error() != c.want {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

// TestHungUp reaches something that is no kernel.
func TestHungUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, b := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 64)} {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Write([]byte(b))
			nc.Close()
		}
	}()
	for _, want := range []string{"it hung up", "it hung up"} {
		_, err := Open(context.Background(), path)
		var ce *ConnectError
		if !errors.As(err, &ce) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	<-done
}

// TestKernelGone ends the kernel with calls in flight.
func TestKernelGone(t *testing.T) {
	f := &fake{waiting: make(chan struct{}, 16)}
	f.set(func(ctx context.Context, num int, _ *abi.Sysargs) error {
		f.waiting <- struct{}{}
		<-ctx.Done()
		return abi.EINTR
	})
	path, stop := serve(t, f)
	c, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 5)
	for range 5 {
		go func() {
			_, _, err := c.Accept(context.Background(), 3, 0)
			errs <- err
		}()
	}
	for range 5 {
		<-f.waiting
	}
	stop()
	for range 5 {
		select {
		case err := <-errs:
			if !errors.Is(err, ErrGone) || !errors.Is(err, abi.ENXIO) {
				t.Errorf("in flight: %v", err)
			}
		case <-time.After(limit):
			t.Fatal("a call waits for a kernel that is gone")
		}
	}
	if _, err := c.Getpid(context.Background()); !errors.Is(err, ErrGone) || err.Error() != "getpid: the kernel is gone" {
		t.Errorf("later: %v", err)
	}
	if err := c.Reboot(context.Background(), 0); err != nil {
		t.Errorf("reboot of a kernel that is gone: %v", err)
	}
	c.Exit()
	if _, err := c.Getpid(context.Background()); !errors.Is(err, abi.ESRCH) {
		t.Errorf("after Exit: %v", err)
	}
}

func TestRemoteLimits(t *testing.T) {
	f := &fake{}
	path, _ := serve(t, f)
	c, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	ctx := context.Background()
	if _, err := c.Open(ctx, strings.Repeat("x", 2000), 0, 0); !errors.Is(err, abi.ENAMETOOLONG) {
		t.Errorf("a long path: %v", err)
	}
	if err := c.Syscall(ctx, 1<<40, &abi.Sysargs{}); !errors.Is(err, abi.ENOSYS) {
		t.Errorf("a number beyond numbers: %v", err)
	}
	if err := c.Syscall(ctx, abi.SYS_read, &abi.Sysargs{Out: make([]byte, abi.MaxTransfer+1)}); !errors.Is(err, abi.E2BIG) {
		t.Errorf("too much at once: %v", err)
	}
	if err := c.Syscall(ctx, abi.SYS_bind, &abi.Sysargs{Addr: make([]byte, 300)}); !errors.Is(err, abi.EINVAL) {
		t.Errorf("a long address: %v", err)
	}
	if _, err := c.Getpid(ctx); err != nil {
		t.Errorf("and then: %v", err)
	}
}

func TestResolve(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		net, addr string
		listen    bool
		want      string // addresses, or a part of the error after "!"
	}{
		{"tcp", "127.0.0.1:80", false, "127.0.0.1:80"},
		{"tcp", "[::1%2]:80", false, "[::1%2]:80"},
		{"tcp", "localhost:80", false, "127.0.0.1:80 [::1]:80"},
		{"tcp6", "localhost:80", false, "[::1]:80"},
		{"tcp", ":80", true, "[::]:80 0.0.0.0:80"},
		{"udp4", ":0", true, "0.0.0.0:0"},
		{"udp", ":9", false, "127.0.0.1:9 [::1]:9"},
		{"tcp", "[::ffff:1.2.3.4]:5", false, "1.2.3.4:5"},
		{"unix", "/p", false, "/p"},
		{"tcp4", "[::1]:80", false, "!no suitable address"},
		{"tcp", "example.com:80", false, "!names are not looked up"},
		{"tcp", "127.0.0.1", false, "!missing port"},
		{"tcp", "127.0.0.1:99999", false, "!invalid port"},
		{"sctp", "127.0.0.1:1", false, "!unknown network"},
	} {
		_, to, err := resolve(ctx, c.net, c.addr, c.listen)
		var got []string
		for _, a := range to {
			got = append(got, a.String())
		}
		s := strings.Join(got, " ")
		if want, bad := strings.CutPrefix(c.want, "!"); bad && (err == nil || !strings.Contains(err.Error(), want)) || !bad && (err != nil || s != c.want) {
			t.Errorf("%s %s: %q, %v", c.net, c.addr, s, err)
		}
	}
}
