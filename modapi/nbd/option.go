package nbd

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

var be = binary.BigEndian

// ValidString reports whether s can be a name or a text of the protocol: UTF-8
// without NUL, at most MaxString bytes.
func ValidString(s string) bool {
	return len(s) <= MaxString && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// AppendGreeting appends the server's first words.
func AppendGreeting(b []byte, flags uint16) []byte {
	b = be.AppendUint64(b, MagicNBD)
	b = be.AppendUint64(b, MagicOption)
	return be.AppendUint16(b, flags)
}

// ParseGreeting reads the server's first words, GreetingSize bytes, and answers
// its handshake flags. A server that talks oldstyle is an error that says so.
func ParseGreeting(b []byte) (flags uint16, err error) {
	if len(b) < GreetingSize {
		return 0, bad("greeting of %d bytes", len(b))
	}
	if m := be.Uint64(b); m != MagicNBD {
		return 0, bad("no NBD server: greeting %#x", m)
	}
	switch m := be.Uint64(b[8:]); m {
	case MagicOption:
		return be.Uint16(b[16:]), nil
	case 0x00420281861253:
		return 0, bad("the server talks oldstyle only")
	default:
		return 0, bad("second magic %#x", m)
	}
}

// Option is the head of an option; Len bytes of data follow.
type Option struct {
	Opt Opt
	Len uint32
}

// AppendOption appends an option with its data.
func AppendOption(b []byte, o Opt, data []byte) []byte {
	b = be.AppendUint64(b, MagicOption)
	b = be.AppendUint32(b, uint32(o))
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// ParseOption reads the head of an option, OptionSize bytes.
func ParseOption(b []byte) (Option, error) {
	if len(b) < OptionSize {
		return Option{}, bad("option of %d bytes", len(b))
	}
	if m := be.Uint64(b); m != MagicOption {
		return Option{}, bad("option magic %#x", m)
	}
	return Option{Opt(be.Uint32(b[8:])), be.Uint32(b[12:])}, nil
}

// Reply is the head of a reply to an option; Len bytes of data follow.
type Reply struct {
	Opt  Opt
	Type Rep
	Len  uint32
}

// AppendReply appends a reply with its data.
func AppendReply(b []byte, o Opt, t Rep, data []byte) []byte {
	b = be.AppendUint64(b, MagicReply)
	b = be.AppendUint32(b, uint32(o))
	b = be.AppendUint32(b, uint32(t))
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// ParseReply reads the head of a reply, ReplySize bytes.
func ParseReply(b []byte) (Reply, error) {
	if len(b) < ReplySize {
		return Reply{}, bad("reply of %d bytes", len(b))
	}
	if m := be.Uint64(b); m != MagicReply {
		return Reply{}, bad("reply magic %#x", m)
	}
	return Reply{Opt(be.Uint32(b[8:])), Rep(be.Uint32(b[12:])), be.Uint32(b[16:])}, nil
}

// cursor reads out of a bounded area; after the first lack ok is false and
// everything is zero.
type cursor struct {
	b  []byte
	ok bool
}

func (c *cursor) take(n uint32) []byte {
	if !c.ok || uint64(n) > uint64(len(c.b)) {
		c.ok = false
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return be.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return be.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return be.Uint64(p)
	}
	return 0
}

// str takes n bytes that must be a ValidString.
func (c *cursor) str(n uint32) string {
	s := string(c.take(min(n, MaxString+1)))
	if !ValidString(s) {
		c.ok = false
		return ""
	}
	return s
}

// GoRequest is the data of OptGo and OptInfo.
type GoRequest struct {
	Name  string
	Infos []Info
}

// Append appends the coded form.
func (g *GoRequest) Append(b []byte) []byte {
	b = be.AppendUint32(b, uint32(len(g.Name)))
	b = append(b, g.Name...)
	b = be.AppendUint16(b, uint16(len(g.Infos)))
	for _, i := range g.Infos {
		b = be.AppendUint16(b, uint16(i))
	}
	return b
}

// ParseGoRequest reads the data of OptGo and OptInfo.
func ParseGoRequest(b []byte) (GoRequest, error) {
	c := cursor{b, true}
	g := GoRequest{Name: c.str(c.u32())}
	n := c.u16()
	if !c.ok || len(c.b) != 2*int(n) {
		return GoRequest{}, bad("export request of %d bytes", len(b))
	}
	for range n {
		g.Infos = append(g.Infos, Info(c.u16()))
	}
	return g, nil
}

// Wants reports whether i is among the informations asked for.
func (g *GoRequest) Wants(i Info) bool {
	for _, j := range g.Infos {
		if i == j {
			return true
		}
	}
	return false
}

// MetaRequest is the data of OptListMetaContext and OptSetMetaContext.
type MetaRequest struct {
	Name    string
	Queries []string
}

// Append appends the coded form.
func (m *MetaRequest) Append(b []byte) []byte {
	b = be.AppendUint32(b, uint32(len(m.Name)))
	b = append(b, m.Name...)
	b = be.AppendUint32(b, uint32(len(m.Queries)))
	for _, q := range m.Queries {
		b = be.AppendUint32(b, uint32(len(q)))
		b = append(b, q...)
	}
	return b
}

// ErrTooMany is the error of a MetaRequest with more than MaxQueries.
var ErrTooMany = bad("more than %d metadata queries", MaxQueries)

// ParseMetaRequest reads the data of the two metadata options.
func ParseMetaRequest(b []byte) (MetaRequest, error) {
	c := cursor{b, true}
	m := MetaRequest{Name: c.str(c.u32())}
	n := c.u32()
	if c.ok && n > MaxQueries {
		return MetaRequest{}, ErrTooMany
	}
	for range n {
		m.Queries = append(m.Queries, c.str(c.u32()))
	}
	if !c.ok || len(c.b) != 0 {
		return MetaRequest{}, bad("metadata request of %d bytes", len(b))
	}
	return m, nil
}

// Export is what InfoExport tells.
type Export struct {
	Size  uint64 // bytes
	Flags TxFlags
}

// Append appends the data of a RepInfo.
func (e *Export) Append(b []byte) []byte {
	b = be.AppendUint16(b, uint16(InfoExport))
	return e.AppendOld(b)
}

// AppendOld appends the answer to OptExportName, without its padding.
func (e *Export) AppendOld(b []byte) []byte {
	b = be.AppendUint64(b, e.Size)
	return be.AppendUint16(b, uint16(e.Flags))
}

// OldSize is the size of the answer to OptExportName without padding, OldPad
// that of the padding.
const (
	OldSize = 10
	OldPad  = 124
)

// ParseExport reads the payload of InfoExport, the type being read already, or
// the answer to OptExportName.
func ParseExport(b []byte) (Export, error) {
	if len(b) != OldSize {
		return Export{}, bad("export information of %d bytes", len(b))
	}
	e := Export{be.Uint64(b), TxFlags(be.Uint16(b[8:]))}
	if e.Size > 1<<63-1 {
		return Export{}, bad("export of %d bytes", e.Size)
	}
	return e, nil
}

// BlockSize is what InfoBlockSize tells.
type BlockSize struct {
	Min       uint32 // bytes; what offsets and lengths are multiples of
	Preferred uint32
	Max       uint32 // bytes of payload of one request
}

// Append appends the data of a RepInfo.
func (s *BlockSize) Append(b []byte) []byte {
	b = be.AppendUint16(b, uint16(InfoBlockSize))
	b = be.AppendUint32(b, s.Min)
	b = be.AppendUint32(b, s.Preferred)
	return be.AppendUint32(b, s.Max)
}

func pow2(n uint32) bool { return n != 0 && n&(n-1) == 0 }

// ParseBlockSize reads the payload of InfoBlockSize, the type being read
// already.
func ParseBlockSize(b []byte) (BlockSize, error) {
	if len(b) != 12 {
		return BlockSize{}, bad("block size information of %d bytes", len(b))
	}
	s := BlockSize{be.Uint32(b), be.Uint32(b[4:]), be.Uint32(b[8:])}
	if !pow2(s.Min) || s.Min > 1<<16 || !pow2(s.Preferred) || s.Preferred < s.Min || s.Max < s.Min {
		return BlockSize{}, bad("block sizes %d, %d, %d", s.Min, s.Preferred, s.Max)
	}
	return s, nil
}

// AppendInfoString appends the data of a RepInfo that is a string.
func AppendInfoString(b []byte, i Info, s string) []byte {
	return append(be.AppendUint16(b, uint16(i)), s...)
}

// ParseInfo divides the data of a RepInfo into type and payload.
func ParseInfo(b []byte) (Info, []byte, error) {
	if len(b) < 2 {
		return 0, nil, bad("information of %d bytes", len(b))
	}
	return Info(be.Uint16(b)), b[2:], nil
}

// AppendServer appends the data of a RepServer: an export's name and
// description.
func AppendServer(b []byte, name, desc string) []byte {
	b = be.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	return append(b, desc...)
}

// ParseServer reads the data of a RepServer.
func ParseServer(b []byte) (name, desc string, err error) {
	c := cursor{b, true}
	name = c.str(c.u32())
	desc = c.str(uint32(len(c.b)))
	if !c.ok {
		return "", "", bad("export name of %d bytes", len(b))
	}
	return name, desc, nil
}

// AppendMetaContext appends the data of a RepMetaContext.
func AppendMetaContext(b []byte, id uint32, name string) []byte {
	return append(be.AppendUint32(b, id), name...)
}

// ParseMetaContext reads the data of a RepMetaContext.
func ParseMetaContext(b []byte) (id uint32, name string, err error) {
	c := cursor{b, true}
	id = c.u32()
	name = c.str(uint32(len(c.b)))
	if !c.ok {
		return 0, "", bad("metadata context of %d bytes", len(b))
	}
	return id, name, nil
}
