package sysctl

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// numbers are those that NetBSD's <sys/sysctl.h> gives by name. All other nodes
// get one when they first appear, and keep it as long as the kernel runs.
var numbers = map[string]int32{
	"kern": abi.CTL_KERN, "vm": abi.CTL_VM, "vfs": abi.CTL_VFS, "net": abi.CTL_NET, "debug": abi.CTL_DEBUG, "hw": abi.CTL_HW,
	"machdep": abi.CTL_MACHDEP, "user": abi.CTL_USER, "ddb": abi.CTL_DDB, "proc": abi.CTL_PROC, "vendor": abi.CTL_VENDOR,
	"emul": abi.CTL_EMUL, "security": abi.CTL_SECURITY,

	"kern.ostype": 1, "kern.osrelease": 2, "kern.osrevision": 3, "kern.version": 4, "kern.maxvnodes": 5, "kern.maxproc": 6,
	"kern.maxfiles": 7, "kern.argmax": 8, "kern.securelevel": 9, "kern.hostname": 10, "kern.hostid": 11, "kern.clockrate": 12,
	"kern.proc": 14, "kern.file": 15, "kern.ngroups": 18, "kern.job_control": 19, "kern.saved_ids": 20, "kern.domainname": 22,
	"kern.maxpartitions": 23, "kern.rawpartition": 24, "kern.msgbufsize": 31, "kern.proc2": 47, "kern.proc_args": 48,
	"kern.msgbuf": 53, "kern.pipe": 56, "kern.ntptime": 40, "kern.cp_time": 51, "kern.monotonic_clock": 60, "kern.urandom": 61, "kern.lwp": 64, "kern.file2": 77,
	"kern.hardclock_ticks": 80, "kern.arandom": 81, "kern.boottime": 83, "kern.evcnt": 84,

	"kern.pipe.maxkvasz": 1, "kern.pipe.maxloankvasz": 2, "kern.pipe.maxbigpipes": 3, "kern.pipe.nbigpipes": 4, "kern.pipe.kvasize": 5,

	"hw.machine": 1, "hw.model": 2, "hw.ncpu": 3, "hw.byteorder": 4, "hw.physmem": 5, "hw.usermem": 6, "hw.pagesize": 7,
	"hw.disknames": 8, "hw.iostats": 9, "hw.machine_arch": 10, "hw.alignbytes": 11, "hw.physmem64": 13, "hw.usermem64": 14,
	"hw.iostatnames": 15, "hw.ncpuonline": 16,

	"vfs.generic": 0, "vfs.generic.fstypes": 4,

	"kern.proc_args.*.argv": 1, "kern.proc_args.*.nargv": 2, "kern.proc_args.*.env": 3, "kern.proc_args.*.nenv": 4,
	"kern.proc_args.*.pathname": 5, "kern.proc_args.*.cwd": 6,

	"proc.*.corename": 1, "proc.*.rlimit": 2, "proc.*.stopfork": 3, "proc.*.stopexec": 4, "proc.*.stopexit": 5,
}

// firstNumber is the first that a node without one of its own gets
// (CREATE_BASE).
const firstNumber = 1024

// numberLocked answers the number of a branch or value. What is below a part
// of a dynamic branch has the same numbers in all of them, and a part that is
// a number has that one.
func (t *Tree) numberLocked(name string) int32 {
	for p := range t.dyn {
		if rest, ok := strings.CutPrefix(name, p+"."); ok {
			part, rest, deeper := strings.Cut(rest, ".")
			if !deeper {
				if n, err := strconv.ParseInt(part, 10, 32); err == nil {
					return int32(n)
				}
			}
			name = p + ".*"
			if deeper {
				name += "." + rest
			}
		}
	}
	if n, ok := numbers[name]; ok {
		return n
	}
	n, ok := t.num[name]
	if !ok {
		t.lastNum++
		n = firstNumber + t.lastNum
		t.num[name] = n
	}
	return n
}

// Child is a branch or value directly below another.
type Child struct {
	Num       int32
	Name      string // the last part
	Type      Type
	Desc      string
	Writable  bool
	Permanent bool
}

// Children lists what is directly below a branch, by number; "" is the root.
// ENOENT; ENOTDIR for a value.
func (t *Tree) Children(name string) ([]Child, error) {
	if name != "" {
		if _, err := t.find(name); err == nil {
			return nil, fmt.Errorf("sysctl %s: is a value: %w", name, abi.ENOTDIR)
		} else if abi.ErrnoOf(err) != abi.EISDIR {
			return nil, err
		}
	}
	nodes := append(t.static(name), t.dynNodes(name)...)
	var parts []string
	if d, _, rest, ok := t.dynamic(name); ok && rest == "" {
		parts = d.Parts()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	prefix := name
	if prefix != "" {
		prefix += "."
	}
	m := make(map[string]Child)
	for _, p := range parts {
		m[p] = Child{Name: p, Type: TypeNode, Permanent: true}
	}
	for p := range t.dyn {
		if rest, ok := strings.CutPrefix(p, prefix); ok && rest != "" {
			part, _, _ := strings.Cut(rest, ".")
			m[part] = Child{Name: part, Type: TypeNode, Permanent: true}
		}
	}
	for b, desc := range t.branch {
		if rest, ok := strings.CutPrefix(b, prefix); ok && rest != "" {
			part, _, deeper := strings.Cut(rest, ".")
			c := Child{Name: part, Type: TypeNode, Permanent: true}
			if !deeper {
				c.Desc = desc
			}
			if old, ok := m[part]; !ok || old.Desc == "" {
				m[part] = c
			}
		}
	}
	for _, n := range nodes {
		part, _, deeper := strings.Cut(strings.TrimPrefix(n.Name, prefix), ".")
		c, ok := m[part]
		switch {
		case !deeper:
			c = Child{Name: part, Type: n.Type, Desc: n.Desc, Writable: n.Set != nil, Permanent: n.Owner == ""}
		case !ok:
			c = Child{Name: part, Type: TypeNode, Permanent: n.Owner == ""}
		default:
			c.Permanent = c.Permanent || n.Owner == ""
		}
		m[part] = c
	}
	list := make([]Child, 0, len(m))
	for part, c := range m {
		c.Num = t.numberLocked(prefix + part)
		list = append(list, c)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Num < list[j].Num })
	return list, nil
}

// Name turns a name of numbers into one of words. ENOENT; ENOTDIR below a value.
func (t *Tree) Name(nums []int32) (string, error) {
	name := ""
	for _, n := range nums {
		cs, err := t.Children(name)
		if err != nil {
			return "", err
		}
		i := sort.Search(len(cs), func(i int) bool { return cs[i].Num >= n })
		if i == len(cs) || cs[i].Num != n {
			return "", fmt.Errorf("sysctl: no node %d below %q: %w", n, name, abi.ENOENT)
		}
		if name != "" {
			name += "."
		}
		name += cs[i].Name
	}
	return name, nil
}

// Numbers turns a name of words into one of numbers (sysctlnametomib). ENOENT.
func (t *Tree) Numbers(name string) ([]int32, error) {
	var nums []int32
	at := ""
	for _, part := range strings.Split(name, ".") {
		cs, err := t.Children(at)
		if err != nil {
			return nil, err
		}
		found := false
		for _, c := range cs {
			if c.Name == part {
				nums, found = append(nums, c.Num), true
			}
		}
		if !found {
			return nil, fmt.Errorf("sysctl %s: %w", name, abi.ENOENT)
		}
		if at != "" {
			at += "."
		}
		at += part
	}
	return nums, nil
}

// Words replaces the parts of a name that are numbers by their words, as
// sysctl(8) does: 1.10 and kern.10 are kern.hostname. A part that is called so,
// as a process in proc.7, stays, and so does one that nothing has.
func (t *Tree) Words(name string) string {
	words := strings.Split(name, ".")
	for i, part := range words {
		n, err := strconv.ParseInt(part, 0, 32)
		if err != nil {
			continue
		}
		cs, err := t.Children(strings.Join(words[:i], "."))
		if err != nil {
			break
		}
		for _, c := range cs {
			if c.Name == part {
				words[i] = part
				break
			}
			if c.Num == int32(n) {
				words[i] = c.Name
			}
		}
	}
	return strings.Join(words, ".")
}

// TypeOf is the type of the value called name: ENOENT, EISDIR, ENOTDIR.
func (t *Tree) TypeOf(name string) (Type, error) {
	n, err := t.find(name)
	if err != nil {
		return "", err
	}
	return n.Type, nil
}

// Number is t as CTLTYPE_*.
func (t Type) Number() uint32 {
	switch t {
	case TypeNode:
		return abi.CTLTYPE_NODE
	case TypeInt:
		return abi.CTLTYPE_INT
	case TypeQuad:
		return abi.CTLTYPE_QUAD
	case TypeBool:
		return abi.CTLTYPE_BOOL
	case TypeString:
		return abi.CTLTYPE_STRING
	}
	return abi.CTLTYPE_STRUCT
}

// Encode makes the bytes of a value that is text, see abi.CTL_MAXNAME's file.
func (t Type) Encode(text string) []byte {
	switch t {
	case TypeInt:
		n, _ := strconv.ParseInt(text, 0, 64)
		return binary.LittleEndian.AppendUint32(nil, uint32(n))
	case TypeQuad:
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			u, _ := strconv.ParseUint(text, 0, 64)
			n = int64(u)
		}
		return binary.LittleEndian.AppendUint64(nil, uint64(n))
	case TypeBool:
		if text == "1" {
			return []byte{1}
		}
		return []byte{0}
	case TypeString:
		return append([]byte(text), 0)
	}
	return []byte(text)
}

// Decode makes text of the bytes of a value. EINVAL if they are too few or too
// many.
func (t Type) Decode(b []byte) (string, error) {
	switch {
	case t == TypeInt && len(b) == 4:
		return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b)))), nil
	case t == TypeQuad && len(b) == 8:
		return strconv.FormatInt(int64(binary.LittleEndian.Uint64(b)), 10), nil
	case t == TypeBool && len(b) == 1 && b[0] <= 1:
		return strconv.Itoa(int(b[0])), nil
	case t == TypeString:
		s, _, _ := strings.Cut(string(b), "\x00")
		return s, nil
	case t == TypeStruct:
		return string(b), nil
	}
	return "", fmt.Errorf("%d bytes are no %s: %w", len(b), t, abi.EINVAL)
}
