package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// coder codes or decodes one message. The same calls do both, so that there is
// one description of each layout. Coding appends to b and cannot fail; decoding
// eats b and keeps its first error.
type coder struct {
	b   []byte
	dec bool
	err error
}

func (c *coder) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	c.b = nil
}

// end is the decoder's verdict: its error, or that bytes are left over.
func (c *coder) end() error {
	if c.err == nil && len(c.b) != 0 {
		c.fail("bytes left over")
	}
	return c.err
}

// take is the next n bytes of the input, or nil with the error set.
func (c *coder) take(n int) []byte {
	if n > len(c.b) {
		c.fail("cut short")
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *coder) u8(p *uint8) {
	if !c.dec {
		c.b = append(c.b, *p)
	} else if q := c.take(1); q != nil {
		*p = q[0]
	}
}

func (c *coder) u16(p *uint16) {
	if !c.dec {
		c.b = binary.LittleEndian.AppendUint16(c.b, *p)
	} else if q := c.take(2); q != nil {
		*p = binary.LittleEndian.Uint16(q)
	}
}

func (c *coder) u32(p *uint32) {
	if !c.dec {
		c.b = binary.LittleEndian.AppendUint32(c.b, *p)
	} else if q := c.take(4); q != nil {
		*p = binary.LittleEndian.Uint32(q)
	}
}

func (c *coder) u64(p *uint64) {
	if !c.dec {
		c.b = binary.LittleEndian.AppendUint64(c.b, *p)
	} else if q := c.take(8); q != nil {
		*p = binary.LittleEndian.Uint64(q)
	}
}

func (c *coder) i32(p *int32) {
	v := uint32(*p)
	c.u32(&v)
	if c.dec {
		*p = int32(v)
	}
}

func (c *coder) i64(p *int64) {
	v := uint64(*p)
	c.u64(&v)
	if c.dec {
		*p = int64(v)
	}
}

// num carries a Go int as 64 bits.
func (c *coder) num(p *int) {
	v := uint64(int64(*p))
	c.u64(&v)
	if c.dec {
		*p = int(int64(v))
	}
}

func (c *coder) f64(p *float64) {
	v := math.Float64bits(*p)
	c.u64(&v)
	if c.dec {
		*p = math.Float64frombits(v)
	}
}

func (c *coder) bool(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	c.u8(&v)
	if c.dec {
		if v > 1 {
			c.fail("not a truth value")
		}
		*p = v == 1
	}
}

// count codes the length n of a list whose elements take at least min bytes
// each, and answers the length: 0 after an error.
func (c *coder) count(n, min, max int) int {
	v := uint32(n)
	c.u32(&v)
	if !c.dec {
		return n
	}
	if c.err != nil {
		return 0
	}
	if uint64(v) > uint64(max) || uint64(v)*uint64(min) > uint64(len(c.b)) {
		c.fail("list too long")
		return 0
	}
	return int(v)
}

// bytes codes a byte string of at most max bytes. The decoded one aliases the
// input; an empty one is nil.
func (c *coder) bytes(p *[]byte, max int) {
	n := c.count(len(*p), 1, max)
	if !c.dec {
		c.b = append(c.b, *p...)
		return
	}
	*p = nil
	if n > 0 {
		*p = c.take(n)
	}
}

// str codes a string of at most max bytes.
func (c *coder) str(p *string, max int) {
	n := c.count(len(*p), 1, max)
	if !c.dec {
		c.b = append(c.b, *p...)
		return
	}
	*p = string(c.take(n))
}
