package abi

import "encoding/binary"

// SYS___sysctl takes A = {components of the name, 1 if a new value follows} and
// In = the components, 4 bytes each, with the new value behind them. Out gets
// the old value; R[0] is how long it is. An empty Out only asks for that. One
// that is too short is filled as far as it goes, and the answer is ENOMEM.
//
// Values have the size of their type, little-endian: int 4 bytes, quad 8, bool
// 1; a string ends with a NUL; a struct is the text that sysctlbyname shows.
//
// The last component may be a command: CTL_QUERY answers the nodes below
// (SysctlNode, SysctlNodeLen bytes each), CTL_DESCRIBE the descriptions of the
// nodes below (AppendSysctlDesc); the others are refused with EPERM, as the
// tree belongs to the kernel and to modules.

// Bounds of names (CTL_MAXNAME, SYSCTL_NAMELEN with its NUL).
const (
	CTL_MAXNAME    = 12
	SYSCTL_NAMELEN = 32
)

// Commands at the end of a name.
const (
	CTL_QUERY    = -2
	CTL_CREATE   = -3
	CTL_DESTROY  = -5
	CTL_DESCRIBE = -7
)

// Top-level nodes.
const (
	CTL_KERN     = 1
	CTL_VM       = 2
	CTL_VFS      = 3
	CTL_NET      = 4
	CTL_DEBUG    = 5
	CTL_HW       = 6
	CTL_MACHDEP  = 7
	CTL_USER     = 8
	CTL_DDB      = 9
	CTL_PROC     = 10
	CTL_VENDOR   = 11
	CTL_EMUL     = 12
	CTL_SECURITY = 13
)

// Types of nodes (CTLTYPE_*) and flags beside them (CTLFLAG_*).
const (
	CTLTYPE_NODE   = 1
	CTLTYPE_INT    = 2
	CTLTYPE_STRING = 3
	CTLTYPE_QUAD   = 4
	CTLTYPE_STRUCT = 5
	CTLTYPE_BOOL   = 6

	CTLFLAG_READWRITE = 0x70
	CTLFLAG_PERMANENT = 0x200
)

// SysctlNode is a node as CTL_QUERY answers it (struct sysctlnode, without
// what only a kernel can use).
type SysctlNode struct {
	Num   int32
	Type  uint32 // CTLTYPE_*
	Flags uint32 // CTLFLAG_*
	Name  string // at most SYSCTL_NAMELEN-1 bytes
}

// SysctlNodeLen is the length of a coded SysctlNode, in bytes.
const SysctlNodeLen = 12 + SYSCTL_NAMELEN

// AppendSysctlNode codes n: number, type and flags, 4 bytes each, then the name
// in SYSCTL_NAMELEN bytes, NULs at its end.
func AppendSysctlNode(b []byte, n SysctlNode) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(n.Num))
	b = binary.LittleEndian.AppendUint32(b, n.Type)
	b = binary.LittleEndian.AppendUint32(b, n.Flags)
	var name [SYSCTL_NAMELEN]byte
	copy(name[:SYSCTL_NAMELEN-1], n.Name)
	return append(b, name[:]...)
}

// ParseSysctlNodes reads what CTL_QUERY answers. EINVAL.
func ParseSysctlNodes(b []byte) ([]SysctlNode, error) {
	if len(b)%SysctlNodeLen != 0 {
		return nil, EINVAL
	}
	nodes := make([]SysctlNode, 0, len(b)/SysctlNodeLen)
	for ; len(b) > 0; b = b[SysctlNodeLen:] {
		nodes = append(nodes, SysctlNode{
			Num: int32(binary.LittleEndian.Uint32(b)), Type: binary.LittleEndian.Uint32(b[4:]),
			Flags: binary.LittleEndian.Uint32(b[8:]), Name: cstring(b[12:SysctlNodeLen]),
		})
	}
	return nodes, nil
}

// AppendSysctlDesc codes a description (struct sysctldesc): the node's number,
// 4 zero bytes (a version), the length of the text with its NUL, 4 bytes each,
// then the text and NULs up to a multiple of 4.
func AppendSysctlDesc(b []byte, num int32, text string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(num))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)+1))
	b = append(b, text...)
	for b = append(b, 0); len(b)%4 != 0; {
		b = append(b, 0)
	}
	return b
}

// ParseSysctlDescs reads what CTL_DESCRIBE answers. EINVAL.
func ParseSysctlDescs(b []byte) (map[int32]string, error) {
	m := make(map[int32]string)
	for len(b) > 0 {
		if len(b) < 12 {
			return nil, EINVAL
		}
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if n < 1 || n > len(b)-12 {
			return nil, EINVAL
		}
		m[int32(binary.LittleEndian.Uint32(b))] = cstring(b[12 : 12+n])
		b = b[min(len(b), (12+n+3)&^3):]
	}
	return m, nil
}

// AppendSysctlName codes the components of a name.
func AppendSysctlName(b []byte, name []int32) []byte {
	for _, n := range name {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// ParseSysctlName reads n components. EINVAL.
func ParseSysctlName(b []byte, n int) (name []int32, rest []byte, err error) {
	if n < 1 || n > CTL_MAXNAME || len(b) < 4*n {
		return nil, nil, EINVAL
	}
	for i := range n {
		name = append(name, int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return name, b[4*n:], nil
}

// cstring is b up to its first NUL.
func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
