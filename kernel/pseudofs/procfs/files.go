package procfs

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

type readProc = func(ctx context.Context, s *source, c *abi.Caller, p *proc.Proc) ([]byte, error)

// topFiles are the files beside the processes' directories. Their places are
// their numbers.
var topFiles = []struct {
	name  string
	typ   abi.VType
	linux bool
	read  func(ctx context.Context, s *source, c *abi.Caller) ([]byte, error)
}{
	{"curproc", abi.VLNK, false, readSelf},
	{"self", abi.VLNK, false, readSelf},
	{"cpuinfo", abi.VREG, true, readCpuinfo},
	{"loadavg", abi.VREG, true, readLoadavg},
	{"meminfo", abi.VREG, true, readMeminfo},
	{"mounts", abi.VREG, true, readMounts},
	{"uptime", abi.VREG, true, readUptime},
	{"version", abi.VREG, true, readVersion},
}

// procFiles are the files of a process but fd. Their places are their numbers.
var procFiles = []struct {
	name  string
	typ   abi.VType
	linux bool
	read  readProc
}{
	{"cmdline", abi.VREG, false, readCmdline},
	{"cwd", abi.VLNK, false, readCwd},
	{"limit", abi.VREG, false, readLimit},
	{"root", abi.VLNK, false, readRoot},
	{"status", abi.VREG, false, readStatus},
	{"stat", abi.VREG, true, readStat},
	{"statm", abi.VREG, true, readStatm},
}

// clean is a client's text on a line of a file: no byte of it ends a line or a
// word.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// readSelf names the process of who asks; ENOENT if that is not known.
func readSelf(_ context.Context, s *source, c *abi.Caller) ([]byte, error) {
	if c == nil {
		return nil, abi.ENOENT
	}
	if _, err := s.d.Procs.Find(c.Pid); err != nil {
		return nil, abi.ENOENT
	}
	return fmt.Appendf(nil, "%d", c.Pid), nil
}

func (s *source) sysctl(name string) string {
	v, _ := s.d.Sysctl.Get(name)
	return v
}

func readCpuinfo(_ context.Context, s *source, _ *abi.Caller) ([]byte, error) {
	var n int
	fmt.Sscan(s.sysctl("hw.ncpu"), &n)
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "processor\t: %d\nmodel name\t: %s\n\n", i, s.sysctl("hw.model"))
	}
	return b.Bytes(), nil
}

// readLoadavg has processes in system calls and all of them; averages are not
// kept.
func readLoadavg(_ context.Context, s *source, c *abi.Caller) ([]byte, error) {
	run, all, last := 0, 0, int32(0)
	for _, p := range s.procs(c) {
		all++
		if p.State() == "R" {
			run++
		}
		last = max(last, p.Pid)
	}
	return fmt.Appendf(nil, "0.00 0.00 0.00 %d/%d %d\n", run, all, last), nil
}

// readMeminfo has the host's memory, of which the caches of files are the part
// that the kernel may take and takes.
func readMeminfo(_ context.Context, s *source, _ *abi.Caller) ([]byte, error) {
	var total int64
	fmt.Sscan(s.sysctl("hw.physmem64"), &total)
	m := s.d.VFS.Memory()
	used := m.Pages + m.Names + m.Vnodes + m.Listings + m.Blocks
	return fmt.Appendf(nil, "MemTotal: %8d kB\nMemFree:  %8d kB\nBuffers:  %8d kB\nCached:   %8d kB\n",
		total>>10, max(m.Limit-used, 0)>>10, m.Blocks>>10, m.Pages>>10), nil
}

// readMounts is a line a mount: source, directory, type, options, 0 0. Spaces
// and the like are octal, as in fstab(5).
func readMounts(_ context.Context, s *source, _ *abi.Caller) ([]byte, error) {
	esc := func(t string) string {
		var b strings.Builder
		for i := range len(t) {
			if c := t[i]; c <= ' ' || c == '\\' || c == 0x7f {
				fmt.Fprintf(&b, "\\%03o", c)
			} else {
				b.WriteByte(c)
			}
		}
		return b.String()
	}
	var b bytes.Buffer
	for _, m := range s.d.VFS.Mounts() {
		opt, from := "rw", m.Source
		if m.Flags&abi.MNT_RDONLY != 0 {
			opt = "ro"
		}
		for _, f := range []struct {
			bit  uint64
			name string
		}{{abi.MNT_NOEXEC, "noexec"}, {abi.MNT_NOSUID, "nosuid"}, {abi.MNT_NODEV, "nodev"}, {abi.MNT_NOATIME, "noatime"}, {abi.MNT_SYNCHRONOUS, "sync"}} {
			if m.Flags&f.bit != 0 {
				opt += "," + f.name
			}
		}
		if from == "" {
			from = m.Type
		}
		fmt.Fprintf(&b, "%s %s %s %s 0 0\n", esc(from), esc(m.Dir), esc(m.Type), opt)
	}
	return b.Bytes(), nil
}

func readUptime(_ context.Context, s *source, _ *abi.Caller) ([]byte, error) {
	up := s.d.Now().Sub(s.d.Booted)
	return fmt.Appendf(nil, "%d.%02d 0.00\n", up/time.Second, up%time.Second/(10*time.Millisecond)), nil
}

func readVersion(_ context.Context, s *source, _ *abi.Caller) ([]byte, error) {
	return []byte(s.sysctl("kern.version") + "\n"), nil
}

func readCmdline(_ context.Context, _ *source, _ *abi.Caller, p *proc.Proc) ([]byte, error) {
	return append([]byte(p.Name()), 0), nil
}

func readCwd(ctx context.Context, s *source, c *abi.Caller, p *proc.Proc) ([]byte, error) {
	return s.dirText(s.d.VFS.Getcwd(ctx, vfs.Where{Caller: c, Cwd: p.Cwd()}))
}

func readRoot(ctx context.Context, s *source, c *abi.Caller, p *proc.Proc) ([]byte, error) {
	return s.dirText(s.d.VFS.Getroot(ctx, vfs.Where{Caller: c, Cwd: p.Cwd()}))
}

// dirText is the text of a link to a directory: its path, ENOENT if it has none.
func (s *source) dirText(path string, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return []byte(path), nil
}

// fdText is the text of a descriptor's link. A path that was given relative to
// a directory, or is too long, is not known any more.
func (s *source) fdText(_ context.Context, p *proc.Proc, fd int) ([]byte, error) {
	f, err := p.Fd.Get(fd)
	if err != nil {
		return nil, abi.ENOENT
	}
	defer f.Release(context.Background())
	if dir, err := s.d.VFS.Path(vfs.Where{}, f); err == nil {
		return []byte(dir), nil
	}
	if strings.HasPrefix(f.Name, "/") && len(f.Name) < abi.PATH_MAX && !strings.ContainsRune(f.Name, 0) {
		return []byte(f.Name), nil
	}
	return fmt.Appendf(nil, "%s:[%d]", f.Type, fd), nil
}

// limitNames are RLIMIT_* as sysctl calls them.
var limitNames = [abi.RLIM_NLIMITS]string{"cputime", "filesize", "datasize", "stacksize", "coredumpsize", "memoryuse", "memorylocked",
	"maxproc", "descriptors", "sbsize", "vmemoryuse", "maxlwp"}

func readLimit(_ context.Context, _ *source, _ *abi.Caller, p *proc.Proc) ([]byte, error) {
	var b bytes.Buffer
	text := func(n int64) string {
		if n == abi.RLIM_INFINITY {
			return "unlimited"
		}
		return fmt.Sprint(n)
	}
	for i, name := range limitNames {
		l, err := p.Rlimit(i)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s\n", name, text(l.Cur), text(l.Max))
	}
	return b.Bytes(), nil
}

// readStatus is NetBSD's line.
func readStatus(_ context.Context, s *source, _ *abi.Caller, p *proc.Proc) ([]byte, error) {
	wmesg := ""
	if s.d.Wmesg != nil {
		wmesg = s.d.Wmesg(p.Pid)
	}
	if wmesg == "" {
		wmesg = "nochan"
	}
	c := p.Cred()
	b := fmt.Appendf(nil, "%s %d %d %d %d noflags 0,0 0,0 0,0 %s %d, %d", clean(p.Name()), p.Pid, p.Ppid(), p.Pgid(), p.Sid(), wmesg, c.Euid, c.Egid)
	for _, g := range c.Groups {
		b = fmt.Appendf(b, ",%d", g)
	}
	return append(b, '\n'), nil
}

// readStat has Linux's first fields, and 0 for all that the kernel does not
// know.
func readStat(_ context.Context, _ *source, _ *abi.Caller, p *proc.Proc) ([]byte, error) {
	state := p.State()
	if state == "I" {
		state = "S"
	}
	b := fmt.Appendf(nil, "%d (%s) %s %d %d %d", p.Pid, clean(p.Name()), state, p.Ppid(), p.Pgid(), p.Sid())
	for range 38 {
		b = append(b, " 0"...)
	}
	return append(b, '\n'), nil
}

func readStatm(context.Context, *source, *abi.Caller, *proc.Proc) ([]byte, error) {
	return []byte("0 0 0 0 0 0 0\n"), nil
}
