package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxSecret bounds a secret, in bytes: it must fit into a request that attaches.
const maxSecret = 3 << 10

// secrets is where passphrases come from. Nothing of it is ever an operand, in
// the environment or in a message.
type secrets struct {
	c      *call
	stdin  bool   // lines of standard input
	file   string // all of a file
	fd     int    // all of a descriptor; < 0: none
	prompt bool   // nothing of these: the terminal
	rest   []byte // lines that were read and not asked for yet
	read   bool
}

// newSecrets checks that one source at most was chosen.
func newSecrets(c *call, stdin bool, file string, fd int) (*secrets, error) {
	n := 0
	for _, on := range []bool{stdin, file != "", fd >= 0} {
		if on {
			n++
		}
	}
	if n > 1 {
		return nil, usagef("only one of -p, --key-file and --key-fd")
	}
	return &secrets{c: c, stdin: stdin, file: file, fd: fd, prompt: n == 0}, nil
}

// all is the whole of the file or descriptor, or the first line of standard
// input: what is a LUKS key, as cryptsetup takes it.
func (s *secrets) all(ctx context.Context, name string) ([]byte, error) {
	if s.prompt || s.stdin {
		return s.passphrase(ctx, name, false)
	}
	return s.slurp(ctx)
}

// slurp reads all of the source.
func (s *secrets) slurp(ctx context.Context) ([]byte, error) {
	var r io.Reader
	what := "standard input"
	switch {
	case s.file != "":
		what = "the key file"
		f, err := os.Open(s.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	case s.fd >= 0:
		what = fmt.Sprintf("descriptor %d", s.fd)
		f := os.NewFile(uintptr(s.fd), what)
		if f == nil {
			return nil, fmt.Errorf("%s: %w", what, abi.EBADF)
		}
		defer f.Close()
		r = f
	default:
		r = s.c.stdin
	}
	b := make([]byte, 0, maxSecret+1) // never grows: no copy is left behind
	for len(b) < cap(b) && ctx.Err() == nil {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			clear(b)
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	switch {
	case len(b) > maxSecret:
		clear(b)
		return nil, fmt.Errorf("%s: more than %d bytes: %w", what, maxSecret, abi.E2BIG)
	case len(b) == 0:
		return nil, fmt.Errorf("%s: there is no key in it: %w", what, abi.EINVAL)
	}
	return b, nil
}

// passphrase is the next line of the source, or of the terminal, where it is
// asked for by a name, twice if both must be the same.
func (s *secrets) passphrase(ctx context.Context, name string, twice bool) ([]byte, error) {
	if s.prompt {
		p, err := promptSecret(ctx, name+": ")
		if err != nil || !twice {
			return p, err
		}
		q, err := promptSecret(ctx, "the same again: ")
		if err == nil && !bytes.Equal(p, q) {
			err = fmt.Errorf("the passphrases are not the same: %w", abi.EINVAL)
		}
		clear(q)
		if err != nil {
			clear(p)
			return nil, err
		}
		return p, nil
	}
	if !s.read {
		b, err := s.slurp(ctx)
		if err != nil {
			return nil, err
		}
		s.rest, s.read = b, true
	}
	if len(s.rest) == 0 {
		return nil, fmt.Errorf("%s: no more lines where it should come from: %w", name, abi.EINVAL)
	}
	line, rest, _ := bytes.Cut(s.rest, []byte{'\n'})
	p := bytes.Clone(line)
	clear(line)
	s.rest = rest
	return p, nil
}

// wipe clears what was not used.
func (s *secrets) wipe() { clear(s.rest) }

// promptSecret asks for a line at the terminal, which does not show it. The
// terminal is as it was afterwards, also when ctx ends meanwhile.
func promptSecret(ctx context.Context, text string) ([]byte, error) {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("a passphrase is needed and there is no terminal (-p, --key-file or --key-fd say where it is): %w", abi.ENXIO)
	}
	defer unix.Close(fd)
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ECHONL | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet); err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETSF, old)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	p := make([]byte, 0, maxSecret)
	var in [1]byte
	for {
		if ctx.Err() != nil {
			clear(p)
			return nil, ctx.Err()
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(100*time.Millisecond/time.Millisecond))
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err == nil {
			n, err = unix.Read(fd, in[:])
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0 && len(p) == 0:
			clear(p)
			return nil, fmt.Errorf("no passphrase: %w", abi.ENXIO)
		case n == 0 || in[0] == '\n':
			in[0] = 0
			return p, nil
		case len(p) == cap(p):
			clear(p)
			return nil, fmt.Errorf("a passphrase of more than %d bytes: %w", maxSecret, abi.E2BIG)
		}
		p = append(p, in[0])
	}
}
