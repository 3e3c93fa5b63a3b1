package wire

import (
	"net/netip"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// NumReq is one number: a backlog, a direction, a command.
type NumReq struct {
	N int64
}

func (m *NumReq) code(c *coder) {
	c.i64(&m.N)
}

// Append codes m at the end of b.
func (m *NumReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *NumReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// NumRes answers one number: a count, events, a device.
type NumRes struct {
	N int64
}

func (m *NumRes) code(c *coder) {
	c.i64(&m.N)
}

// Append codes m at the end of b.
func (m *NumRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *NumRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SocketReq makes a socket.
type SocketReq struct {
	AF, Type, Proto int32
}

func (m *SocketReq) code(c *coder) {
	c.i32(&m.AF)
	c.i32(&m.Type)
	c.i32(&m.Proto)
}

// Append codes m at the end of b.
func (m *SocketReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SocketReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AddrMsg is a socket address, as a request and as an answer.
type AddrMsg struct {
	Addr abi.Sockaddr
}

func (m *AddrMsg) code(c *coder) {
	c.sockaddr(&m.Addr)
}

// Append codes m at the end of b.
func (m *AddrMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AddrMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AcceptReq takes a connection and names it.
type AcceptReq struct {
	As abi.SockID
}

func (m *AcceptReq) code(c *coder) {
	c.u64((*uint64)(&m.As))
}

// Append codes m at the end of b.
func (m *AcceptReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AcceptReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SendReq goes with the bytes to send, which are the payload.
type SendReq sockops.SendReq

func (m *SendReq) code(c *coder) {
	c.sockaddr(&m.To)
	c.num(&m.Flags)
	c.bytes(&m.Control, MaxControl)
}

// Append codes m at the end of b.
func (m *SendReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SendReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// RecvReq asks for bytes: ReplyLen of the frame says how many.
type RecvReq sockops.RecvReq

func (m *RecvReq) code(c *coder) {
	c.num(&m.Flags)
	c.num(&m.MaxControl)
}

// Append codes m at the end of b.
func (m *RecvReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *RecvReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// RecvRes answers beside the bytes, which are the payload.
type RecvRes sockops.RecvRes

func (m *RecvRes) code(c *coder) {
	c.num(&m.N)
	c.sockaddr(&m.From)
	c.num(&m.Flags)
	c.bytes(&m.Control, MaxControl)
}

// Append codes m at the end of b.
func (m *RecvRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *RecvRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// OptReq names a socket option; its value is the payload.
type OptReq struct {
	Level, Name int32
}

func (m *OptReq) code(c *coder) {
	c.i32(&m.Level)
	c.i32(&m.Name)
}

// Append codes m at the end of b.
func (m *OptReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *OptReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// RoutesMsg is a routing table, in the payload.
type RoutesMsg struct {
	Routes []sockops.Route
}

func (m *RoutesMsg) code(c *coder) {
	n := c.count(len(m.Routes), 10, MaxRoutes)
	if c.dec {
		m.Routes = nil
		if n > 0 {
			m.Routes = make([]sockops.Route, n)
		}
	}
	for i := range m.Routes {
		r := &m.Routes[i]
		c.prefix(&r.Dst)
		c.addr(&r.Gateway)
		c.str(&r.If, maxIfName)
	}
}

// Append codes m at the end of b.
func (m *RoutesMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *RoutesMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// IfConfig configures an interface.
type IfConfig sockops.IfConfig

func (m *IfConfig) code(c *coder) {
	c.str(&m.Name, maxIfName)
	c.str(&m.Class, maxIfName)
	c.bool(&m.Up)
	c.u32(&m.MTU)
	n := c.count(len(m.Addrs), 5, 128)
	if c.dec {
		m.Addrs = nil
		if n > 0 {
			m.Addrs = make([]netip.Prefix, n)
		}
	}
	for i := range m.Addrs {
		c.prefix(&m.Addrs[i])
	}
	c.str(&m.Link, maxPath)
	c.strmap(&m.Props)
}

// Append codes m at the end of b.
func (m *IfConfig) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *IfConfig) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// IfName names an interface of a class, or, without Name, a class.
type IfName struct {
	Class, Name string
}

func (m *IfName) code(c *coder) {
	c.str(&m.Class, maxIfName)
	c.str(&m.Name, maxIfName)
}

// Append codes m at the end of b.
func (m *IfName) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *IfName) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// IfStats are the counters of an interface.
type IfStats sockops.IfStats

func (m *IfStats) code(c *coder) {
	c.u32(&m.MTU)
	for _, p := range [...]*uint64{&m.InPackets, &m.InBytes, &m.OutPackets, &m.OutBytes, &m.InErrors, &m.OutErrors, &m.InDrops} {
		c.u64(p)
	}
}

// Append codes m at the end of b.
func (m *IfStats) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *IfStats) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Bounds of the net messages.
const (
	MaxControl = 4096  // bytes of control messages
	MaxOpt     = 4096  // bytes of an option's value
	MaxRoutes  = 16384 // routes in a table
)
