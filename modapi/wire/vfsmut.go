package wire

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// CreateReq makes a file or directory.
type CreateReq vfsops.CreateReq

func (m *CreateReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Dir)
	c.bytes(&m.Name, maxName)
	c.u32(&m.Mode)
	c.u32(&m.Uid)
	c.u32(&m.Gid)
}

// Append codes m at the end of b.
func (m *CreateReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *CreateReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// MknodReq makes a special file.
type MknodReq vfsops.MknodReq

func (m *MknodReq) code(c *coder) {
	(*CreateReq)(&m.CreateReq).code(c)
	c.u8((*uint8)(&m.Type))
	c.u64((*uint64)(&m.Rdev))
}

// Append codes m at the end of b.
func (m *MknodReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *MknodReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SymlinkReq makes a symbolic link.
type SymlinkReq vfsops.SymlinkReq

func (m *SymlinkReq) code(c *coder) {
	(*CreateReq)(&m.CreateReq).code(c)
	c.bytes(&m.Target, maxPath)
}

// Append codes m at the end of b.
func (m *SymlinkReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SymlinkReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// LinkReq gives a file another name.
type LinkReq vfsops.LinkReq

func (m *LinkReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.handle(&m.Dir)
	c.bytes(&m.Name, maxName)
}

// Append codes m at the end of b.
func (m *LinkReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *LinkReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// RemoveReq removes a name.
type RemoveReq vfsops.RemoveReq

func (m *RemoveReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Dir)
	c.bytes(&m.Name, maxName)
	c.handle(&m.Victim)
}

// Append codes m at the end of b.
func (m *RemoveReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *RemoveReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// RenameReq renames.
type RenameReq vfsops.RenameReq

func (m *RenameReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.FDir)
	c.bytes(&m.FName, maxName)
	c.handle(&m.From)
	c.handle(&m.TDir)
	c.bytes(&m.TName, maxName)
	c.handle(&m.To)
	c.u32(&m.Flags)
}

// Append codes m at the end of b.
func (m *RenameReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *RenameReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// Mutated answers most mutators; what does not apply takes one byte.
type Mutated vfsops.Mutated

func (m *Mutated) code(c *coder) {
	there := m.Node != vfsops.Entry{}
	c.bool(&there)
	if there {
		c.entry(&m.Node)
	} else if c.dec {
		m.Node = vfsops.Entry{}
	}
	c.optVattr(&m.Dir)
	c.optVattr(&m.Dir2)
	c.optVattr(&m.Victim)
}

// Append codes m at the end of b.
func (m *Mutated) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *Mutated) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SetattrReq changes attributes.
type SetattrReq vfsops.SetattrReq

func (m *SetattrReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.u32((*uint32)(&m.Mask))
	c.vattr(&m.Attr)
}

// Append codes m at the end of b.
func (m *SetattrReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SetattrReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// WriteReq writes; the bytes are the payload.
type WriteReq struct {
	vfsops.WriteReq
}

func (m *WriteReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.i64(&m.Off)
	c.bool(&m.WriteReq.Append)
}

// Append codes m at the end of b.
func (m *WriteReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *WriteReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// WriteRes answers a write.
type WriteRes vfsops.WriteRes

func (m *WriteRes) code(c *coder) {
	c.num(&m.N)
	c.i64(&m.Off)
	c.vattr(&m.Vattr)
}

// Append codes m at the end of b.
func (m *WriteRes) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *WriteRes) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// TruncateReq changes the size of a file.
type TruncateReq struct {
	Op   vfsops.Op
	Node abi.Handle
	Size int64
}

func (m *TruncateReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.i64(&m.Size)
}

// Append codes m at the end of b.
func (m *TruncateReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *TruncateReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// XattrReq names an extended attribute. Op is for OpRemovexattr.
type XattrReq struct {
	Op   vfsops.Op
	Node abi.Handle
	Name []byte
}

func (m *XattrReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.bytes(&m.Name, maxName)
}

// Append codes m at the end of b.
func (m *XattrReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *XattrReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SetxattrReq sets an extended attribute; the value is the payload and not
// coded here.
type SetxattrReq vfsops.SetxattrReq

func (m *SetxattrReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.bytes(&m.Name, maxName)
	c.u32(&m.Flags)
}

// Append codes m at the end of b.
func (m *SetxattrReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SetxattrReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// FallocReq allocates or punches.
type FallocReq struct {
	Op     vfsops.Op
	Node   abi.Handle
	Off, N int64
	Punch  bool
}

func (m *FallocReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.i64(&m.Off)
	c.i64(&m.N)
	c.bool(&m.Punch)
}

// Append codes m at the end of b.
func (m *FallocReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *FallocReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// WritePagesReq stores pages; they are the payload.
type WritePagesReq struct {
	Op   vfsops.Op
	Node abi.Handle
	Off  int64
	Size int64
}

func (m *WritePagesReq) code(c *coder) {
	c.op(&m.Op)
	c.handle(&m.Node)
	c.i64(&m.Off)
	c.i64(&m.Size)
}

// Append codes m at the end of b.
func (m *WritePagesReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *WritePagesReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SyncReq makes a node, or everything, durable.
type SyncReq struct {
	Node     abi.Handle
	DataOnly bool
}

func (m *SyncReq) code(c *coder) {
	c.handle(&m.Node)
	c.bool(&m.DataOnly)
}

// Append codes m at the end of b.
func (m *SyncReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SyncReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// AccessReq asks whether an access is allowed.
type AccessReq struct {
	Node   abi.Handle
	Caller *abi.Caller
	Want   abi.AccMode
}

func (m *AccessReq) code(c *coder) {
	c.handle(&m.Node)
	c.caller(&m.Caller)
	c.u32((*uint32)(&m.Want))
}

// Append codes m at the end of b.
func (m *AccessReq) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *AccessReq) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}
