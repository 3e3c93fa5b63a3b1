package wire

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// MaxNodes bounds the nodes of one block device driver.
const MaxNodes = 4096

// GeomMsg is what a block device is.
type GeomMsg struct {
	devops.Geom
}

func (m *GeomMsg) code(c *coder) {
	c.i64(&m.Size)
	c.u32(&m.Sector)
	c.u32(&m.MaxIO)
	c.u32(&m.Optimal)
	c.bool(&m.ReadOnly)
	c.u32((*uint32)(&m.Ops))
	c.str(&m.Type, maxName)
	c.str(&m.Label, maxName)
}

// Append codes m at the end of b.
func (m *GeomMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *GeomMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// BufReq is a devops.Buf without its data; the device, or the handle, is the
// frame's object.
type BufReq struct {
	ID    abi.BufID
	Blkno int64
	Bytes int64
	Flags devops.BufFlags
}

func (m *BufReq) code(c *coder) {
	c.u64((*uint64)(&m.ID))
	c.i64(&m.Blkno)
	c.i64(&m.Bytes)
	c.u32((*uint32)(&m.Flags))
}

// Append codes m at the end of b.
func (m *BufReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *BufReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AttachBlkReq attaches a block device driver. The nodes in the payload count
// if HasNodes.
type AttachBlkReq struct {
	Name     string
	HasNodes bool
}

func (m *AttachBlkReq) code(c *coder) {
	c.str(&m.Name, maxIfName)
	c.bool(&m.HasNodes)
}

// Append codes m at the end of b.
func (m *AttachBlkReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AttachBlkReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// NodesMsg are the device nodes of a block device driver.
type NodesMsg struct {
	Nodes []devops.Node
}

func (m *NodesMsg) code(c *coder) {
	n := c.count(len(m.Nodes), 12, MaxNodes)
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
func (m *NodesMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *NodesMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// BlockOpenReq opens a block device for a component: Dev is opened, User stands
// on it.
type BlockOpenReq struct {
	Dev, User abi.Dev
}

func (m *BlockOpenReq) code(c *coder) {
	c.u64((*uint64)(&m.Dev))
	c.u64((*uint64)(&m.User))
}

// Append codes m at the end of b.
func (m *BlockOpenReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *BlockOpenReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}
