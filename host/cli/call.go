package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

// streams are what the program has of its surroundings.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

func (s *streams) getenv(name string) string {
	for i := len(s.environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(s.environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// globals are the flags that every verb has.
type globals struct {
	config  string
	server  string
	json    bool
	timeout time.Duration
	verbose bool
	quiet   bool
	set     []string

	image     string // a disk image instead of a running kernel
	rw        bool   // it may be written
	partition int    // which of its partitions, from 1; 0 = the only one
}

// call is one use of a verb.
type call struct {
	streams
	globals
	verb *verb
	out  *bufio.Writer // stdout; flushed at the end
	tty  bool          // stdout is a terminal

	mu     sync.Mutex
	code   int                // exit code so far; protected by mu
	client *rumpclient.Client // from kernel; used by the verb's goroutine only
	img    *image             // what client is a process of, with --image
	shared bool               // client is that of the sh which this is a line of
	served bool               // a signal is the ordinary end of the verb
}

func newCall(s streams, g globals, v *verb) *call {
	return &call{streams: s, globals: g, verb: v, out: bufio.NewWriterSize(s.stdout, 64<<10), tty: isTerminal(s.stdout)}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// width is how many columns the terminal has.
func (c *call) width() int {
	if f, ok := c.stdout.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 {
			return int(ws.Col)
		}
	}
	return 80
}

// show is text from the kernel as it may be written to the output.
func (c *call) show(s string) string {
	if c.tty {
		return printable(s)
	}
	return s
}

func (c *call) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

// fail reports an error of one operand; the verb goes on with the next. It is
// safe for concurrent use.
func (c *call) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.code = max(c.code, exitCode(err))
	if _, said := err.(exitError); !said {
		fmt.Fprintf(c.stderr, "rumpus: %s%s\n", errorText(err), c.hint(err))
	}
}

// each does f for every operand. An error ends only its operand, unless the
// kernel is gone or the user gave up.
func (c *call) each(ctx context.Context, args []string, f func(arg string) error) error {
	for _, a := range args {
		err := f(a)
		if err != nil && (ctx.Err() != nil || exitCode(err) == exitNoKernel) {
			return err
		}
		c.fail(err)
	}
	return nil
}

// kernel connects to the kernel, once; with --image to one in this process.
func (c *call) kernel(ctx context.Context) (*rumpclient.Client, error) {
	if c.client != nil {
		return c.client, nil
	}
	open := func() (*rumpclient.Client, error) { return rumpclient.Open(ctx, c.serverURL()) }
	if c.image != "" {
		open = func() (*rumpclient.Client, error) { return c.openImage(ctx) }
	}
	k, err := open()
	if err != nil {
		return nil, err
	}
	c.client = k
	return k, nil
}

// serverURL says where the kernel is: --server, $RUMP_SERVER, or the default
// configuration's socket.
func (c *call) serverURL() string {
	for _, u := range []string{c.server, c.getenv("RUMP_SERVER")} {
		if u != "" {
			return u
		}
	}
	return "unix://" + config.DefaultSocket(c.environ)
}

// close ends the connection and flushes the output.
func (c *call) close() {
	if err := c.out.Flush(); err != nil {
		c.fail(fmt.Errorf("standard output: %w", err))
	}
	if c.client != nil && !c.shared {
		c.client.Exit()
		c.client = nil
	}
	if c.img != nil && !c.shared {
		stop := c.patience("writing to " + c.image)
		err := c.img.end()
		stop()
		c.img = nil
		if err != nil {
			c.fail(fmt.Errorf("%s: %w", c.image, err))
		}
	}
}
