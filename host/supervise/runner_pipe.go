package supervise

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// maxLine bounds what is kept of a line of a component, in bytes.
const maxLine = 4096

// pipe is the read end of a component's stdout or stderr. It remembers the
// first line, the last one, and the one that announces a crash, so that an
// error can name them. All of it is hostile text.
type pipe struct {
	f    *os.File
	eof  chan struct{} // closed when the reader has seen the end
	once sync.Once

	mu    sync.Mutex
	line  []byte // the current line so far, cut at maxLine
	lines int    // complete lines
	first []byte
	last  []byte // last line that is neither blank nor chatter
	crash []byte // first line that begins with panic:, fatal error: or a signal
}

// newPipe makes a pipe; w, the write end, belongs to the caller and blocks.
func newPipe(name string) (p *pipe, w int, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		closeAll(fd[:])
		return nil, -1, fmt.Errorf("pipe: %w", err)
	}
	return &pipe{f: os.NewFile(uintptr(fd[0]), name), eof: make(chan struct{})}, fd[1], nil
}

// Read reads and remembers. Every end is io.EOF, also that by Close.
func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.f.Read(b)
	if n > 0 {
		p.note(b[:n])
	}
	if err != nil {
		p.once.Do(func() { close(p.eof) })
		err = io.EOF
	}
	return n, err
}

// Close closes the read end; a Read under way returns.
func (p *pipe) Close() error { return p.f.Close() }

// note feeds the memory.
func (p *pipe) note(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		part, rest, nl := bytes.Cut(b, []byte{'\n'})
		p.line = append(p.line, part[:min(len(part), maxLine-len(p.line))]...)
		if !nl {
			return
		}
		p.endLineLocked()
		b = rest
	}
}

func (p *pipe) endLineLocked() {
	if p.lines == 0 {
		p.first = bytes.Clone(p.line)
	}
	p.lines++
	if len(bytes.TrimSpace(p.line)) > 0 && !chatter(p.line) {
		p.last = append(p.last[:0], p.line...)
	}
	if p.crash == nil && (bytes.HasPrefix(p.line, []byte("panic: ")) || bytes.HasPrefix(p.line, []byte("fatal error: ")) || signalLine(string(p.line)) != "") {
		p.crash = bytes.Clone(p.line)
	}
	p.line = p.line[:0]
}

// signalLine is the name of the signal if a line is what Go's runtime prints
// before it ends the process for one: "SIGABRT: abort".
func signalLine(line string) string {
	name, _, ok := strings.Cut(line, ": ")
	if !ok || len(name) > 16 || unix.SignalNum(name) == 0 {
		return ""
	}
	return name
}

// chatter reports whether a line is a log record below a warning.
func chatter(line []byte) bool {
	if line[0] != '{' {
		return false
	}
	for _, l := range []string{`"@level":"trace"`, `"@level":"debug"`, `"@level":"info"`} {
		if bytes.Contains(line, []byte(l)) {
			return true
		}
	}
	return false
}

// firstLine is the first line, complete or not; ok is false if nothing came.
func (p *pipe) firstLine() (s string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lines > 0 {
		return string(p.first), true
	}
	return string(p.line), len(p.line) > 0
}

// lastWords is the line that most likely says why a process ended: the crash
// if there is one, else the last line. A log record is reduced to its message
// and error. "" if it said nothing.
func (p *pipe) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.crash
	if b == nil {
		b = p.last
		if len(bytes.TrimSpace(p.line)) > 0 {
			b = p.line
		}
	}
	var rec struct {
		Message string `json:"@message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(b, &rec) == nil && rec.Message != "" {
		if rec.Error != "" {
			rec.Message += ": " + rec.Error
		}
		return oneLine(rec.Message)
	}
	return oneLine(string(b))
}

// oneLine makes a component's text fit for an error message: printable, on
// one line, at most 200 bytes.
func oneLine(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// lineLog turns what modules print to os.Stdout and os.Stderr into log lines.
type lineLog struct {
	log    hclog.Logger
	stream string

	mu  sync.Mutex
	buf []byte // an unfinished line, at most maxLine
}

// Write never fails.
func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		part, rest, nl := bytes.Cut(b, []byte{'\n'})
		l.buf = append(l.buf, part[:min(len(part), maxLine-len(l.buf))]...)
		if !nl {
			break
		}
		l.log.Info(strings.ToValidUTF8(string(l.buf), "?"), "stream", l.stream)
		l.buf = l.buf[:0]
		b = rest
	}
	return n, nil
}
