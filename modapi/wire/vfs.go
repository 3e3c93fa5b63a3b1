package wire

import (
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// MountReq asks for a mount; the mount is the frame's object and not coded.
type MountReq vfsops.MountReq

func (m *MountReq) code(c *coder) {
	c.str(&m.Type, maxIfName)
	c.str(&m.Source, maxPath)
	c.strmap(&m.Options)
	c.bool(&m.ReadOnly)
	c.op(&m.Op)
	c.u64((*uint64)(&m.Seq))
	c.u64((*uint64)(&m.Dev))
}

// Append codes m at the end of b.
func (m *MountReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *MountReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// MountRes answers a mount: what the file system can do.
type MountRes struct {
	Caps vfsops.Caps
}

func (m *MountRes) code(c *coder) {
	c.u64((*uint64)(&m.Caps))
}

// Append codes m at the end of b.
func (m *MountRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *MountRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Entry is a node and its attributes.
type Entry vfsops.Entry

func (m *Entry) code(c *coder) {
	c.entry((*vfsops.Entry)(m))
}

// Append codes m at the end of b.
func (m *Entry) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *Entry) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Vattr are the attributes of a node.
type Vattr abi.Vattr

func (m *Vattr) code(c *coder) {
	c.vattr((*abi.Vattr)(m))
}

// Append codes m at the end of b.
func (m *Vattr) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *Vattr) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// LookupReq asks for a run of names. Names that do not fit into MaxArgs are
// left for another request (FitNames).
type LookupReq vfsops.LookupReq

func (m *LookupReq) code(c *coder) {
	c.handle(&m.Start)
	n := c.count(len(m.Names), 5, vfsops.MaxNames)
	if c.dec {
		m.Names = nil
		if n > 0 {
			m.Names = make([][]byte, n)
		}
	}
	for i := range m.Names {
		c.bytes(&m.Names[i], maxName)
		if c.dec && len(m.Names[i]) == 0 {
			c.fail("empty name")
			return
		}
	}
}

// Append codes m at the end of b.
func (m *LookupReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *LookupReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// LookupRes answers a lookup; the Trace goes into the payload.
type LookupRes struct {
	Err abi.Errno // why the walk stopped
	N   uint32    // entries in the payload
}

func (m *LookupRes) code(c *coder) {
	c.i32((*int32)(&m.Err))
	c.u32(&m.N)
}

// Append codes m at the end of b.
func (m *LookupRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *LookupRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Trace are the entries of a lookup, in the payload, without a count.
type Trace []vfsops.Entry

func (m *Trace) code(c *coder) {
	if c.dec {
		*m = nil
		if len(c.b)%entrySize != 0 || len(c.b) > vfsops.MaxNames*entrySize {
			c.fail("length of a trace")
			return
		}
		if n := len(c.b) / entrySize; n > 0 {
			*m = make(Trace, n)
		}
	}
	for i := range *m {
		c.entry(&(*m)[i])
	}
}

// Append codes m at the end of b.
func (m *Trace) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *Trace) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// HandleReq names a node.
type HandleReq struct {
	Node abi.Handle
}

func (m *HandleReq) code(c *coder) {
	c.handle(&m.Node)
}

// Append codes m at the end of b.
func (m *HandleReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *HandleReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// HandlesReq names nodes.
type HandlesReq struct {
	Nodes []abi.Handle
}

func (m *HandlesReq) code(c *coder) {
	n := c.count(len(m.Nodes), handleSize, MaxHandles)
	if c.dec {
		m.Nodes = nil
		if n > 0 {
			m.Nodes = make([]abi.Handle, n)
		}
	}
	for i := range m.Nodes {
		c.handle(&m.Nodes[i])
	}
}

// Append codes m at the end of b.
func (m *HandlesReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *HandlesReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SeekReq asks for the next data or hole of a file.
type SeekReq struct {
	Node   abi.Handle
	Off    int64
	Whence int32
}

func (m *SeekReq) code(c *coder) {
	c.handle(&m.Node)
	c.i64(&m.Off)
	c.i32(&m.Whence)
}

// Append codes m at the end of b.
func (m *SeekReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SeekReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// ReaddirReq asks for directory entries.
type ReaddirReq vfsops.ReaddirReq

func (m *ReaddirReq) code(c *coder) {
	c.handle(&m.Dir)
	c.u64(&m.Cookie)
	c.num(&m.Max)
}

// Append codes m at the end of b.
func (m *ReaddirReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *ReaddirReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// ReaddirRes answers a readdir; the entries go into the payload.
type ReaddirRes struct {
	EOF bool
}

func (m *ReaddirRes) code(c *coder) {
	c.bool(&m.EOF)
}

// Append codes m at the end of b.
func (m *ReaddirRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *ReaddirRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Dirents are directory entries, in the payload, without a count. The coded
// size of one is DirentSize and its name.
type Dirents []abi.Dirent

func (m *Dirents) code(c *coder) {
	if c.dec {
		*m = make(Dirents, 0, len(c.b)/(DirentSize+8)+1)
		for len(c.b) > 0 && c.err == nil {
			var d abi.Dirent
			c.dirent(&d)
			*m = append(*m, d)
		}
		if c.err != nil || len(*m) == 0 {
			*m = nil
		}
		return
	}
	for i := range *m {
		c.dirent(&(*m)[i])
	}
}

// Append codes m at the end of b.
func (m *Dirents) Append(b []byte) []byte {
	for i := range *m {
		b = AppendDirent(b, &(*m)[i])
	}
	return b
}

// Parse decodes m from all of b. The names are parts of one string: a listing
// costs two allocations.
func (m *Dirents) Parse(b []byte) error {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		if len(rest) < DirentSize || len(rest) < DirentSize+int(rest[DirentSize-1]) {
			c := coder{b: b, dec: true} // it says what is wrong
			m.code(&c)
			return c.end()
		}
		rest = rest[DirentSize+int(rest[DirentSize-1]):]
	}
	if *m = nil; n == 0 {
		return nil
	}
	ds, text, le := make(Dirents, n), string(b), binary.LittleEndian
	for i := range ds {
		end := DirentSize + int(b[DirentSize-1])
		ds[i] = abi.Dirent{Fileid: abi.Fileid(le.Uint64(b)), Cookie: le.Uint64(b[8:]), Type: abi.VType(b[16]), Name: text[DirentSize:end]}
		b, text = b[end:], text[end:]
	}
	*m = ds
	return nil
}

// IOReq asks for bytes of a file: ReplyLen of the frame says how many.
type IOReq struct {
	Node abi.Handle
	Off  int64
}

func (m *IOReq) code(c *coder) {
	c.handle(&m.Node)
	c.i64(&m.Off)
}

// Append codes m at the end of b.
func (m *IOReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *IOReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Statvfs describes a file system.
type Statvfs abi.Statvfs

func (m *Statvfs) code(c *coder) {
	for _, p := range [...]*uint64{&m.Flag, &m.Bsize, &m.Frsize, &m.Blocks, &m.Bfree, &m.Bavail, &m.Files, &m.Ffree, &m.Namemax} {
		c.u64(p)
	}
	c.u64((*uint64)(&m.Fsid))
	c.str(&m.FSType, maxIfName)
	c.str(&m.From, maxPath)
	c.str(&m.On, maxPath)
}

// Append codes m at the end of b.
func (m *Statvfs) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *Statvfs) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// MaxHandles bounds HandlesReq.Nodes: what fits into MaxArgs.
const MaxHandles = (MaxArgs - 4) / handleSize

// MaxXattr bounds the value of an extended attribute and the list of names,
// in bytes.
const MaxXattr = 64 << 10

// DirentSize is the coded size of a directory entry without its name.
const DirentSize = 8 + 8 + 1 + 1

// TraceSize is the coded size of a trace of n entries.
func TraceSize(n int) int { return n * entrySize }

// FitNames is how many of the names fit into the arguments of one LookupReq.
func FitNames(names [][]byte) int {
	room := MaxArgs - handleSize - 4
	for i, n := range names {
		if room -= 4 + len(n); room < 0 || i == vfsops.MaxNames {
			return i
		}
	}
	return len(names)
}

// dirent codes one directory entry: the length of its name takes one byte.
func (c *coder) dirent(d *abi.Dirent) {
	c.u64((*uint64)(&d.Fileid))
	c.u64(&d.Cookie)
	c.u8((*uint8)(&d.Type))
	n := uint8(min(len(d.Name), maxName))
	c.u8(&n)
	if !c.dec {
		c.b = append(c.b, d.Name[:n]...)
		return
	}
	d.Name = string(c.take(int(n)))
}

// AppendDirent codes one directory entry at the end of b. A name is cut at
// 255 bytes.
func AppendDirent(b []byte, d *abi.Dirent) []byte {
	le, n := binary.LittleEndian, min(len(d.Name), maxName)
	b = le.AppendUint64(le.AppendUint64(b, uint64(d.Fileid)), d.Cookie)
	return append(append(b, uint8(d.Type), uint8(n)), d.Name[:n]...)
}
