package abi

import (
	"strconv"
	"strings"
)

// Signals, with NetBSD's numbers (sys/signal.h). SIGRTMIN to SIGRTMAX are the
// realtime signals, which queue.
const (
	SIGHUP    = 1
	SIGINT    = 2
	SIGQUIT   = 3
	SIGILL    = 4
	SIGTRAP   = 5
	SIGABRT   = 6
	SIGEMT    = 7
	SIGFPE    = 8
	SIGKILL   = 9
	SIGBUS    = 10
	SIGSEGV   = 11
	SIGSYS    = 12
	SIGPIPE   = 13
	SIGALRM   = 14
	SIGTERM   = 15
	SIGURG    = 16
	SIGSTOP   = 17
	SIGTSTP   = 18
	SIGCONT   = 19
	SIGCHLD   = 20
	SIGTTIN   = 21
	SIGTTOU   = 22
	SIGIO     = 23
	SIGXCPU   = 24
	SIGXFSZ   = 25
	SIGVTALRM = 26
	SIGPROF   = 27
	SIGWINCH  = 28
	SIGINFO   = 29
	SIGUSR1   = 30
	SIGUSR2   = 31
	SIGPWR    = 32
	SIGRTMIN  = 33
	SIGRTMAX  = 63

	NSIG = 64 // above all signals
)

var signalNames = [...]string{1: "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "EMT", "FPE", "KILL", "BUS", "SEGV", "SYS", "PIPE",
	"ALRM", "TERM", "URG", "STOP", "TSTP", "CONT", "CHLD", "TTIN", "TTOU", "IO", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "INFO",
	"USR1", "USR2", "PWR"}

// SignalName is the name of a signal: "SIGTERM", "SIGRTMIN+3"; "signal 99" for
// a number without one.
func SignalName(sig int) string {
	switch {
	case sig > 0 && sig < len(signalNames):
		return "SIG" + signalNames[sig]
	case sig == SIGRTMIN:
		return "SIGRTMIN"
	case sig > SIGRTMIN && sig <= SIGRTMAX:
		return "SIGRTMIN+" + strconv.Itoa(sig-SIGRTMIN)
	}
	return "signal " + strconv.Itoa(sig)
}

// SignalByName finds a signal by its name, with or without SIG, in any case, or
// by its number. 0 is valid as a number: the signal that only asks. ok is false
// if there is none.
func SignalByName(s string) (sig int, ok bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return n, n >= 0 && n < NSIG
	}
	s = strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for i, n := range signalNames {
		if n == s && n != "" {
			return i, true
		}
	}
	if s == "RTMAX" {
		return SIGRTMAX, true
	}
	if rest, is := strings.CutPrefix(s, "RTMIN"); is {
		if rest == "" {
			return SIGRTMIN, true
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "+"))
		if err == nil && rest[0] == '+' && n >= 0 && SIGRTMIN+n <= SIGRTMAX {
			return SIGRTMIN + n, true
		}
	}
	return 0, false
}

// Values of Sigaction.Handler; every other one is a handler of the client's.
const (
	SIG_DFL = 0
	SIG_IGN = 1
)

// Flags of Sigaction. A client's handler runs in the client, beside its calls
// and not on top of them: SA_ONSTACK, SA_NODEFER, SA_SIGINFO and the mask are
// kept and change nothing.
const (
	SA_ONSTACK   = 0x0001
	SA_RESTART   = 0x0002 // calls that can be restarted are not interrupted
	SA_RESETHAND = 0x0004 // back to SIG_DFL with the first delivery
	SA_NOCLDSTOP = 0x0008 // SIGCHLD: not for children that stop
	SA_NODEFER   = 0x0010
	SA_NOCLDWAIT = 0x0020 // SIGCHLD: children that end leave nothing to wait for
	SA_SIGINFO   = 0x0040
	SA_ALLFLAGS  = 0x007f
)

// What sigprocmask(2) does.
const (
	SIG_BLOCK   = 1
	SIG_UNBLOCK = 2
	SIG_SETMASK = 3
)

// Values of Siginfo.Code: where a signal comes from.
const (
	SI_USER   = 0 // kill(2)
	SI_QUEUE  = -1
	SI_LWP    = -5    // _lwp_kill(2)
	SI_NOINFO = 32767 // the kernel, which says no more

	CLD_EXITED    = 1 // SIGCHLD: it ended by itself; Value is the status
	CLD_KILLED    = 2 // by a signal, which Value is
	CLD_STOPPED   = 5
	CLD_CONTINUED = 6

	POLL_IN  = 1 // SIGIO: there is something to read
	POLL_OUT = 2 // or room to write
)

// Options of wait4(2).
const (
	WNOHANG    = 0x01
	WUNTRACED  = 0x02 // also children that have stopped
	WALLSIG    = 0x08
	WCONTINUED = 0x10 // accepted; nothing is answered for it
)

// WExited and WSignaled take a status of wait4(2) apart, WStopped too; ok says
// whether it is of that kind.
func WExited(status int) (code int, ok bool) { return status >> 8 & 0xff, status&0x7f == 0 }

// WSignaled is the signal that ended the child.
func WSignaled(status int) (sig int, ok bool) {
	sig = status & 0x7f
	return sig, sig != 0 && sig != 0x7f
}

// WStopped is the signal that stopped it.
func WStopped(status int) (sig int, ok bool) { return status >> 8 & 0xff, status&0x7f == 0x7f }

// Sigset is a set of signals: bit n-1 is signal n. sigset_t has 128 bits, of
// which the upper half belongs to no signal.
type Sigset uint64

// SigsetSize is the size of a coded Sigset in bytes.
const SigsetSize = 16

// SigsetOf makes a set. Numbers that are no signals are left out.
func SigsetOf(sigs ...int) (s Sigset) {
	for _, sig := range sigs {
		s.Add(sig)
	}
	return s
}

// Add puts a signal in.
func (s *Sigset) Add(sig int) { *s |= bit(sig) }

// Del takes it out.
func (s *Sigset) Del(sig int) { *s &^= bit(sig) }

// Has reports whether it is in.
func (s Sigset) Has(sig int) bool { return s&bit(sig) != 0 }

// Signals lists the signals of the set.
func (s Sigset) Signals() (sigs []int) {
	for sig := 1; sig < NSIG; sig++ {
		if s.Has(sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

func bit(sig int) Sigset {
	if sig <= 0 || sig >= NSIG {
		return 0
	}
	return 1 << (sig - 1)
}

// AppendSigset codes s as a sigset_t.
func AppendSigset(b []byte, s Sigset) []byte {
	return le.AppendUint64(le.AppendUint64(b, uint64(s)), 0)
}

// ParseSigset reads a sigset_t, of exactly SigsetSize bytes. EINVAL. Bits that
// are no signals are lost.
func ParseSigset(b []byte) (Sigset, error) {
	if len(b) != SigsetSize {
		return 0, EINVAL
	}
	return Sigset(le.Uint64(b)) &^ (1 << (NSIG - 1)), nil
}

// Sigaction is what a process does with a signal (struct sigaction).
type Sigaction struct {
	Handler uint64 // SIG_DFL, SIG_IGN, or the client's own affair
	Mask    Sigset
	Flags   uint32 // SA_*
}

// SigactionSize is the size of a coded Sigaction in bytes.
const SigactionSize = 8 + SigsetSize + 8

// AppendSigaction codes a: handler (8 bytes), mask, flags (4), 4 of padding.
func AppendSigaction(b []byte, a Sigaction) []byte {
	b = AppendSigset(le.AppendUint64(b, a.Handler), a.Mask)
	return le.AppendUint32(le.AppendUint32(b, a.Flags), 0)
}

// ParseSigaction reads what AppendSigaction wrote. EINVAL for another length.
func ParseSigaction(b []byte) (a Sigaction, err error) {
	if len(b) != SigactionSize {
		return a, EINVAL
	}
	a.Handler, a.Flags = le.Uint64(b), le.Uint32(b[8+SigsetSize:])
	a.Mask, err = ParseSigset(b[8 : 8+SigsetSize])
	return a, err
}

// Siginfo is a signal and where it comes from (siginfo_t).
type Siginfo struct {
	Signo int
	Code  int    // SI_*, CLD_*, POLL_*
	Pid   int32  // who sent it, or the child
	Uid   uint32 // real user of that
	Value int64  // sigqueue's value; a child's status; what is ready, POLL*
}

// SiginfoSize is the size of a coded Siginfo in bytes.
const SiginfoSize = 128

// AppendSiginfo codes si: signo, code, errno (0), padding, pid, uid (4 bytes
// each), value (8), and zeros.
func AppendSiginfo(b []byte, si Siginfo) []byte {
	n := len(b)
	b = le.AppendUint32(b, uint32(int32(si.Signo)))
	b = le.AppendUint32(b, uint32(int32(si.Code)))
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, uint32(si.Pid))
	b = le.AppendUint32(b, si.Uid)
	b = le.AppendUint64(b, uint64(si.Value))
	return append(b, make([]byte, SiginfoSize-(len(b)-n))...)
}

// ParseSiginfo reads what AppendSiginfo wrote. EINVAL for another length, or a
// number that is no signal.
func ParseSiginfo(b []byte) (si Siginfo, err error) {
	if len(b) != SiginfoSize {
		return si, EINVAL
	}
	si = Siginfo{Signo: int(int32(le.Uint32(b))), Code: int(int32(le.Uint32(b[4:]))), Pid: int32(le.Uint32(b[16:])),
		Uid: le.Uint32(b[20:]), Value: int64(le.Uint64(b[24:]))}
	if si.Signo <= 0 || si.Signo >= NSIG {
		return Siginfo{}, EINVAL
	}
	return si, nil
}

// String is the signal in one line: "SIGUSR1 from process 7 of uid 0".
func (si Siginfo) String() string {
	s := SignalName(si.Signo)
	if si.Code <= 0 {
		s += " from process " + strconv.Itoa(int(si.Pid)) + " of uid " + strconv.FormatUint(uint64(si.Uid), 10)
	}
	return s
}
