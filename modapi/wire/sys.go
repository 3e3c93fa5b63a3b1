package wire

import (
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

// Append codes m at the end of b.
func (m *SyscallReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SyscallReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
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
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SyscallRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}
