// Package kprintf is the kernel's message buffer and its logger: kprintf(9),
// dmesg(8).
//
// Messages are whole lines, stamped with seconds since boot, kept in a ring of
// 16 KiB: the oldest go first. With verbose on they are also written to the
// host's console, as aprint_verbose does with RUMP_VERBOSE.
//
// log(9) messages carry a priority, which /dev/klog (package pseudo) shows.
//
// Locks: one mutex, a leaf; writing never waits for a reader or the console.
package kprintf

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi"
)

// Size is how many bytes of messages are kept (kern.msgbufsize).
const Size = 16 << 10

// Msgbuf is a kernel's message buffer.
type Msgbuf struct {
	mu    sync.Mutex
	buf   []byte // protected by mu; at most Size bytes, whole lines
	start int64  // position of buf[0] since boot, protected by mu
	pris  []mark // priorities of lines that have one, by position, protected by mu
	boot  time.Time
	now   func() time.Time
	tee   io.Writer // host's console, or nil
	sink  func(level, msg string, kv []any)
	Sel   event.Selinfo

	wakeup atomic.Pointer[func()]
}

// mark is the priority of the line that begins at a position.
type mark struct {
	pos int64
	pri int
}

// Priorities of Log (LOG_*, syslog(3)), from the worst on.
const (
	LogEmerg = iota
	LogAlert
	LogCrit
	LogErr
	LogWarning
	LogNotice
	LogInfo
	LogDebug
)

// logLevels are the levels of the host's log for the priorities.
var logLevels = [...]string{"error", "error", "error", "error", "warn", "info", "info", "debug"}

// OnWrite sets what is called after every message: a soft interrupt's Schedule,
// as it may be called with any lock held and must not wait.
func (m *Msgbuf) OnWrite(f func()) { m.wakeup.Store(&f) }

// New makes a buffer. now is the kernel's clock. tee, if not nil, gets every
// line as well (RUMP_VERBOSE); sink, if not nil, every record (the host's log).
func New(now func() time.Time, tee io.Writer, sink func(level, msg string, kv []any)) *Msgbuf {
	return &Msgbuf{boot: now(), now: now, tee: tee, sink: sink}
}

// Printf adds a message; lines without a newline at the end get one.
func (m *Msgbuf) Printf(format string, args ...any) {
	m.write(fmt.Sprintf(format, args...), noPri)
}

// Log is log(9): a message with a priority, LogEmerg to LogDebug. dmesg shows it
// as any other; /dev/klog puts <N> in front of it; the host's log gets it with
// the level that is nearest.
func (m *Msgbuf) Log(pri int, format string, args ...any) {
	pri = min(max(pri, LogEmerg), LogDebug)
	s := fmt.Sprintf(format, args...)
	m.write(s, pri)
	if m.sink != nil {
		m.sink(logLevels[pri], s, nil)
	}
}

const noPri = -1

func (m *Msgbuf) write(msg string, pri int) {
	d := m.now().Sub(m.boot)
	var b strings.Builder
	var begins []int
	for line := range strings.Lines(strings.TrimRight(msg, "\n") + "\n") {
		begins = append(begins, b.Len())
		fmt.Fprintf(&b, "[%5d.%06d] ", int(d/time.Second), d%time.Second/time.Microsecond)
		b.WriteString(clean(line))
	}
	s, cut := b.String(), 0
	if len(s) > Size {
		cut = len(s) - Size
		s = s[cut:]
	}
	m.mu.Lock()
	if pri != noPri {
		for _, at := range begins {
			if at >= cut {
				m.pris = append(m.pris, mark{m.start + int64(len(m.buf)+at-cut), pri})
			}
		}
	}
	m.buf = append(m.buf, s...)
	if over := len(m.buf) - Size; over > 0 {
		for over < len(m.buf) && m.buf[over-1] != '\n' {
			over++
		}
		m.start += int64(over)
		m.buf = append(m.buf[:0:0], m.buf[over:]...)
		n := 0
		for n < len(m.pris) && m.pris[n].pos < m.start {
			n++
		}
		m.pris = append(m.pris[:0], m.pris[n:]...)
	}
	m.mu.Unlock()
	m.Sel.Notify()
	if f := m.wakeup.Load(); f != nil {
		(*f)()
	}
	if m.tee != nil {
		io.WriteString(m.tee, s)
	}
}

// clean replaces control characters: messages may hold text from a component.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Read answers the messages from position pos on and the position behind
// them. A pos that has been overwritten starts at the oldest line.
func (m *Msgbuf) Read(pos int64) ([]byte, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.start + int64(len(m.buf))
	if pos < m.start || pos > end {
		pos = m.start
	}
	return append([]byte(nil), m.buf[pos-m.start:]...), end
}

// ReadLog is Read with <N> in front of each line that has a priority, which is
// what syslogd(8) wants of /dev/klog. pos must be a position that Read or
// ReadLog answered, or 0.
func (m *Msgbuf) ReadLog(pos int64) ([]byte, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.start + int64(len(m.buf))
	if pos < m.start || pos > end {
		pos = m.start
	}
	var out []byte
	for _, k := range m.pris {
		if k.pos < pos {
			continue
		}
		out = append(out, m.buf[pos-m.start:k.pos-m.start]...)
		out = fmt.Appendf(out, "<%d>", k.pri)
		pos = k.pos
	}
	return append(out, m.buf[pos-m.start:]...), end
}

// End is the position behind the last message.
func (m *Msgbuf) End() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start + int64(len(m.buf))
}

// Logger is a modapi.Logger into the buffer whose lines begin with name. Debug
// records go to the host's log only.
func (m *Msgbuf) Logger(name string) modapi.Logger { return &logger{m, name} }

type logger struct {
	m    *Msgbuf
	name string
}

func (l *logger) log(level, msg string, kv []any) {
	if level != "debug" {
		var b strings.Builder
		for i := 0; i+1 < len(kv); i += 2 {
			fmt.Fprintf(&b, " %v=%v", kv[i], kv[i+1])
		}
		pre := ""
		if level == "warn" || level == "error" {
			pre = strings.ToUpper(level) + ": "
		}
		l.m.write(l.name+": "+pre+msg+b.String(), noPri)
	}
	if l.m.sink != nil {
		l.m.sink(level, l.name+": "+msg, kv)
	}
}

func (l *logger) Debug(msg string, kv ...any) { l.log("debug", msg, kv) }
func (l *logger) Info(msg string, kv ...any)  { l.log("info", msg, kv) }
func (l *logger) Warn(msg string, kv ...any)  { l.log("warn", msg, kv) }
func (l *logger) Error(msg string, kv ...any) { l.log("error", msg, kv) }
