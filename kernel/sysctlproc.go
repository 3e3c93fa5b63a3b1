package kernel

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fileTimeout bounds reading kern.file: components are asked for sizes and
// addresses.
const fileTimeout = 5 * time.Second

// procTables are the nodes of NetBSD that ps, fstat and top read: tables of
// processes and files, which here are the JSON of procstat and filestat, and
// times.
func (k *Kernel) procTables() []sysctl.Node {
	procs := func(c *abi.Caller) string {
		b, _ := k.sys.ProcsJSON(c)
		return string(b)
	}
	files := func(c *abi.Caller) string {
		ctx, cancel := context.WithTimeout(context.Background(), fileTimeout)
		defer cancel()
		b, _ := k.sys.FilesJSON(ctx, c)
		return string(b)
	}
	return []sysctl.Node{
		{Name: "kern.proc", Type: sysctl.TypeStruct, Desc: "System-wide process information, as JSON", GetFor: procs, Large: true},
		{Name: "kern.proc2", Type: sysctl.TypeStruct, Desc: "Machine-independent process information, as JSON", GetFor: procs, Large: true},
		{Name: "kern.file", Type: sysctl.TypeStruct, Desc: "System open file table, as JSON", GetFor: files, Large: true},
		{Name: "kern.file2", Type: sysctl.TypeStruct, Desc: "System open file table, as JSON", GetFor: files, Large: true},
		{Name: "kern.ntptime", Type: sysctl.TypeStruct, Desc: "Kernel clock values for NTP", Get: k.getNtptime},
		{Name: "kern.cp_time", Type: sysctl.TypeStruct, Desc: "Clock ticks spent in different CPU states", Get: k.getCPTime},
	}
}

// getNtptime is struct ntptimeval of a clock that nobody disciplines here: the
// time is the host's, the errors NetBSD's at boot, and the state TIME_ERROR.
func (k *Kernel) getNtptime() string {
	now := k.hyp.Now()
	return fmt.Sprintf("time = %d.%09d, maxerror = 500000, esterror = 500000, tai = 0, time_state = 5", now.Unix(), now.Nanosecond())
}

// getCPTime is what the host process has used, in ticks: user for its code,
// system for what the host did for it, and the rest of what the virtual CPUs
// could have had since boot is idle.
func (k *Kernel) getCPTime() string {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	ticks := func(tv syscall.Timeval) int64 { return clock.Ticks(time.Duration(tv.Nano())) }
	user, sys := ticks(ru.Utime), ticks(ru.Stime)
	all := clock.Ticks(k.hyp.Now().Sub(k.boot)) * int64(k.ncpu())
	return fmt.Sprintf("user = %d, nice = 0, sys = %d, intr = 0, idle = %d", user, sys, max(0, all-user-sys))
}

// diskNames lists the block devices.
func (k *Kernel) diskNames() string {
	var names []string
	for _, b := range k.Dev.Blks() {
		names = append(names, b.Name)
	}
	return strings.Join(names, " ")
}

// procArgs are the nodes of kern.proc_args.<pid>, nil if there is no such
// process. A client's arguments and environment stay with the client: its name
// is all that the kernel is told.
func (k *Kernel) procArgs(pid string) []sysctl.Node {
	n, err := strconv.ParseInt(pid, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != pid {
		return nil
	}
	p, err := k.Procs.Find(int32(n))
	if err != nil {
		return nil
	}
	return []sysctl.Node{
		{Name: "argv", Type: sysctl.TypeString, Desc: "Process arguments", Get: p.Name},
		{Name: "nargv", Type: sysctl.TypeInt, Desc: "Number of process arguments", Get: sysctl.Const("1")},
		{Name: "env", Type: sysctl.TypeString, Desc: "Process environment", Get: sysctl.Const("")},
		{Name: "nenv", Type: sysctl.TypeInt, Desc: "Number of environment variables", Get: sysctl.Const("0")},
		{Name: "pathname", Type: sysctl.TypeString, Desc: "Process pathname", Get: p.Name},
	}
}
