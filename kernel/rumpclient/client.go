package rumpclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Caller takes the system calls of one process. Syscall is safe for concurrent
// use; it fills the results in a and does not keep a. Close ends the process:
// its descriptors are closed and its waiting calls end.
type Caller interface {
	Syscall(ctx context.Context, num int, a *abi.Sysargs) error
	Close() error
}

// Client is a process of the kernel, with the system calls as methods.
type Client struct {
	k   Caller
	sig signalHub
}

// New makes a Client of a Caller, of which there is to be one.
func New(k Caller) *Client {
	c := &Client{k: k}
	if s, ok := k.(signaller); ok {
		s.OnSignal(c.sig.tell)
	}
	return c
}

// Exit ends the client's process and, if the kernel is remote, the connection.
// (Close is the system call close.)
func (c *Client) Exit() error { return c.k.Close() }

// Syscall passes a system call through as it is, for numbers without a method.
// The error is the Caller's.
func (c *Client) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	return c.k.Syscall(ctx, num, a)
}

// ErrGone is what every call answers once the kernel has gone away: it was
// halted, crashed or ended the connection. It wraps ENXIO.
var ErrGone error = goneError{}

type goneError struct{}

func (goneError) Error() string { return "the kernel is gone" }
func (goneError) Unwrap() error { return abi.ENXIO }

func isGone(err error) bool { return err != nil && errors.Is(err, ErrGone) }

// Error is a system call that failed.
type Error struct {
	Op    string    // "open"
	Path  string    // what it was about, "" if nothing with a name
	Errno abi.Errno // never 0
	Text  string    // the kernel's words, "" if there is no more than the number

	cause error
}

// Error is one line: "open /a: no such file or directory".
func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = e.Errno.Error()
	}
	head := e.Op
	if e.Path != "" {
		head += " " + e.Path
	}
	if strings.HasPrefix(text, head+": ") {
		return text
	}
	return head + ": " + strings.TrimPrefix(text, e.Op+": ")
}

// Unwrap gives the number and what lies behind it, such as ErrGone.
func (e *Error) Unwrap() []error { return []error{e.Errno, e.cause} }

// Timeout reports whether time ran out (net.Error).
func (e *Error) Timeout() bool { return e.Errno.Timeout() }

// Temporary reports whether the same call may succeed later (net.Error).
func (e *Error) Temporary() bool { return e.Errno.Temporary() }

// fail makes the *Error of a failed call; nil stays nil.
func fail(num int, path string, err error) error {
	if err == nil {
		return nil
	}
	return failOp(abi.SyscallName(num), path, err)
}

func failOp(op, path string, err error) error {
	var was *Error
	if errors.As(err, &was) {
		return err
	}
	e := &Error{Op: op, Path: path, Errno: abi.ErrnoOf(err), cause: err}
	if t := err.Error(); t != e.Errno.Error() {
		e.Text = t
	}
	return e
}

// answer is the error for a kernel's answer that cannot be decoded.
func answer(num int, path string, err error) error {
	return fail(num, path, fmt.Errorf("the kernel's answer makes no sense: %w (%v)", abi.EIO, err))
}

var argsPool = sync.Pool{New: func() any { return new(abi.Sysargs) }}

// args takes Sysargs from the pool, with the integers set.
func args(v ...int) *abi.Sysargs {
	a := argsPool.Get().(*abi.Sysargs)
	for i, x := range v {
		a.SetInt(i, x)
	}
	return a
}

func argsPath(path string, v ...int) *abi.Sysargs {
	a := args(v...)
	a.Path[0] = path
	return a
}

func argsPaths(p, q string, v ...int) *abi.Sysargs {
	a := argsPath(p, v...)
	a.Path[1] = q
	return a
}

func free(a *abi.Sysargs) {
	*a = abi.Sysargs{}
	argsPool.Put(a)
}

// run makes the call that needs no more than its first return value, and frees
// the arguments.
func (c *Client) run(ctx context.Context, num int, path string, a *abi.Sysargs) (int, error) {
	err := c.k.Syscall(ctx, num, a)
	r := int(int64(a.R[0]))
	free(a)
	if err != nil {
		return 0, fail(num, path, err)
	}
	return r, nil
}

// do is run without a value.
func (c *Client) do(ctx context.Context, num int, path string, a *abi.Sysargs) error {
	_, err := c.run(ctx, num, path, a)
	return err
}

// out makes a call that fills p, and answers how much of it.
func (c *Client) out(ctx context.Context, num int, path string, a *abi.Sysargs, p []byte) (n int, r uint64, err error) {
	a.Out = p
	err = c.k.Syscall(ctx, num, a)
	n, r = min(max(a.NO, 0), len(p)), a.R[0]
	free(a)
	return n, r, fail(num, path, err)
}

// text makes a call that answers bytes of any length: R[0] is how many there
// are, ENOMEM that Out was too short. mk makes the arguments anew each time.
func (c *Client) text(ctx context.Context, num int, path string, mk func() *abi.Sysargs) ([]byte, error) {
	for size := 16 << 10; ; {
		p := make([]byte, size)
		n, need, err := c.out(ctx, num, path, mk(), p)
		switch {
		case err == nil && need <= uint64(n):
			return p[:n], nil
		case err != nil && !errors.Is(err, abi.ENOMEM):
			return nil, err
		case size == abi.MaxTransfer:
			return nil, fail(num, path, fmt.Errorf("the answer is longer than %d bytes: %w", size, abi.ENOMEM))
		}
		size = min(max(2*size, int(min(need, abi.MaxTransfer))), abi.MaxTransfer)
	}
}
