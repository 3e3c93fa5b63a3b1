// Package grant hands out what the host granted to a component under a name.
//
// Most grants are descriptors that the host opened once; who takes one gets a
// duplicate. A grant whose name begins with "host.connect:" is not a connection
// but a way to get connections: a socket behind which the host dials anew each
// time it is asked (Serve), and answers the connected descriptor. So a
// component that may not open anything itself can come back to a server that was
// restarted.
//
// On that socket, SOCK_SEQPACKET, a request is the 8 bytes "CONN" and a number;
// the answer is "CONN", the same number and an errno (abi's), 12 bytes, with the
// descriptor as SCM_RIGHTS if the errno is 0. All numbers are little-endian.
// Requests are served one at a time.
package grant

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Connect is how the name of a grant begins that answers new connections.
const Connect = "host.connect:"

// Bounds of waiting.
const (
	DialTimeout = 10 * time.Second // the host, for one connection
	askTimeout  = DialTimeout + 5*time.Second
)

var le = binary.LittleEndian

const (
	magic      = "CONN"
	requestLen = 8
	answerLen  = 12
)

// Take answers what is behind a granted descriptor: a duplicate, or a new
// connection if the grant is one of those. The caller owns it. Errors: EBADF,
// EMFILE; of a connection what connect(2) says (ECONNREFUSED also if the path is
// not there, ETIMEDOUT), EIO if the host does not answer as it should.
func Take(name string, f *os.File) (*os.File, error) {
	if !strings.HasPrefix(name, Connect) {
		return dup(name, f)
	}
	return ask(name, f)
}

// dup duplicates f without changing its blocking mode.
func dup(name string, f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("granted %q: %w", name, abi.EBADF)
	}
	fd := -1
	var errno syscall.Errno
	err = rc.Control(func(old uintptr) {
		var n uintptr
		n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(n)
	})
	if err != nil {
		return nil, fmt.Errorf("granted %q: %w", name, abi.EBADF)
	}
	if errno != 0 {
		return nil, fmt.Errorf("granted %q: cannot duplicate it: %w", name, abi.EMFILE)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// One asks at a time, on all sockets: connections are rare.
var asking struct {
	mu     sync.Mutex
	number uint32
}

// ask gets a new connection.
func ask(name string, f *os.File) (*os.File, error) {
	fail := func(err error) (*os.File, error) { return nil, fmt.Errorf("granted %q: %w", name, err) }
	asking.mu.Lock()
	defer asking.mu.Unlock()
	asking.number++
	number := asking.number
	d, err := dup(name, f)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd := int(d.Fd()) // blocking from here on, with time-outs of the socket's own
	tv := syscall.NsecToTimeval(int64(askTimeout))
	for _, opt := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, opt, &tv); err != nil {
			return fail(fmt.Errorf("no socket: %w", abi.ENOTSOCK))
		}
	}
	b := le.AppendUint32([]byte(magic), number)
	if err := syscall.Sendto(fd, b, msgNosignal, nil); err != nil {
		return fail(fmt.Errorf("asking the host: %v: %w", err, abi.EIO))
	}
	end := time.Now().Add(askTimeout)
	for time.Now().Before(end) {
		got, errno, file, err := receive(fd)
		if err != nil {
			return fail(fmt.Errorf("the host's answer: %v: %w", err, abi.EIO))
		}
		if got != number { // of somebody who gave up
			if file != nil {
				file.Close()
			}
			continue
		}
		switch {
		case errno != 0:
			if file != nil {
				file.Close()
			}
			return fail(errno)
		case file == nil:
			return fail(fmt.Errorf("the host's answer: no descriptor: %w", abi.EIO))
		}
		return file, nil
	}
	return fail(fmt.Errorf("the host does not answer: %w", abi.ETIMEDOUT))
}

// receive takes one answer.
func receive(fd int) (number uint32, errno abi.Errno, file *os.File, err error) {
	var b [answerLen]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	var n, m int
	for {
		n, m, _, _, err = syscall.Recvmsg(fd, b[:], oob, msgCloexec)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, nil, err
	}
	if cs, err := syscall.ParseSocketControlMessage(oob[:m]); err == nil {
		for i := range cs {
			fds, err := syscall.ParseUnixRights(&cs[i])
			if err != nil {
				continue
			}
			for _, fd := range fds {
				if file != nil {
					syscall.Close(fd)
					continue
				}
				file = os.NewFile(uintptr(fd), "connection")
			}
		}
	}
	if n != answerLen || string(b[:4]) != magic {
		if file != nil {
			file.Close()
		}
		if n == 0 {
			return 0, 0, nil, errors.New("nobody is there")
		}
		return 0, 0, nil, fmt.Errorf("%d bytes that make no sense", n)
	}
	return le.Uint32(b[4:]), abi.SanitizeErrno(int32(le.Uint32(b[8:]))), file, nil
}

// Broker makes a socket for a component and serves it, in the background, until
// the component's end is closed everywhere: dial makes each connection, in
// DialTimeout at most. The caller owns the file that it answers, and closes it
// when the component has it.
func Broker(dial func(ctx context.Context) (*os.File, error)) (*os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|sockCloexec, 0)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", abi.ENFILE)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		syscall.Close(fds[0])
		syscall.Close(fds[1])
		return nil, fmt.Errorf("broker: %w", abi.EIO)
	}
	mine := os.NewFile(uintptr(fds[0]), "broker")
	go serve(mine, dial)
	return os.NewFile(uintptr(fds[1]), "connections"), nil
}

// minTurn is the least time between two connections: a component cannot use up
// the host's ports.
const minTurn = 2 * time.Millisecond

// serve answers requests until the other end is gone or talks rubbish.
func serve(f *os.File, dial func(ctx context.Context) (*os.File, error)) {
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		var b [requestLen + 1]byte
		n := 0
		var rerr error
		err := rc.Read(func(fd uintptr) bool {
			n, _, rerr = syscall.Recvfrom(int(fd), b[:], 0)
			return rerr != syscall.EAGAIN && rerr != syscall.EINTR
		})
		if err != nil || rerr != nil || n != requestLen || string(b[:4]) != magic {
			return
		}
		begin := time.Now()
		dctx, done := context.WithTimeout(ctx, DialTimeout)
		c, derr := dial(dctx)
		done()
		a := append([]byte(magic), b[4:8]...)
		a = le.AppendUint32(a, uint32(abi.ErrnoOf(derr)))
		var oob []byte
		if derr == nil {
			oob = syscall.UnixRights(int(c.Fd()))
		}
		var serr error
		err = rc.Write(func(fd uintptr) bool {
			serr = syscall.Sendmsg(int(fd), a, oob, nil, msgNosignal)
			return serr != syscall.EAGAIN && serr != syscall.EINTR
		})
		if c != nil {
			c.Close()
		}
		if err != nil || serr != nil {
			return
		}
		if d := minTurn - time.Since(begin); d > 0 {
			t := time.NewTimer(d)
			<-t.C
		}
	}
}
