package wire

import (
	"github.com/rumpus-kernel/rumpus/modapi"
)

// StoreKey asks for the value of a key.
type StoreKey struct {
	Key []byte
}

func (m *StoreKey) code(c *coder) {
	c.bytes(&m.Key, modapi.MaxStoreKey)
}

// Append codes m at the end of b.
func (m *StoreKey) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *StoreKey) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// StoreScanReq asks for records from a key on to another; empty = no bound.
type StoreScanReq struct {
	From, To []byte
	Max      uint32 // 0: any number
}

func (m *StoreScanReq) code(c *coder) {
	c.bytes(&m.From, modapi.MaxStoreKey)
	c.bytes(&m.To, modapi.MaxStoreKey)
	c.u32(&m.Max)
}

// Append codes m at the end of b.
func (m *StoreScanReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *StoreScanReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// maxStoreRecs bounds the records in one message: each takes StoreRecSize.
const maxStoreRecs = MaxPayload / StoreRecSize

// StoreRecSize is what a record of StoreRecs takes beside its key and value,
// StoreHeadSize what StoreRecs and StoreBatch take beside their records, and
// StoreOpSize what a change of StoreBatch takes, in bytes.
const (
	StoreHeadSize = 4
	StoreRecSize  = 8
	StoreOpSize   = 9
)

// StoreRecs are records.
type StoreRecs struct {
	Recs []modapi.StoreRec
}

func (m *StoreRecs) code(c *coder) {
	n := c.count(len(m.Recs), StoreRecSize, maxStoreRecs)
	if c.dec {
		m.Recs = nil
		if n > 0 {
			m.Recs = make([]modapi.StoreRec, n)
		}
	}
	for i := range m.Recs {
		c.bytes(&m.Recs[i].Key, modapi.MaxStoreKey)
		c.bytes(&m.Recs[i].Value, modapi.MaxStoreValue)
	}
}

// Append codes m at the end of b.
func (m *StoreRecs) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *StoreRecs) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// StoreBatch are changes, in order. Parse uses the room of Ops again.
type StoreBatch struct {
	Ops []modapi.StoreOp
}

func (m *StoreBatch) code(c *coder) {
	n := c.count(len(m.Ops), StoreOpSize, maxStoreRecs)
	if c.dec {
		if n > cap(m.Ops) {
			m.Ops = make([]modapi.StoreOp, n)
		}
		if m.Ops = m.Ops[:n]; n == 0 {
			m.Ops = nil
		}
	}
	for i := range m.Ops {
		o := &m.Ops[i]
		c.bytes(&o.Key, modapi.MaxStoreKey)
		c.bool(&o.Delete)
		c.bytes(&o.Value, modapi.MaxStoreValue)
	}
}

// Append codes m at the end of b.
func (m *StoreBatch) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *StoreBatch) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// FitStoreOps is how many of ops fit into one message.
func FitStoreOps(ops []modapi.StoreOp) int {
	left := MaxPayload - StoreHeadSize
	for i := range ops {
		if left -= StoreOpSize + len(ops[i].Key) + len(ops[i].Value); left < 0 {
			return i
		}
	}
	return len(ops)
}
