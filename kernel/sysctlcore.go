package kernel

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysctlCore makes the top of the tree and the nodes of NetBSD's kern_sysctl
// that have a meaning here. Numbers are 32 bits; what is larger has a second
// node whose name ends in 64.
func (k *Kernel) sysctlCore() {
	for name, desc := range map[string]string{
		"kern": "High kernel", "vm": "Virtual memory", "vfs": "Filesystem", "net": "Networking", "debug": "Debugging", "hw": "Generic CPU, I/O",
		"machdep": "Machine dependent", "user": "User-level", "ddb": "In-kernel debugger", "vendor": "Vendor specific", "emul": "Emulation settings",
		"security": "Security",
	} {
		k.Sysctl.Branch(name, desc)
	}
	constInt := func(name, desc string, n int) sysctl.Node {
		return sysctl.Node{Name: name, Type: sysctl.TypeInt, Desc: desc, Get: sysctl.Const(strconv.Itoa(n))}
	}
	mem := hyper.Memory()
	nodes := []sysctl.Node{
		{Name: "kern.domainname", Type: sysctl.TypeString, Desc: "YP domain name", Get: k.getDomainname, Set: k.setDomainname},
		{Name: "kern.hostid", Type: sysctl.TypeInt, Desc: "System host ID number", Get: sysctl.Int(k.hostid.Load), Set: k.setHostid},
		constInt("kern.rawpartition", "Raw partition of a disk", 3),
		constInt("kern.maxpartitions", "Maximum number of partitions allowed per disk", 16),
		constInt("kern.argmax", "Maximum number of bytes of arguments to execve(2)", 256<<10),
		constInt("kern.ngroups", "Maximum number of supplemental groups", abi.NGroupsMax),
		constInt("kern.saved_ids", "Whether saved set-group/user ID is available", 1),
		constInt("kern.job_control", "Whether job control is available", 0),
		constInt("kern.monotonic_clock", "Implementation version of the POSIX 1003.1b Monotonic Clock Option", 200112),
		{Name: "kern.clockrate", Type: sysctl.TypeStruct, Desc: "Kernel clock rates", Get: sysctl.Const(fmt.Sprintf(
			"tick = %d, tickadj = 0, hz = %d, profhz = %d, stathz = %d", clock.Tick.Microseconds(), clock.Hz, clock.Hz, clock.Hz))},
		{Name: "kern.hardclock_ticks", Type: sysctl.TypeInt, Desc: "Number of hardclock ticks", Get: k.getTicks},
		{Name: "kern.timecounter.choice", Type: sysctl.TypeString, Desc: "Timecounter hardware detected", Get: sysctl.Const("hyper(q=1000, f=1000000000 Hz)")},
		{Name: "kern.timecounter.hardware", Type: sysctl.TypeString, Desc: "Timecounter hardware selected", Get: sysctl.Const("hyper")},
		constInt("kern.timecounter.timestepwarnings", "Warn time steps", 0),
		{Name: "kern.urandom", Type: sysctl.TypeInt, Desc: "Random integer value", Get: k.getRandom},
		{Name: "kern.arandom", Type: sysctl.TypeInt, Desc: "Random integer value", Get: k.getRandom},
		{Name: "kern.lwp", Type: sysctl.TypeStruct, Desc: "Kernel threads and lwps that sleep, with their wait messages, as JSON", Get: k.getLwps},
		{Name: "hw.ncpuonline", Type: sysctl.TypeInt, Desc: "Number of CPUs online", Get: sysctl.Const(strconv.Itoa(k.ncpu()))},
		constInt("hw.byteorder", "System byte order", 1234),
		constInt("hw.alignbytes", "Alignment constraint for all possible data types", 7),
		constInt("hw.physmem", "Bytes of physical memory", int(min(mem, 1<<31-1))),
		constInt("hw.usermem", "Bytes of non-kernel memory", int(min(mem, 1<<31-1))),
		{Name: "hw.physmem64", Type: sysctl.TypeQuad, Desc: "Bytes of physical memory", Get: sysctl.Const(strconv.FormatUint(mem, 10))},
		{Name: "hw.usermem64", Type: sysctl.TypeQuad, Desc: "Bytes of non-kernel memory", Get: sysctl.Const(strconv.FormatUint(mem, 10))},
		{Name: "hw.disknames", Type: sysctl.TypeString, Desc: "List of disk drives present", Get: k.diskNames},
		{Name: "hw.iostatnames", Type: sysctl.TypeString, Desc: "List of devices with I/O statistics", Get: k.Iostat.Names},
		{Name: "hw.iostats", Type: sysctl.TypeStruct, Desc: "Statistics on device I/O operations, as JSON", Get: k.getIostats},
	}
	for _, c := range []struct {
		name, desc string
		get        func(uidinfo.Counts) int64
	}{
		{"proccnt", "Number of processes for the current user", func(c uidinfo.Counts) int64 { return c.Procs }},
		{"lwpcnt", "Number of lwps for the current user", func(c uidinfo.Counts) int64 { return c.Lwps }},
		{"lockcnt", "Number of locks for the current user", func(c uidinfo.Counts) int64 { return c.Locks }},
		{"sbsize", "Socket buffers used for the current user", func(c uidinfo.Counts) int64 { return c.Sbsize }},
	} {
		nodes = append(nodes, sysctl.Node{Name: "kern.uidinfo." + c.name, Type: sysctl.TypeQuad, Desc: c.desc,
			GetFor: func(a *abi.Caller) string {
				return strconv.FormatInt(c.get(k.Procs.Uids.Find(a.Cred.Ruid).Counts()), 10)
			}})
	}
	nodes = append(nodes, k.procTables()...)
	for _, n := range nodes {
		if err := k.Sysctl.Create(n); err != nil {
			k.Msg.Printf("%v", err)
		}
	}
	own := func(c *abi.Caller) string { return strconv.Itoa(int(c.Pid)) }
	k.Sysctl.Branch("kern.proc_args", "Process argument information")
	k.Sysctl.Dynamic("kern.proc_args", sysctl.Dynamic{Parts: k.pids, Nodes: k.procArgs, Own: own})
	k.Sysctl.Dynamic("proc", sysctl.Dynamic{Parts: k.pids, Nodes: k.procNodes, Own: own})
}

func (k *Kernel) getDomainname() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.domainname
}

func (k *Kernel) setDomainname(s string) error {
	if len(s) > 255 {
		return abi.ENAMETOOLONG
	}
	k.mu.Lock()
	k.domainname = s
	k.mu.Unlock()
	return nil
}

func (k *Kernel) setHostid(s string) error {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		return abi.EINVAL
	}
	k.hostid.Store(n)
	return nil
}

func (k *Kernel) getTicks() string {
	return strconv.Itoa(int(int32(clock.Ticks(k.hyp.Now().Sub(k.boot)))))
}

func (k *Kernel) getRandom() string {
	var b [4]byte
	k.hyp.Entropy(b[:])
	return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b[:]))))
}

func (k *Kernel) getIostats() string {
	b, _ := json.Marshal(k.Iostat.Rows())
	return string(b)
}

// getLwps is kern.lwp: the kernel's threads with their wmesgs, and the lwps of
// processes that sleep.
func (k *Kernel) getLwps() string {
	type row struct {
		Pid   int32  `json:"pid"`
		Lid   int32  `json:"lid"`
		Name  string `json:"name"`
		Wmesg string `json:"wmesg"`
	}
	rows := []row{}
	for _, t := range k.Threads.Rows() {
		rows = append(rows, row{0, t.Lid, t.Name, t.Wmesg})
	}
	k.Procs.Each(func(p *proc.Proc) {
		for _, w := range p.Waiting() {
			rows = append(rows, row{p.Pid, w.Lid, p.Name(), callWmesg(p, w)})
		}
	})
	for _, s := range k.Threads.Sleeps() {
		if s.Pid == 0 && (s.Lid == 0 || s.Lid >= kthread.FirstLid) {
			continue // a thread, or nobody we know
		}
		name := ""
		if p, err := k.Procs.Find(s.Pid); err == nil {
			name = p.Name()
		}
		rows = append(rows, row{s.Pid, s.Lid, name, s.Wmesg})
	}
	b, _ := json.Marshal(rows)
	return string(b)
}

func (k *Kernel) pids() []string {
	var pids []string
	k.Procs.Each(func(p *proc.Proc) { pids = append(pids, strconv.Itoa(int(p.Pid))) })
	return pids
}

// limitNames are the names of limits below proc.<pid>.rlimit, by RLIMIT_*.
var limitNames = [abi.RLIM_NLIMITS]string{"cputime", "filesize", "datasize", "stacksize", "coredumpsize", "memoryuse", "memorylocked",
	"maxproc", "descriptors", "sbsize", "vmemoryuse", "maxlwp"}

// procNodes are the values of proc.<pid>, nil if there is no such process.
func (k *Kernel) procNodes(pid string) []sysctl.Node {
	n, err := strconv.ParseInt(pid, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != pid {
		return nil
	}
	p, err := k.Procs.Find(int32(n))
	if err != nil {
		return nil
	}
	nodes := []sysctl.Node{{Name: "corename", Type: sysctl.TypeString, Desc: "Core file name", Get: sysctl.Const("%n.core")}}
	for _, s := range []string{"stopfork", "stopexec", "stopexit"} {
		nodes = append(nodes, sysctl.Node{Name: s, Type: sysctl.TypeInt, Desc: "Stop process at " + s[4:] + "(2)", Get: sysctl.Const("0")})
	}
	for which, name := range limitNames {
		l, err := p.Rlimit(which)
		if err != nil {
			continue
		}
		set := func(change func(*proc.Rlimit, int64)) func(string) error {
			return func(s string) error {
				n, err := strconv.ParseInt(s, 0, 64)
				if err != nil {
					return abi.EINVAL
				}
				l, err := p.Rlimit(which)
				if err != nil {
					return err
				}
				change(&l, n)
				return p.SetRlimit(which, l, func() error { return nil }) // who may write here may raise limits
			}
		}
		nodes = append(nodes,
			sysctl.Node{Name: "rlimit." + name + ".soft", Type: sysctl.TypeQuad, Desc: "Process soft limit", Get: sysctl.Const(strconv.FormatInt(l.Cur, 10)),
				Set: set(func(l *proc.Rlimit, n int64) { l.Cur = n })},
			sysctl.Node{Name: "rlimit." + name + ".hard", Type: sysctl.TypeQuad, Desc: "Process hard limit", Get: sysctl.Const(strconv.FormatInt(l.Max, 10)),
				Set: set(func(l *proc.Rlimit, n int64) { l.Max = n; l.Cur = min(l.Cur, n) })})
	}
	return nodes
}
