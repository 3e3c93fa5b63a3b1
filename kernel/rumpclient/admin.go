package rumpclient

import (
	"context"
	"encoding/json"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Commands of modctl(2) and sysctlbyname, as the kernel's system calls take
// them.
const (
	ModctlLoad   = 0
	ModctlUnload = 1
	ModctlStat   = 2
	ModctlExists = 3

	ModctlForce  = 1 // flag of load: other kernel versions and disabled builtins
	ModctlNoProp = 2 // flag of load: without the file of properties

	SysctlGet  = 0
	SysctlSet  = 1
	SysctlList = 2
)

// Modstat is one loaded module, as modstat(8) shows it.
type Modstat struct {
	Name     string   `json:"name"`
	Class    string   `json:"class"`
	Source   string   `json:"source"` // builtin, filesys (a plugin), boot
	Flag     string   `json:"flag"`
	Refs     int      `json:"refs"`
	Size     int64    `json:"size"` // bytes of the plugin, 0 for a builtin
	Requires []string `json:"requires"`
	Pid      int      `json:"pid"` // of the plugin's process on the host, 0 if none
	State    string   `json:"state"`
	Restarts int      `json:"restarts"`
	Epoch    uint32   `json:"epoch"`
	Instance string   `json:"instance"`

	Causes     map[string]int `json:"causes"`      // how often its processes have ended, by cause: see hyper.Death
	Cause      string         `json:"cause"`       // of the last end; "" if there was none
	RecoveryNs int64          `json:"recovery_ns"` // from knowing of the last end until all was back
	Spare      int            `json:"spare"`       // the process that stands by; 0 if none
	HangNs     int64          `json:"hang_ns"`     // processor time without progress for which it is taken to hang; 0: it is not judged
}

// SysctlNode is a node of the sysctl tree with its value as text.
type SysctlNode struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Value    string `json:"value"`
	Desc     string `json:"desc"`
	Writable bool   `json:"writable"`
}

// Ifstat is a network interface as ifconfig(8) shows it.
type Ifstat struct {
	Name       string   `json:"name"`
	Class      string   `json:"class"`
	Flags      []string `json:"flags"`
	MTU        int      `json:"mtu"`   // bytes
	Addrs      []string `json:"addrs"` // prefixes, "127.0.0.1/8"
	InPackets  uint64   `json:"in_packets"`
	InBytes    uint64   `json:"in_bytes"`
	InErrors   uint64   `json:"in_errors"`
	InDrops    uint64   `json:"in_drops"`
	OutPackets uint64   `json:"out_packets"`
	OutBytes   uint64   `json:"out_bytes"`
	OutErrors  uint64   `json:"out_errors"`
	OutDrops   uint64   `json:"out_drops"`
}

// Modload loads a module by name or path with properties, of which nil is none.
func (c *Client) Modload(ctx context.Context, name string, flags int, props map[string]any) error {
	a := argsPath(name, ModctlLoad, flags)
	if len(props) > 0 {
		in, err := json.Marshal(props)
		if err != nil {
			free(a)
			return fail(abi.SYS_modctl, name, abi.EINVAL)
		}
		a.In = in
	}
	return c.modctl(ctx, "modload", name, a)
}

// Modunload unloads a module: EBUSY while it is in use.
func (c *Client) Modunload(ctx context.Context, name string, flags int) error {
	return c.modctl(ctx, "modunload", name, argsPath(name, ModctlUnload, flags))
}

func (c *Client) modctl(ctx context.Context, op, name string, a *abi.Sysargs) error {
	err := c.k.Syscall(ctx, abi.SYS_modctl, a)
	free(a)
	if err != nil {
		return failOp(op, name, err)
	}
	return nil
}

// Modexists reports whether a module is loaded.
func (c *Client) Modexists(ctx context.Context, name string) (bool, error) {
	err := c.do(ctx, abi.SYS_modctl, name, argsPath(name, ModctlExists))
	if abi.ErrnoOf(err) == abi.ENOENT {
		return false, nil
	}
	return err == nil, err
}

// Modmay reports whether modules may be loaded by the caller, or (auto)
// autoloaded for him: modctl's EXISTS without a name.
func (c *Client) Modmay(ctx context.Context, auto bool) (bool, error) {
	n := 0
	if auto {
		n = 1
	}
	err := c.do(ctx, abi.SYS_modctl, "", argsPath("", ModctlExists, n))
	if abi.ErrnoOf(err) == abi.EPERM {
		return false, nil
	}
	return err == nil, err
}

// Modstat lists the loaded modules.
func (c *Client) Modstat(ctx context.Context) ([]Modstat, error) {
	return list[Modstat](ctx, c, abi.SYS_modstat, "", func() *abi.Sysargs { return args() })
}

// Sysctl reads a node by its name, "kern.hostname", as text.
func (c *Client) Sysctl(ctx context.Context, name string) (string, error) {
	b, err := c.text(ctx, abi.SYS_sysctlbyname, name, func() *abi.Sysargs { return argsPath(name, SysctlGet) })
	return string(b), err
}

// SysctlSet changes a node.
func (c *Client) SysctlSet(ctx context.Context, name, value string) error {
	a := argsPath(name, SysctlSet)
	a.In = []byte(value)
	return c.do(ctx, abi.SYS_sysctlbyname, name, a)
}

// Sysctlnum reads a node by its number, as bytes of the node's type, into old,
// and sets it to set unless that is nil (sysctl(3)). It answers how long the
// value is: ENOMEM if old is too short for it; nil only asks for the length. See
// abi/sysctl.go.
func (c *Client) Sysctlnum(ctx context.Context, name []int32, old, set []byte) (int, error) {
	a := args(len(name))
	a.In = append(abi.AppendSysctlName(nil, name), set...)
	if set != nil {
		a.A[1] = 1
	}
	a.Out = old[:min(len(old), abi.MaxTransfer)]
	err := c.k.Syscall(ctx, abi.SYS___sysctl, a)
	n := int(a.R[0])
	free(a)
	if err != nil {
		return n, fail(abi.SYS___sysctl, "", err)
	}
	return n, nil
}

// SysctlList lists the nodes at and below name; "" is the whole tree.
func (c *Client) SysctlList(ctx context.Context, name string) ([]SysctlNode, error) {
	return list[SysctlNode](ctx, c, abi.SYS_sysctlbyname, name, func() *abi.Sysargs { return argsPath(name, SysctlList) })
}

// Ifstat lists the network interfaces.
func (c *Client) Ifstat(ctx context.Context) ([]Ifstat, error) {
	return list[Ifstat](ctx, c, abi.SYS_ifstat, "", func() *abi.Sysargs { return args() })
}

// list decodes an answer that is a JSON array.
func list[T any](ctx context.Context, c *Client, num int, path string, mk func() *abi.Sysargs) ([]T, error) {
	b, err := c.text(ctx, num, path, mk)
	if err != nil {
		return nil, err
	}
	var all []T
	if len(b) > 0 {
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, answer(num, path, err)
		}
	}
	return all, nil
}

// Msgbuf reads the message buffer (dmesg) from pos on, 0 being the oldest that
// is kept, and answers where to go on. With wait it waits for a message if there
// is none; otherwise nothing new is 0 bytes.
func (c *Client) Msgbuf(ctx context.Context, pos uint64, wait bool, p []byte) (n int, next uint64, err error) {
	a := args()
	a.A[0] = pos
	if wait {
		a.A[1] = 1
	}
	a.Out = p[:min(len(p), abi.MaxTransfer)]
	err = c.k.Syscall(ctx, abi.SYS_msgbuf, a)
	n, next = min(max(a.NO, 0), len(a.Out)), a.R[1]
	free(a)
	if err != nil {
		return 0, pos, fail(abi.SYS_msgbuf, "", err)
	}
	return n, next, nil
}

// Reboot is reboot(2), with RB_* flags. The kernel may be gone before it can
// answer, so ErrGone is success here.
func (c *Client) Reboot(ctx context.Context, howto int) error {
	err := c.do(ctx, abi.SYS_reboot, "", args(howto))
	if isGone(err) {
		return nil
	}
	return err
}

// Utsname is struct utsname.
type Utsname struct {
	Sysname, Nodename, Release, Version, Machine string
}

// Uname is uname(3), which reads sysctl nodes.
func (c *Client) Uname(ctx context.Context) (u Utsname, err error) {
	for _, n := range [...]struct {
		name string
		to   *string
	}{
		{"kern.ostype", &u.Sysname}, {"kern.hostname", &u.Nodename}, {"kern.osrelease", &u.Release},
		{"kern.version", &u.Version}, {"hw.machine", &u.Machine},
	} {
		if *n.to, err = c.Sysctl(ctx, n.name); err != nil {
			return u, err
		}
	}
	return u, nil
}

// Getrandom is getrandom(2): it fills p with random bytes. It needs no device.
func (c *Client) Getrandom(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n, _, err := c.out(ctx, abi.SYS_getrandom, "", args(), p[:min(len(p), abi.MaxTransfer)])
		if err != nil {
			return err
		}
		if n == 0 {
			return answer(abi.SYS_getrandom, "", abi.EINVAL)
		}
		p = p[n:]
	}
	return nil
}

// id is one of the calls that answer an id and cannot fail but for a kernel
// that is gone.
func (c *Client) id(ctx context.Context, num int) (int, error) { return c.run(ctx, num, "", args()) }

// Getpid is getpid(2): the number of the client's process in the kernel.
func (c *Client) Getpid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getpid) }

// Getppid is getppid(2).
func (c *Client) Getppid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getppid) }

// Getuid is getuid(2).
func (c *Client) Getuid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getuid) }

// Geteuid is geteuid(2).
func (c *Client) Geteuid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_geteuid) }

// Getgid is getgid(2).
func (c *Client) Getgid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getgid) }

// Getegid is getegid(2).
func (c *Client) Getegid(ctx context.Context) (int, error) { return c.id(ctx, abi.SYS_getegid) }
