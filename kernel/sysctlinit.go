package kernel

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysctlInit adds the kernel's own nodes.
func (k *Kernel) sysctlInit() {
	machine := runtime.GOARCH
	if machine == "arm64" {
		machine = "aarch64"
	}
	memory := func(part func(vfs.Memory) int64) func() string {
		return sysctl.Int(func() int64 { return part(k.VFS.Memory()) })
	}
	blocks := func(part func(bio.Stats) int64) func() string {
		return sysctl.Int(func() int64 { return part(k.Bio.Stats()) })
	}
	for _, n := range append(k.secmodelNodes(), []sysctl.Node{
		{Name: "kern.ostype", Type: sysctl.TypeString, Desc: "Operating system type", Get: sysctl.Const("rumpus")},
		{Name: "kern.osrelease", Type: sysctl.TypeString, Desc: "Operating system release", Get: sysctl.Const(Getversion().String())},
		{Name: "kern.osrevision", Type: sysctl.TypeInt, Desc: "Kernel ABI version", Get: sysctl.Const(strconv.Itoa(int(Getversion())))},
		{Name: "kern.version", Type: sysctl.TypeString, Desc: "Kernel version", Get: sysctl.Const("rumpus " + Getversion().String() + " (" + runtime.Version() + ")")},
		{Name: "kern.hostname", Type: sysctl.TypeString, Desc: "System hostname", Get: k.getHostname, Set: k.setHostname},
		{Name: "kern.maxfiles", Type: sysctl.TypeInt, Desc: "Maximum number of open files", Get: sysctl.Int(k.Files.Max.Load), Set: k.setMaxfiles},
		{Name: "kern.openfiles", Type: sysctl.TypeInt, Desc: "Open files", Get: sysctl.Int(k.Files.Count)},
		{Name: "kern.pipe.maxkvasz", Type: sysctl.TypeInt, Desc: "Memory of pipes above which none grows, bytes", Get: sysctl.Int(k.Pipes.MaxKVA.Load), Set: setInt(&k.Pipes.MaxKVA)},
		{Name: "kern.pipe.maxbigpipes", Type: sysctl.TypeInt, Desc: "Maximum number of big pipes", Get: sysctl.Int(k.Pipes.MaxBig.Load), Set: setInt(&k.Pipes.MaxBig)},
		{Name: "kern.pipe.nbigpipes", Type: sysctl.TypeInt, Desc: "Number of big pipes", Get: sysctl.Int(k.Pipes.Big)},
		{Name: "kern.pipe.kvasize", Type: sysctl.TypeInt, Desc: "Memory of pipes, bytes", Get: sysctl.Int(k.Pipes.KVA)},
		{Name: "net.local.inflight", Type: sysctl.TypeInt, Desc: "Files in messages between AF_LOCAL sockets", Get: sysctl.Int(k.Socket.LocalInFlight)},
		{Name: "kern.maxproc", Type: sysctl.TypeInt, Desc: "Maximum number of processes", Get: sysctl.Const(strconv.Itoa(proc.MaxProcs))},
		{Name: "kern.boottime", Type: sysctl.TypeStruct, Desc: "System boot time, seconds since 1970", Get: sysctl.Const(strconv.FormatInt(k.boot.Unix(), 10))},
		{Name: "kern.state", Type: sysctl.TypeString, Desc: "State of the kernel", Get: func() string { return string(k.State()) }},
		{Name: "kern.msgbufsize", Type: sysctl.TypeInt, Desc: "Size of the message buffer, bytes", Get: sysctl.Const(strconv.Itoa(kprintf.Size))},
		{Name: "kern.msgbuf", Type: sysctl.TypeStruct, Desc: "Message buffer", Get: func() string { b, _ := k.Msg.Read(0); return string(b) }},
		{Name: "kern.evcnt", Type: sysctl.TypeStruct, Desc: "Event counters, as JSON", Get: k.getEvcnt},
		{Name: "kern.module.autoload", Type: sysctl.TypeBool, Desc: "Enable automatic load of modules", Get: boolean(k.Mod.Autoloads), Set: setBoolean(k.Mod.SetAutoload)},
		{Name: "kern.module.verbose", Type: sysctl.TypeBool, Desc: "Enable verbose output", Get: boolean(k.Mod.Verbose), Set: setBoolean(k.Mod.SetVerbose)},
		{Name: "kern.module.path", Type: sysctl.TypeString, Desc: "Directories of the host where modules are looked for", Get: sysctl.Const(k.o.ModulePath)},
		{Name: "kern.module.autotime", Type: sysctl.TypeInt, Desc: "Seconds after which an autoloaded module is tried to be unloaded; 0 is never", Get: sysctl.Int(k.Mod.Autotime), Set: k.Mod.SetAutotime},
		{Name: "kern.boottrace", Type: sysctl.TypeStruct, Desc: "Boot steps in order, as JSON", Get: func() string { b, _ := json.Marshal(k.BootTrace()); return string(b) }},
		{Name: "hw.model", Type: sysctl.TypeString, Desc: "Machine model", Get: sysctl.Const("rumpcore (virtual)")},
		{Name: "hw.machine", Type: sysctl.TypeString, Desc: "Machine class", Get: sysctl.Const("rump")},
		{Name: "hw.machine_arch", Type: sysctl.TypeString, Desc: "Machine CPU class", Get: sysctl.Const(machine)},
		{Name: "hw.ncpu", Type: sysctl.TypeInt, Desc: "Number of CPUs", Get: sysctl.Const(strconv.Itoa(k.ncpu()))},
		{Name: "hw.pagesize", Type: sysctl.TypeInt, Desc: "Page size, bytes", Get: sysctl.Const(strconv.Itoa(abi.PageSize))},
		{Name: "vfs.generic.fstypes", Type: sysctl.TypeString, Desc: "File-system types, as JSON", Get: k.getFstypes},
		{Name: "vfs.generic.mounts", Type: sysctl.TypeStruct, Desc: "Mounts with their instance, options and state, as JSON", Get: k.getMounts, Large: true},
		{Name: "vfs.pagecache.bytes", Type: sysctl.TypeQuad, Desc: "Memory of file pages, bytes", Get: sysctl.Int(k.VFS.PageBytes)},
		{Name: "vfs.vnodes", Type: sysctl.TypeQuad, Desc: "Vnodes in memory", Get: sysctl.Int(k.VFS.Vnodes)},
		{Name: "vfs.memory.limit", Type: sysctl.TypeQuad, Desc: "What all caches of files may take together, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Limit })},
		{Name: "vfs.memory.pages", Type: sysctl.TypeQuad, Desc: "Memory of file pages, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Pages })},
		{Name: "vfs.memory.names", Type: sysctl.TypeQuad, Desc: "Memory of the name cache, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Names })},
		{Name: "vfs.memory.vnodes", Type: sysctl.TypeQuad, Desc: "Memory of vnodes, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Vnodes })},
		{Name: "vfs.memory.listings", Type: sysctl.TypeQuad, Desc: "Memory of directory listings, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Listings })},
		{Name: "vfs.memory.blocks", Type: sysctl.TypeQuad, Desc: "Memory of cached blocks of devices, and of layers over them, bytes", Get: memory(func(m vfs.Memory) int64 { return m.Blocks })},
		{Name: "vfs.bio.inflight", Type: sysctl.TypeQuad, Desc: "Requests that block devices have now", Get: blocks(func(s bio.Stats) int64 { return s.Inflight })},
		{Name: "vfs.bio.cached", Type: sysctl.TypeQuad, Desc: "Cached blocks of devices, bytes", Get: blocks(func(s bio.Stats) int64 { return s.Cached })},
		{Name: "vfs.bio.dirty", Type: sysctl.TypeQuad, Desc: "Of them, not yet written, bytes", Get: blocks(func(s bio.Stats) int64 { return s.Dirty })},
		{Name: "vfs.bio.layers", Type: sysctl.TypeQuad, Desc: "Layers over devices, bytes", Get: blocks(func(s bio.Stats) int64 { return s.Layers })},
	}...) {
		if err := k.Sysctl.Create(n); err != nil {
			k.Msg.Printf("%v", err)
		}
	}
}

// boolean and setBoolean are the functions of a node of type bool.
func boolean(get func() bool) func() string {
	return func() string {
		if get() {
			return "1"
		}
		return "0"
	}
}

func setBoolean(set func(bool)) func(string) error {
	return func(s string) error {
		set(s == "1")
		return nil
	}
}

func (k *Kernel) getHostname() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hostname
}

func (k *Kernel) setHostname(s string) error {
	if len(s) > 255 {
		return abi.ENAMETOOLONG
	}
	k.mu.Lock()
	k.hostname = s
	k.mu.Unlock()
	return nil
}

func (k *Kernel) setMaxfiles(s string) error {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil || n < 16 {
		return fmt.Errorf("kern.maxfiles must be at least 16: %w", abi.EINVAL)
	}
	k.Files.Max.Store(n)
	return nil
}

// setInt sets a limit: a number that is not negative.
func setInt(v *atomic.Int64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 0, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is no limit: %w", s, abi.EINVAL)
		}
		v.Store(n)
		return nil
	}
}

func (k *Kernel) getEvcnt() string {
	b, _ := json.Marshal(k.Evcnt.Rows())
	return string(b)
}

// getMounts is the table of mounts with what statvfs(2) does not say.
func (k *Kernel) getMounts() string {
	type row struct {
		Fsid     abi.Fsid          `json:"fsid"`
		Dir      string            `json:"dir"`
		Type     string            `json:"type"`
		Source   string            `json:"source"`
		Instance string            `json:"instance"`
		Options  map[string]string `json:"options"`
		Up       bool              `json:"up"`
	}
	rows := []row{}
	for _, m := range k.VFS.Mounts() {
		rows = append(rows, row{m.Fsid, m.Dir, m.Type, m.Source, m.Instance, m.Options, m.Up})
	}
	b, _ := json.Marshal(rows)
	return string(b)
}

func (k *Kernel) getFstypes() string {
	names := []string{}
	for _, t := range k.VFS.Types() {
		names = append(names, t.Name)
	}
	b, _ := json.Marshal(names)
	return string(b)
}

// sysctlOptions sets what the options ask for, in order of name.
func (k *Kernel) sysctlOptions() error {
	var names []string
	for n := range k.o.Sysctl {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if err := k.Sysctl.Set(n, k.o.Sysctl[n]); err != nil {
			return err
		}
	}
	return nil
}
