package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// pipeLinger is how long stdout and stderr are read after the process died. A
// descendant that still holds them is then cut off.
const pipeLinger = 250 * time.Millisecond

// launcher runs one process for go-plugin. It is a runner.Runner of ours
// because the stock one neither makes a process group, nor hands descriptors
// on, nor reports the end while a descendant holds stderr.
//
// The process is the head of its own group. It is reaped by pidfd, and until
// it has been reaped its number cannot be anybody else's, so signals sent
// under mu always reach the right group.
type launcher struct {
	path  string                 // absolute
	args  []string               // argv[1:]
	env   []string               // ours; go-plugin's is added
	cred  *syscall.Credential    // nil: as we are
	extra []int                  // descriptors 3... of the child; ours until start
	pin   func(tmp string) error // called with go-plugin's socket directory

	tmp            string // go-plugin's socket directory; set before start
	stdout, stderr *pipe
	childOut       int // write ends, until start
	childErr       int

	mu      sync.Mutex
	pid     int  // 0 before start
	reaped  bool // the number may be anybody's
	fenced  bool // somebody killed it, or forbade the start
	failure error

	exit    Exit          // before dead is closed
	dead    chan struct{} // closed at death
	drained chan struct{} // closed when both pipes are closed, after death
	// hold is closed when the start phase is over. Until then Wait does not
	// return: go-plugin cancels its context behind Wait, and a cancelled
	// context while it dials makes it lose the connection for good.
	hold chan struct{}
}

var _ runner.Runner = (*launcher)(nil)

// errFenced is the start that somebody forbade.
var errFenced = errors.New("start abandoned")

// newLauncher makes the pipes. extra belongs to the launcher from now on.
func newLauncher(path string, extra []int) (*launcher, error) {
	l := &launcher{
		path: path, extra: extra,
		dead: make(chan struct{}), drained: make(chan struct{}), hold: make(chan struct{}),
	}
	var err error
	if l.stdout, l.childOut, err = newPipe("stdout"); err != nil {
		closeAll(extra)
		return nil, err
	}
	if l.stderr, l.childErr, err = newPipe("stderr"); err != nil {
		l.stdout.Close()
		closeAll(append(extra, l.childOut))
		return nil, err
	}
	return l, nil
}

// closeAll closes raw descriptors.
func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Start launches the process. A done ctx forbids it.
func (l *launcher) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pidfd := -1
	err := errFenced
	if !l.fenced && ctx.Err() == nil && l.pid == 0 {
		if err = l.pin(l.tmp); err == nil {
			l.pid, err = l.spawn(&pidfd)
		}
	}
	if err == nil {
		own(l.extra[0], l.pid)
	}
	closeAll(append(l.extra, l.childOut, l.childErr))
	l.extra = nil
	if err != nil {
		l.pid, l.failure = 0, err
		l.stdout.Close()
		l.stderr.Close()
		return err
	}
	go l.reap(pidfd)
	return nil
}

// armLiveness makes the read end of the liveness pipe send SIGKILL to its
// owner when the write end closes, that is when the host ends in whatever way.
// It is done before the child exists, because both share the flags; own names
// the child's process group as the owner afterwards. A kernel that refuses
// leaves the component's own watch.
func armLiveness(fd int) {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGKILL))
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_ASYNC|unix.O_NONBLOCK)
}

// own makes the process group of pid the owner: see armLiveness.
func own(fd, pid int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETOWN, -pid) }

// spawn execs the program in a fresh process group with no_new_privs set.
// no_new_privs is a property of a thread that children inherit, so it is set
// on a thread that is thrown away afterwards: a goroutine that ends while it
// is locked to its thread takes the thread along.
func (l *launcher) spawn(pidfd *int) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	files := []uintptr{uintptr(null), uintptr(l.childOut), uintptr(l.childErr)}
	high := max(null, l.childOut, l.childErr)
	for _, fd := range l.extra {
		files = append(files, uintptr(fd))
		high = max(high, fd)
	}
	exe := l.path
	if l.cred != nil {
		fd, err := openProgram(l.path, high+len(files)+16)
		if err != nil {
			return 0, err
		}
		if fd >= 0 {
			defer unix.Close(fd)
			exe = "/proc/self/fd/" + strconv.Itoa(fd)
		}
	}
	attr := &syscall.ProcAttr{
		Dir: "/", Env: l.env, Files: files,
		Sys: &syscall.SysProcAttr{Setpgid: true, PidFD: pidfd, Credential: l.cred},
	}
	onFreshThread(func() {
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			err = fmt.Errorf("no_new_privs: %w", err)
			return
		}
		pid, _, err = syscall.StartProcess(exe, append([]string{l.path}, l.args...), attr)
	})
	if err == nil && *pidfd < 0 {
		unix.Kill(-pid, unix.SIGKILL)
		var ws syscall.WaitStatus
		wait4(pid, &ws)
		return 0, fmt.Errorf("this kernel has no pidfd: %w", syscall.ENOSYS)
	}
	return pid, err
}

// onFreshThread runs f on a thread that ends afterwards. It is never the main
// thread, which cannot end and whose state /proc shows as the process's.
func onFreshThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			onFreshThread(f) // while this goroutine keeps the main thread busy
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// openProgram opens a program so that a process of another uid can exec
// it through /proc/self/fd even where its path is closed to that uid (a
// plugin below /root). The descriptor is at least low, out of the way of the
// child's own. -1 means to exec by path: a script, which must be readable by
// its interpreter anyway.
func openProgram(path string, low int) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var magic [2]byte
	if _, err := unix.Pread(fd, magic[:], 0); err != nil || string(magic[:]) == "#!" {
		return -1, nil
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, low)
}

// reap waits for the end of the process, kills what is left of its group,
// reports the death, and closes the pipes a little later.
func (l *launcher) reap(pidfd int) {
	awaitExit(pidfd)
	var ws syscall.WaitStatus
	l.mu.Lock()
	unix.Kill(-l.pid, unix.SIGKILL) // descendants; the dead head keeps the number ours
	err := wait4(l.pid, &ws)
	l.reaped = true
	l.mu.Unlock()
	l.exit = exitOf(ws, err)
	close(l.dead)

	t := time.NewTimer(pipeLinger)
	defer t.Stop()
	for _, p := range []*pipe{l.stdout, l.stderr} {
		select {
		case <-p.eof:
		case <-t.C:
			t.Reset(0)
		}
	}
	l.stdout.Close()
	l.stderr.Close()
	close(l.drained)
}

// awaitExit returns when the process of pidfd, which it closes, has ended and
// can be reaped. It waits in Go's poller, without a thread.
func awaitExit(pidfd int) {
	if unix.SetNonblock(pidfd, true) == nil {
		f := os.NewFile(uintptr(pidfd), "pidfd")
		defer f.Close()
		if rc, err := f.SyscallConn(); err == nil {
			if rc.Read(func(fd uintptr) bool { return ended(int(fd), unix.WNOHANG) }) == nil {
				return
			}
			_ = rc.Control(func(fd uintptr) { ended(int(fd), 0) }) // no poller for pidfds here
			return
		}
	}
	ended(pidfd, 0)
	unix.Close(pidfd)
}

// ended reports whether the process of pidfd is a zombie; without WNOHANG it
// waits until then.
func ended(pidfd, flags int) bool {
	for {
		var si unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, pidfd, &si, unix.WEXITED|unix.WNOWAIT|flags, nil)
		if err == unix.EINTR {
			continue
		}
		return err != nil || si.Signo != 0
	}
}

// wait4 reaps pid.
func wait4(pid int, ws *syscall.WaitStatus) error {
	for {
		if _, err := syscall.Wait4(pid, ws, 0, nil); err != syscall.EINTR {
			return err
		}
	}
}

// fence kills the process group, or forbids the start. It does not wait.
func (l *launcher) fence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced = true
	if l.pid != 0 && !l.reaped {
		unix.Kill(l.pid, unix.SIGKILL) // should it have left its group
		unix.Kill(-l.pid, unix.SIGKILL)
	}
}

// state is what is known of the start: the number, whether we fenced it, and
// why it could not be launched.
func (l *launcher) state() (pid int, fenced bool, failure error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pid, l.fenced, l.failure
}

// Wait returns when the process is dead, its pipes are closed, and the start
// phase is over.
func (l *launcher) Wait(ctx context.Context) error {
	for _, c := range []chan struct{}{l.drained, l.hold} {
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// deathGrace is how long a process that shows signs of ending by itself may
// take to do so, so that its own exit status is known and not our SIGKILL.
const deathGrace = 250 * time.Millisecond

// Kill fences; a process that has closed its stdout gets deathGrace first.
func (l *launcher) Kill(context.Context) error {
	select {
	case <-l.stdout.eof:
		waitFor(l.dead, deathGrace)
	default:
	}
	l.fence()
	return nil
}

// Stdout carries the handshake line.
func (l *launcher) Stdout() io.ReadCloser { return l.stdout }

// Stderr carries the log.
func (l *launcher) Stderr() io.ReadCloser { return l.stderr }

// Name is the program's path.
func (l *launcher) Name() string { return l.path }

// ID is the process number, "" if there was no process.
func (l *launcher) ID() string {
	if pid, _, _ := l.state(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Diagnose has nothing to add: StartError says it all.
func (l *launcher) Diagnose(context.Context) string { return "" }

// PluginToHost ignores where the process says that it listens: the dialer
// looks into the private directory itself.
func (l *launcher) PluginToHost(string, string) (string, string, error) {
	return "unix", l.tmp, nil
}

// HostToPlugin is for go-plugin's broker, which rumpus does not use.
func (l *launcher) HostToPlugin(string, string) (string, string, error) {
	return "", "", fmt.Errorf("host addresses are not given to components: %w", abi.EOPNOTSUPP)
}
