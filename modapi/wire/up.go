package wire

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// AttachFSReq attaches a file-system type.
type AttachFSReq struct {
	Name string
	Caps vfsops.Caps // as declared
}

func (m *AttachFSReq) code(c *coder) {
	c.str(&m.Name, maxIfName)
	c.u64((*uint64)(&m.Caps))
}

// Append codes m at the end of b.
func (m *AttachFSReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AttachFSReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AttachChrReq attaches a character device driver. Nodes counts if HasNodes.
type AttachChrReq struct {
	Name     string
	HasNodes bool
	Nodes    []devops.Node
}

func (m *AttachChrReq) code(c *coder) {
	c.str(&m.Name, maxIfName)
	c.bool(&m.HasNodes)
	n := c.count(len(m.Nodes), 12, 128)
	if c.dec {
		m.Nodes = nil
		if n > 0 {
			m.Nodes = make([]devops.Node, n)
		}
	}
	for i := range m.Nodes {
		d := &m.Nodes[i]
		c.str(&d.Name, maxIfName)
		c.u32(&d.Unit)
		c.u32(&d.Mode)
	}
}

// Append codes m at the end of b.
func (m *AttachChrReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AttachChrReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AttachDomainReq attaches a protocol family.
type AttachDomainReq struct {
	AF     int32
	Router bool // it takes routes
}

func (m *AttachDomainReq) code(c *coder) {
	c.i32(&m.AF)
	c.bool(&m.Router)
}

// Append codes m at the end of b.
func (m *AttachDomainReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AttachDomainReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SysctlReq adds a node; Node is how the component calls it.
type SysctlReq struct {
	Node     uint64
	Name     string
	Desc     string
	Writable bool
}

func (m *SysctlReq) code(c *coder) {
	c.u64(&m.Node)
	c.str(&m.Name, maxName)
	c.str(&m.Desc, maxText)
	c.bool(&m.Writable)
}

// Append codes m at the end of b.
func (m *SysctlReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SysctlReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// EvcntMsg tells the counters that changed.
type EvcntMsg struct {
	Vals []EvcntVal
}

func (m *EvcntMsg) code(c *coder) {
	n := c.count(len(m.Vals), 20, MaxEvcnts)
	if c.dec {
		m.Vals = nil
		if n > 0 {
			m.Vals = make([]EvcntVal, n)
		}
	}
	for i := range m.Vals {
		v := &m.Vals[i]
		c.u32(&v.ID)
		c.str(&v.Group, maxIfName)
		c.str(&v.Name, 63)
		c.u64(&v.Value)
	}
}

// Append codes m at the end of b.
func (m *EvcntMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *EvcntMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// ReadyMsg tells sockets that may have become ready.
type ReadyMsg struct {
	Edges []sockops.Ready
}

func (m *ReadyMsg) code(c *coder) {
	n := c.count(len(m.Edges), 10, MaxEdges)
	if c.dec {
		m.Edges = nil
		if n > 0 {
			m.Edges = make([]sockops.Ready, n)
		}
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		c.u64((*uint64)(&e.Sock))
		c.events(&e.Events)
	}
}

// Append codes m at the end of b.
func (m *ReadyMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *ReadyMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// DevReadyMsg tells devices that may have become ready.
type DevReadyMsg struct {
	Edges []devops.Ready
}

func (m *DevReadyMsg) code(c *coder) {
	n := c.count(len(m.Edges), 10, MaxEdges)
	if c.dec {
		m.Edges = nil
		if n > 0 {
			m.Edges = make([]devops.Ready, n)
		}
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		c.u64((*uint64)(&e.Dev))
		c.events(&e.Events)
	}
}

// Append codes m at the end of b.
func (m *DevReadyMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *DevReadyMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// LogMsg is a line of a module's log.
type LogMsg struct {
	Level uint8 // LogDebug ... LogError
	Text  string
	KV    []string // key, value, ...
}

func (m *LogMsg) code(c *coder) {
	c.u8(&m.Level)
	c.str(&m.Text, maxText)
	n := c.count(len(m.KV), 4, 64)
	if c.dec {
		m.KV = nil
		if n > 0 {
			m.KV = make([]string, n)
		}
	}
	for i := range m.KV {
		c.str(&m.KV[i], maxText)
	}
}

// Append codes m at the end of b.
func (m *LogMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *LogMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Bounds of the batched upcalls.
const (
	MaxEvcnts = 1024
	MaxEdges  = 4096
)

// Levels of LogMsg.
const (
	LogDebug = iota
	LogInfo
	LogWarn
	LogError
)

// EvcntVal is the value of one counter. Group and Name are told once.
type EvcntVal struct {
	ID          uint32
	Group, Name string
	Value       uint64
}

func (c *coder) events(e *abi.PollEvents) {
	v := uint16(*e)
	c.u16(&v)
	if c.dec {
		*e = abi.PollEvents(v)
	}
}
