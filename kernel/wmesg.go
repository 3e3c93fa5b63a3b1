package kernel

import (
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// wmesgs are the words of system calls that wait, as NetBSD's condition
// variables have them. Those that depend on the file are in fileWmesg.
var wmesgs = map[int]string{
	abi.SYS_poll: "poll", abi.SYS_pollts: "poll", abi.SYS_select: "select", abi.SYS_pselect: "select",
	abi.SYS_kevent: "kqueue", abi.SYS_flock: "lockf", abi.SYS_fcntl: "lockf",
	abi.SYS_wait4: "wait", abi.SYS_sigsuspend: "pause", abi.SYS___sigtimedwait: "sigwait",
	abi.SYS_connect: "socket", abi.SYS_accept: "socket", abi.SYS_paccept: "socket",
	abi.SYS_sendto: "netio", abi.SYS_sendmsg: "netio", abi.SYS_recvfrom: "netio", abi.SYS_recvmsg: "netio",
}

// wmesg is what a process waits for: the word of a tsleep, else that of the
// first of its system calls that wait; "" if nothing.
func (k *Kernel) wmesg(pid int32) string {
	for _, s := range k.Threads.Sleeps() {
		if s.Pid == pid {
			return s.Wmesg
		}
	}
	p, err := k.Procs.Find(pid)
	if err != nil {
		return ""
	}
	for _, w := range p.Waiting() {
		return callWmesg(p, w)
	}
	return ""
}

// callWmesg is the word for a system call that waits: its name if NetBSD has
// none that fits.
func callWmesg(p *proc.Proc, w proc.Wait) string {
	switch w.Num {
	case abi.SYS_read, abi.SYS_write, abi.SYS_ioctl, abi.SYS_fsync, abi.SYS_fdatasync:
		if s := fileWmesg(p, w); s != "" {
			return s
		}
	case abi.SYS_open: // of a fifo that nobody has open for the other direction
		return fifoWmesg(w.Args[0])
	case abi.SYS_openat:
		return fifoWmesg(w.Args[1])
	}
	if s := wmesgs[w.Num]; s != "" {
		return s
	}
	return abi.SyscallName(w.Num)
}

// fifoWmesg is what an open with flags waits for.
func fifoWmesg(flags uint64) string {
	if int(flags)&abi.O_ACCMODE == abi.O_RDONLY {
		return "fiford"
	}
	return "fifowr"
}

// fileWmesg is the word for a call on an open file.
func fileWmesg(p *proc.Proc, w proc.Wait) string {
	var t file.Type
	p.Fd.Each(func(fd int, f *file.File) {
		if fd == int(int32(w.Args[0])) {
			t = f.Type
		}
	})
	switch {
	case t == file.TypePipe && w.Num == abi.SYS_read:
		return "pipe_rd"
	case t == file.TypePipe && w.Num == abi.SYS_write:
		return "pipe_wr"
	case t == file.TypeSocket:
		return "netio"
	}
	return ""
}
