package wire

import (
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DevReq goes with open, close, read and write of a device.
type DevReq struct {
	Off   int64
	Flags int64
}

func (m *DevReq) code(c *coder) {
	c.i64(&m.Off)
	c.i64(&m.Flags)
}

// Append codes m at the end of b.
func (m *DevReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *DevReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// ModSyscallReq calls a system call of a module. In is the payload.
type ModSyscallReq struct {
	Caller *abi.Caller
	A      [6]uint64
}

func (m *ModSyscallReq) code(c *coder) {
	c.caller(&m.Caller)
	for i := range m.A {
		c.u64(&m.A[i])
	}
}

// Append codes m at the end of b.
func (m *ModSyscallReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *ModSyscallReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// HelloRing is the bit in Object by which a client's HELLO says that it can use
// a ring. The kernel may send the ring's memory along with the answer.
const HelloRing = 1

// HelloReq introduces a client to the kernel.
type HelloReq struct {
	Name string // of its program, at most 255 bytes
	Pid  int32  // of its process on the host, 0 if unknown
}

func (m *HelloReq) code(c *coder) {
	c.str(&m.Name, maxName)
	c.i32(&m.Pid)
}

// Append codes m at the end of b.
func (m *HelloReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *HelloReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// HelloRes tells a client the kernel's version and its own process there.
type HelloRes struct {
	Version string
	Pid     int32
}

func (m *HelloRes) code(c *coder) {
	c.str(&m.Version, maxName)
	c.i32(&m.Pid)
}

// Append codes m at the end of b.
func (m *HelloRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *HelloRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SyscallReq is a system call of a client: an abi.Sysargs. In is the payload,
// and len(Out) the frame's ReplyLen.
type SyscallReq struct {
	Num  int32
	Lid  int32 // the lwp that calls; 0: the first
	A    [6]uint64
	Path [2]string
	Addr []byte // a sockaddr; aliases the frame when decoded
}

func (m *SyscallReq) code(c *coder) {
	c.i32(&m.Num)
	c.i32(&m.Lid)
	for i := range m.A {
		c.u64(&m.A[i])
	}
	for i := range m.Path {
		c.str(&m.Path[i], maxPath)
	}
	c.bytes(&m.Addr, abi.SockaddrMaxLen)
}

// sysHead is the length of what a SyscallReq begins with, of fixed size.
const sysHead = 4 + 4 + 6*8

// Append codes m at the end of b. It and Parse do by hand what code says, as
// every system call of a remote client passes here.
func (m *SyscallReq) Append(b []byte) []byte {
	le, n := binary.LittleEndian, len(b)
	b = slices.Grow(b, sysHead+3*4+len(m.Path[0])+len(m.Path[1])+len(m.Addr))[:n+sysHead]
	p := b[n:]
	le.PutUint32(p, uint32(m.Num))
	le.PutUint32(p[4:], uint32(m.Lid))
	for i, v := range m.A {
		le.PutUint64(p[8+8*i:], v)
	}
	for i := range m.Path {
		b = append(le.AppendUint32(b, uint32(len(m.Path[i]))), m.Path[i]...)
	}
	return append(le.AppendUint32(b, uint32(len(m.Addr))), m.Addr...)
}

// Parse decodes m from all of b.
func (m *SyscallReq) Parse(b []byte) error {
	if !m.parse(b) {
		c := coder{b: b, dec: true} // it says what is wrong
		m.code(&c)
		return c.end()
	}
	for i := range m.Path {
		m.Path[i] = strings.Clone(m.Path[i])
	}
	return nil
}

// ParseInPlace is Parse whose paths are b's own bytes: they must not be used
// once b changes. A call that only looks paths up needs no copies of them.
func (m *SyscallReq) ParseInPlace(b []byte) error {
	if m.parse(b) {
		return nil
	}
	return m.Parse(b)
}

// parse decodes what is well formed, with paths in place; false leaves m in any
// state.
func (m *SyscallReq) parse(b []byte) bool {
	if len(b) < sysHead {
		return false
	}
	le := binary.LittleEndian
	m.Num, m.Lid = int32(le.Uint32(b)), int32(le.Uint32(b[4:]))
	for i := range m.A {
		m.A[i] = le.Uint64(b[8+8*i:])
	}
	b = b[sysHead:]
	var p []byte
	ok := true
	for i := range m.Path {
		if p, b, ok = piece(b, maxPath); !ok {
			return false
		}
		m.Path[i] = unsafe.String(unsafe.SliceData(p), len(p))
	}
	m.Addr, b, ok = piece(b, abi.SockaddrMaxLen)
	return ok && len(b) == 0
}

// piece cuts a byte string with its length before it off b; an empty one is
// nil.
func piece(b []byte, max uint32) (p, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > max || uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	if n > 0 {
		p = b[:n:n]
	}
	return p, b[n:], true
}

// SyscallRes answers a system call; Out is the payload and NO its length.
type SyscallRes struct {
	R    [2]uint64
	Addr []byte // a sockaddr that was answered; aliases the frame when decoded
}

func (m *SyscallRes) code(c *coder) {
	c.u64(&m.R[0])
	c.u64(&m.R[1])
	c.bytes(&m.Addr, abi.SockaddrMaxLen)
}

// Append codes m at the end of b.
func (m *SyscallRes) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(le.AppendUint64(b, m.R[0]), m.R[1])
	return append(le.AppendUint32(b, uint32(len(m.Addr))), m.Addr...)
}

// Parse decodes m from all of b.
func (m *SyscallRes) Parse(b []byte) error {
	if len(b) >= 16 {
		if p, rest, ok := piece(b[16:], abi.SockaddrMaxLen); ok && len(rest) == 0 {
			le := binary.LittleEndian
			m.R, m.Addr = [2]uint64{le.Uint64(b), le.Uint64(b[8:])}, p
			return nil
		}
	}
	c := coder{b: b, dec: true} // it says what is wrong
	m.code(&c)
	return c.end()
}
