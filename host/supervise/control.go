package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/hashicorp/go-plugin"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// dialer connects the control plane to the one socket in a process's private
// directory, whatever the handshake line says. The directory belongs to the
// component, so the entry is opened without following links and must be a
// socket on which that very process listens.
type dialer struct {
	l *launcher

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// dial is gRPC's context dialer.
func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	fd, err := openSocket(d.l.tmp)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := d.check(nc); err != nil {
		nc.Close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		nc.Close()
		return nil, net.ErrClosed
	}
	d.conns = append(d.conns, nc)
	return nc, nil
}

// check refuses a connection that does not end in the component.
func (d *dialer) check(nc net.Conn) error {
	rc, err := nc.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cr *unix.Ucred
	var cerr error
	if err := rc.Control(func(fd uintptr) {
		cr, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return fmt.Errorf("control socket: %w", cerr)
	}
	if pid, _, _ := d.l.state(); int(cr.Pid) != pid {
		return fmt.Errorf("control socket belongs to process %d, not to %d: %w", cr.Pid, pid, abi.EPERM)
	}
	return nil
}

// closeAll ends every connection and forbids new ones.
func (d *dialer) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

// openSocket opens the first socket of dir as a path descriptor (O_PATH).
func openSocket(dir string) (int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return -1, fmt.Errorf("control socket: %w", err)
	}
	defer d.Close()
	names, _ := d.Readdirnames(16)
	for _, n := range names {
		if !strings.HasPrefix(n, "plugin") {
			continue
		}
		fd, err := unix.Openat(int(d.Fd()), n, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("no control socket in %s: %w", dir, abi.ENOENT)
}

// healthy asks the component's health service.
func healthy(ctx context.Context, c *grpc.ClientConn) error {
	r, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	if err != nil {
		return errors.New(status.Convert(err).Message())
	}
	if r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health service answers %s", r.GetStatus())
	}
	return nil
}

// callErrno gives a failed control call its number.
func callErrno(err error) abi.Errno {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return abi.EMSGSIZE
	case codes.Unimplemented:
		return abi.ENOSYS
	}
	return abi.EIO
}

// quiet is the logger that go-plugin gets. Its own remarks go one or more
// levels down: each is either an event that Process reports in better words
// or noise. What the component itself logs passes unchanged.
type quiet struct {
	hclog.Logger
	component string // name under which go-plugin asks for the component's logger
}

// Named splits the component's own log from go-plugin's.
func (q quiet) Named(name string) hclog.Logger {
	if name == q.component {
		return q.Logger
	}
	return quiet{Logger: q.Logger.Named(name)}
}

func (q quiet) Debug(msg string, kv ...any) { q.Trace(msg, kv...) }
func (q quiet) Info(msg string, kv ...any)  { q.Trace(msg, kv...) }
func (q quiet) Warn(msg string, kv ...any)  { q.Logger.Debug(msg, kv...) }
func (q quiet) Error(msg string, kv ...any) { q.Logger.Debug(msg, kv...) }
