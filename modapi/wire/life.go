package wire

import (
	"github.com/rumpus-kernel/rumpus/modapi"
)

// InfoRes answers OpInfo: all modules of the process, in the payload.
type InfoRes struct {
	Mods []modapi.Info
}

func (m *InfoRes) code(c *coder) {
	n := c.count(len(m.Mods), 29, MaxModules)
	if c.dec {
		m.Mods = nil
		if n > 0 {
			m.Mods = make([]modapi.Info, n)
		}
	}
	for i := range m.Mods {
		c.modinfo(&m.Mods[i])
	}
}

// Append codes m at the end of b.
func (m *InfoRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *InfoRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// InitReq initialises a module. Props are coded by AppendProps.
type InitReq struct {
	Reason   modapi.Reason
	Instance string
	Props    modapi.Props
}

func (m *InitReq) code(c *coder) {
	c.u8((*uint8)(&m.Reason))
	c.str(&m.Instance, maxName)
	if c.dec {
		m.Props = nil
	}
	c.props(&m.Props)
}

// Append codes m at the end of b.
func (m *InitReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *InitReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// MaxModules bounds the modules of one process.
const MaxModules = 64

func (c *coder) modinfo(i *modapi.Info) {
	c.str(&i.Name, maxIfName)
	c.u8((*uint8)(&i.Class))
	c.u32((*uint32)(&i.Kern))
	n := c.count(len(i.Requires), 4, 9)
	if c.dec {
		i.Requires = nil
		if n > 0 {
			i.Requires = make([]string, n)
		}
	}
	for k := range i.Requires {
		c.str(&i.Requires[k], maxIfName)
	}
	c.str(&i.Version, maxName)
	c.u64((*uint64)(&i.Caps))
	n = c.count(len(i.Wants), 8, 32)
	if c.dec {
		i.Wants = nil
		if n > 0 {
			i.Wants = make([]modapi.Want, n)
		}
	}
	for k := range i.Wants {
		c.str(&i.Wants[k].Grant, maxName)
		c.str(&i.Wants[k].Why, maxText)
	}
}
