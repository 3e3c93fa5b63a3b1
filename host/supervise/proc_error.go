package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

// StartError is why a component could not be started, on one line. It unwraps
// to an abi.Errno:
//
//	ENOENT        the program is not there
//	EACCES        it may not be executed
//	ENOEXEC       it is no program, or not a rumpus component
//	EPROGMISMATCH it speaks another wire version
//	ETIMEDOUT     it did not come up in time
//	EIO           it ended while it started
//	EINVAL        the Spec is impossible
//	EPERM, EMFILE, EAGAIN, ENOMEM: the host may not, or has no more to give
//
// or to the context's error if the caller gave up.
type StartError struct {
	Instance string // "vfs"
	Path     string // the program
	Reason   error  // what is wrong
}

func (e *StartError) Error() string {
	return "component " + e.Instance + ": " + e.Path + ": " + e.Reason.Error()
}

// Unwrap is the reason.
func (e *StartError) Unwrap() error { return e.Reason }

// reason is a text for humans with the number for programs.
type reason struct {
	text string
	errn abi.Errno
}

func (r *reason) Error() string { return r.text }
func (r *reason) Unwrap() error { return r.errn }

func because(e abi.Errno, format string, a ...any) error {
	return &reason{text: fmt.Sprintf(format, a...), errn: e}
}

// DeadError is the failure of a call because the component's process has
// ended. It unwraps to EIO. A caller who gave up gets its context's error
// instead, never this.
type DeadError struct {
	Instance string
	Exit     Exit
}

func (e *DeadError) Error() string { return "component " + e.Instance + " " + e.Exit.Text }

// Unwrap is EIO.
func (e *DeadError) Unwrap() error { return abi.EIO }

// Exit is how a process ended.
type Exit struct {
	Code   int            // exit status, -1 if a signal ended it
	Signal syscall.Signal // 0 unless a signal ended it
	Core   bool           // it dumped core
	Text   string         // "exit status 3", "killed by SIGKILL"
}

// exitOf reads a wait status.
func exitOf(ws syscall.WaitStatus, err error) Exit {
	switch {
	case err != nil:
		return Exit{Code: -1, Text: "ended, status lost"}
	case ws.Signaled():
		name := unix.SignalName(ws.Signal())
		if name == "" {
			name = "signal " + strconv.Itoa(int(ws.Signal()))
		}
		e := Exit{Code: -1, Signal: ws.Signal(), Core: ws.CoreDump(), Text: "killed by " + name}
		if e.Core {
			e.Text += " (core dumped)"
		}
		return e
	}
	return Exit{Code: ws.ExitStatus(), Text: "exit status " + strconv.Itoa(ws.ExitStatus())}
}

// checkProgram finds the faults of a path that need no process.
func checkProgram(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return hostReason(err)
	case fi.IsDir():
		return because(abi.EACCES, "is a directory, not a program")
	case !fi.Mode().IsRegular():
		return because(abi.EACCES, "is not a regular file")
	case fi.Mode().Perm()&0o111 == 0:
		return because(abi.EACCES, "is not executable")
	case fi.Size() == 0:
		return because(abi.ENOEXEC, "is empty, not a program")
	}
	return nil
}

// hostErrnos are the host's numbers that a start can meet.
var hostErrnos = map[syscall.Errno]abi.Errno{
	syscall.ENOENT: abi.ENOENT, syscall.ENOTDIR: abi.ENOTDIR, syscall.EACCES: abi.EACCES, syscall.EPERM: abi.EPERM,
	syscall.ENOEXEC: abi.ENOEXEC, syscall.ELOOP: abi.ELOOP, syscall.ENAMETOOLONG: abi.ENAMETOOLONG,
	syscall.ETXTBSY: abi.ETXTBSY, syscall.EAGAIN: abi.EAGAIN, syscall.ENOMEM: abi.ENOMEM, syscall.EMFILE: abi.EMFILE,
	syscall.ENFILE: abi.ENFILE, syscall.ENOSPC: abi.ENOSPC, syscall.EROFS: abi.EROFS, syscall.EINVAL: abi.EINVAL,
	syscall.E2BIG: abi.E2BIG, syscall.ENOSYS: abi.ENOSYS,
}

// hostReason translates an error of the host's system calls.
func hostReason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	var he syscall.Errno
	if !errors.As(err, &he) {
		return err
	}
	e, ok := hostErrnos[he]
	if !ok {
		e = abi.EIO
	}
	return because(e, "%s", oneLine(err.Error()))
}

// launchReason says why the exec failed.
func launchReason(err error, cred *syscall.Credential) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return because(abi.ENOEXEC, "is not a program for this machine")
	case errors.Is(err, syscall.EACCES) && cred != nil:
		return because(abi.EACCES, "may not be executed by uid %d, under which the component would run: make it readable and executable by others", cred.Uid)
	case errors.Is(err, syscall.EPERM) && cred != nil:
		return because(abi.EPERM, "this host may not start processes under uid %d", cred.Uid)
	case errors.Is(err, syscall.ENOENT): // the file is there: see checkProgram
		return because(abi.ENOENT, "cannot be executed: its interpreter or loader is missing")
	}
	return hostReason(err)
}

// explain says why a start failed. err is what go-plugin or gRPC said, which
// is the last thing to be believed; the process is being killed or dead.
func (l *launcher) explain(ctx context.Context, limit time.Duration, err error) error {
	pid, _, failure := l.state()
	if failure != nil && failure != errFenced {
		return launchReason(failure, l.cred)
	}
	line, spoke := l.stdout.firstLine()
	hello := parseHandshake(line)
	if cause := context.Cause(ctx); cause != nil {
		switch {
		case !errors.Is(cause, errTooLong):
			return fmt.Errorf("start abandoned: %w", ctx.Err())
		case hello == nil:
			return because(abi.ETIMEDOUT, "no handshake within %v%s", limit, l.said())
		}
		return because(abi.ETIMEDOUT, "no answer within %v%s", limit, l.said())
	}
	if pid == 0 {
		return because(abi.EIO, "%s", oneLine(err.Error()))
	}
	waitFor(l.dead, deathGrace)
	l.fence()
	waitFor(l.dead, killWait)
	waitFor(l.drained, 2*pipeLinger) // for its last words
	switch {
	case hello != nil && hello.core != 1:
		return because(abi.EPROGMISMATCH, "speaks go-plugin protocol %d, this host 1 (EPROGMISMATCH)", hello.core)
	case hello != nil && !knownMajor(hello.major):
		return because(abi.EPROGMISMATCH, "speaks wire version %d, this host %s (EPROGMISMATCH)", hello.major, majors())
	case hello != nil && hello.protocol != "grpc":
		return because(abi.ENOEXEC, "is not a rumpus component: it speaks %q, not gRPC", oneLine(hello.protocol))
	case hello == nil && spoke:
		return because(abi.ENOEXEC, "is not a rumpus component: it printed %q instead of a handshake", oneLine(line))
	}
	x, dead := l.exited()
	switch {
	case !dead || x.Signal == syscall.SIGKILL: // ours, in all likelihood
		if hello == nil {
			return because(abi.ENOEXEC, "is not a rumpus component: it closed its output without a handshake%s", l.said())
		}
		return because(abi.EIO, "control plane: %s%s", oneLine(err.Error()), l.said())
	case hello == nil && x.Code == 0:
		return because(abi.ENOEXEC, "is not a rumpus component: it ended at once (%s)%s", x.Text, l.said())
	case hello == nil:
		return because(abi.EIO, "ended at once (%s)%s", x.Text, l.said())
	}
	return because(abi.EIO, "ended right after the handshake (%s)%s", x.Text, l.said())
}

// said is ": its last words", or nothing.
func (l *launcher) said() string {
	if w := l.stderr.lastWords(); w != "" {
		return ": " + w
	}
	return ""
}

// exited is how the process ended; false if it has not.
func (l *launcher) exited() (Exit, bool) {
	select {
	case <-l.dead:
		return l.exit, true
	default:
		return Exit{}, false
	}
}

// waitFor waits for c, at most d, and reports whether it was closed.
func waitFor(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// handshake is what a go-plugin process says first.
type handshake struct {
	core, major int
	protocol    string
}

// parseHandshake reads "1|1|unix|/path|grpc|..."; nil if that is not one.
func parseHandshake(line string) *handshake {
	f := strings.Split(strings.TrimSpace(line), "|")
	if len(f) < 4 || len(f) > 8 {
		return nil
	}
	core, err1 := strconv.Atoi(f[0])
	major, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil {
		return nil
	}
	h := &handshake{core: core, major: major, protocol: "netrpc"}
	if len(f) > 4 {
		h.protocol = f[4]
	}
	return h
}

func knownMajor(m int) bool { _, ok := serve.Versions(nil)[m]; return ok }

// majors lists the wire versions of this host.
func majors() string {
	var n []int
	for m := range serve.Versions(nil) {
		n = append(n, m)
	}
	sort.Ints(n)
	return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(n), "[]")), ", ")
}
