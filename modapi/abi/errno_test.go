package abi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// The numbers that differ most between systems, from sys/errno.h.
func TestErrnoNumbers(t *testing.T) {
	for e, n := range map[Errno]int32{
		EPERM: 1, ENOENT: 2, EIO: 5, EDEADLK: 11, EWOULDBLOCK: 35, EINPROGRESS: 36,
		ENOTSOCK: 38, EOPNOTSUPP: 45, EAFNOSUPPORT: 47, EADDRINUSE: 48, ENETDOWN: 50,
		ECONNRESET: 54, ENOTCONN: 57, ETIMEDOUT: 60, ECONNREFUSED: 61, ELOOP: 62,
		ENAMETOOLONG: 63, ENOTEMPTY: 66, EDQUOT: 69, ESTALE: 70, EPROGMISMATCH: 75, ENOLCK: 77,
		ENOSYS: 78, EFTYPE: 79, EIDRM: 82, EOVERFLOW: 84, EILSEQ: 85, ENOTSUP: 86,
		ECANCELED: 87, EBADMSG: 88, ENODATA: 89, ENOATTR: 93, EPROTO: 96, EOWNERDEAD: 97,
		ELAST: 98,
	} {
		if int32(e) != n {
			t.Errorf("%s = %d, want %d", e.Name(), e, n)
		}
	}
}

func TestErrnoTableComplete(t *testing.T) {
	seen := map[string]Errno{}
	for e := Errno(1); e <= ELAST; e++ {
		name, text := e.Name(), e.Error()
		if !strings.HasPrefix(name, "E") || text == "" || strings.HasPrefix(text, "errno") {
			t.Errorf("errno %d: name %q, text %q", e, name, text)
		}
		if old, dup := seen[name]; dup {
			t.Errorf("%s is %d and %d", name, old, e)
		}
		seen[name] = e
		if got, ok := ErrnoByName(name); !ok || got != e {
			t.Errorf("ErrnoByName(%q) = %d, %v, want %d", name, got, ok, e)
		}
	}
}

func TestErrnoText(t *testing.T) {
	for _, c := range []struct {
		e          Errno
		name, text string
	}{
		{ENOENT, "ENOENT", "no such file or directory"},
		{ENOTRECOVERABLE, "ENOTRECOVERABLE", "state not recoverable"},
		{0, "0", "errno 0"},
		{123, "E123", "errno 123"},
		{-3, "E-3", "errno -3"},
	} {
		if c.e.Name() != c.name || c.e.Error() != c.text {
			t.Errorf("%d: %q %q, want %q %q", int32(c.e), c.e.Name(), c.e.Error(), c.name, c.text)
		}
	}
	if e, ok := ErrnoByName("EWOULDBLOCK"); !ok || e != EAGAIN {
		t.Errorf("EWOULDBLOCK = %v, %v", e, ok)
	}
	for _, name := range []string{"", "ENOENT ", "enoent", "EUCLEAN"} {
		if e, ok := ErrnoByName(name); ok {
			t.Errorf("ErrnoByName(%q) = %v", name, e)
		}
	}
}

func TestErrnoIs(t *testing.T) {
	general := []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed,
		os.ErrDeadlineExceeded, errors.ErrUnsupported}
	want := map[error][]Errno{
		fs.ErrNotExist:         {ENOENT},
		fs.ErrExist:            {EEXIST, ENOTEMPTY},
		fs.ErrPermission:       {EPERM, EACCES},
		fs.ErrInvalid:          {EINVAL},
		fs.ErrClosed:           {EBADF},
		os.ErrDeadlineExceeded: {ETIMEDOUT},
		errors.ErrUnsupported:  {ENOSYS, ENOTSUP, EOPNOTSUPP},
	}
	for _, target := range general {
		yes := map[Errno]bool{}
		for _, e := range want[target] {
			yes[e] = true
		}
		for e := Errno(0); e <= ELAST+1; e++ {
			if got := errors.Is(fmt.Errorf("x: %w", e), target); got != yes[e] {
				t.Errorf("errors.Is(%s, %v) = %v", e.Name(), target, got)
			}
		}
	}
	if !errors.Is(fmt.Errorf("open: %w", ENOENT), ENOENT) || errors.Is(ENOENT, EIO) {
		t.Error("an Errno is not itself")
	}
}

func TestErrnoTimeoutTemporary(t *testing.T) {
	for e := Errno(0); e <= ELAST; e++ {
		timeout := e == EAGAIN || e == ETIMEDOUT
		temporary := timeout || e == EINTR || e == EMFILE || e == ENFILE
		if e.Timeout() != timeout || e.Temporary() != temporary {
			t.Errorf("%s: timeout %v, temporary %v", e.Name(), e.Timeout(), e.Temporary())
		}
	}
}

func TestErrnoOf(t *testing.T) {
	_, hostErr := os.Open("/does/not/exist/here")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ENETDOWN)
	for _, c := range []struct {
		name string
		err  error
		want Errno
	}{
		{"nil", nil, 0},
		{"bare", ENOSPC, ENOSPC},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", ESTALE)), ESTALE},
		{"joined", errors.Join(errors.New("x"), EROFS), EROFS},
		{"errno before sentinel", errors.Join(fs.ErrExist, ENOENT), ENOENT},
		{"path error", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, ENOENT},
		{"host", hostErr, ENOENT},
		{"exist", fs.ErrExist, EEXIST},
		{"permission", fs.ErrPermission, EACCES},
		{"invalid", fs.ErrInvalid, EINVAL},
		{"closed", fs.ErrClosed, EBADF},
		{"unsupported", errors.ErrUnsupported, EOPNOTSUPP},
		{"canceled", context.Canceled, EINTR},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), ETIMEDOUT},
		{"io deadline", os.ErrDeadlineExceeded, ETIMEDOUT},
		{"cause", context.Cause(ctx), ENETDOWN},
		{"eof", io.EOF, EIO},
		{"unknown", errors.New("odd"), EIO},
		{"zero errno as error", fmt.Errorf("x: %w", Errno(0)), EIO},
		{"negative errno", Errno(-3), EIO},
		{"of a newer peer", Errno(99), 99},
		{"too large errno", Errno(256), EIO},
	} {
		if got := ErrnoOf(c.err); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Name(), c.want.Name())
		}
	}
}

func TestSanitizeErrno(t *testing.T) {
	for in, want := range map[int32]Errno{
		0: 0, 1: EPERM, 98: ENOTRECOVERABLE, 99: 99, 255: 255, 256: EIO, -1: EIO,
		-1 << 31: EIO, 1<<31 - 1: EIO,
	} {
		if got := SanitizeErrno(in); got != want {
			t.Errorf("SanitizeErrno(%d) = %d, want %d", in, got, want)
		}
	}
}
