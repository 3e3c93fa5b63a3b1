package vfsops

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Mutated is what a mutator answers: the new attributes of the nodes it
// touched, so that the kernel's caches are right without asking again. A
// field that does not apply is left zero (Vattr.Type VNON).
type Mutated struct {
	Node   Entry     // the node created, linked, renamed, or written
	Dir    abi.Vattr // the (first) directory
	Dir2   abi.Vattr // rename: the target directory, if another one
	Victim abi.Vattr // the node removed or replaced; Nlink 0 = its last name is gone
}

// Creator makes files and directories. Without it: EROFS.
type Creator interface {
	// Create makes a regular file; Mkdir a directory. EEXIST, ENOSPC,
	// EMLINK, ENAMETOOLONG, EDQUOT.
	Create(ctx context.Context, req CreateReq) (Mutated, error)
	Mkdir(ctx context.Context, req CreateReq) (Mutated, error)
}

// CreateReq names a new node. The kernel has decided owner, group and mode
// (umask, set-group-id directories).
type CreateReq struct {
	Op   Op
	Dir  abi.Handle
	Name []byte
	Mode uint32
	Uid  uint32
	Gid  uint32
}

// Mknoder makes device nodes, fifos and sockets. Without it: EROFS.
type Mknoder interface {
	Mknod(ctx context.Context, req MknodReq) (Mutated, error)
}

// MknodReq is a CreateReq with the type (VBLK, VCHR, VFIFO, VSOCK) and device.
type MknodReq struct {
	CreateReq
	Type abi.VType
	Rdev abi.Dev
}

// Symlinker makes symbolic links. Without it: EROFS.
type Symlinker interface {
	Symlink(ctx context.Context, req SymlinkReq) (Mutated, error)
}

// SymlinkReq is a CreateReq with the text of the link, 1 to 1023 bytes.
type SymlinkReq struct {
	CreateReq
	Target []byte
}

// Linker makes hard links to files that are no directories. Without it: EROFS.
type Linker interface {
	// Link gives Node another name. EMLINK, EEXIST.
	Link(ctx context.Context, req LinkReq) (Mutated, error)
}

// LinkReq names the file and its new name.
type LinkReq struct {
	Op   Op
	Node abi.Handle
	Dir  abi.Handle
	Name []byte
}

// Remover removes names. Without it: EROFS.
type Remover interface {
	// Remove takes away the name of a file that is no directory; Rmdir an
	// empty directory (ENOTEMPTY). ESTALE if Name is not Victim any more:
	// the kernel looks up again. A pinned node lives on without a name.
	Remove(ctx context.Context, req RemoveReq) (Mutated, error)
	Rmdir(ctx context.Context, req RemoveReq) (Mutated, error)
}

// RemoveReq names what to remove, and what the kernel has locked.
type RemoveReq struct {
	Op     Op
	Dir    abi.Handle
	Name   []byte
	Victim abi.Handle
}

// Renamer renames. Without it: EROFS.
type Renamer interface {
	// Rename moves From, replacing To if that is not zero. The kernel has
	// seen to it that a directory does not move below itself, that types
	// agree, and that nobody else renames on this mount meanwhile. ENOTEMPTY
	// if To is a directory with entries. ESTALE if a name is not what the
	// kernel thought.
	Rename(ctx context.Context, req RenameReq) (Mutated, error)
}

// RenameReq names source and target, and what the kernel has locked. Flags:
// abi.RENAME_EXCHANGE swaps the two; NOREPLACE has been dealt with.
type RenameReq struct {
	Op    Op
	FDir  abi.Handle
	FName []byte
	From  abi.Handle
	TDir  abi.Handle
	TName []byte
	To    abi.Handle // zero: there was none
	Flags uint32
}

// Setattrer changes attributes. Without it: EROFS.
type Setattrer interface {
	// Setattr writes the fields in Mask and answers all attributes. SetSize
	// comes here only from a kernel that keeps the pages (kpages).
	Setattr(ctx context.Context, req SetattrReq) (abi.Vattr, error)
}

// SetattrReq says which attributes to set.
type SetattrReq struct {
	Op   Op
	Node abi.Handle
	Mask abi.SetMask
	Attr abi.Vattr
}

// Writer writes to regular files. Without it: EROFS.
type Writer interface {
	// Write stores src at off, or at the end of the file with Append, which
	// no other writer may come between.
	Write(ctx context.Context, req WriteReq, src abi.Iov) (WriteRes, error)
}

// WriteReq says where to write.
type WriteReq struct {
	Op     Op
	Node   abi.Handle
	Off    int64
	Append bool
}

// WriteRes says how much was written, where it began, and the attributes after it.
type WriteRes struct {
	N     int
	Off   int64
	Vattr abi.Vattr
}

// Truncater changes the size of regular files. Without it: EROFS.
type Truncater interface {
	Truncate(ctx context.Context, op Op, h abi.Handle, size int64) (abi.Vattr, error)
}

// Readlinker reads symbolic links. Without it: EINVAL.
type Readlinker interface {
	Readlink(ctx context.Context, h abi.Handle) ([]byte, error)
}

// Xattrer has extended attributes. Without it: EOPNOTSUPP.
type Xattrer interface {
	// Getxattr answers ENODATA (ENOATTR) for a name that is not there.
	Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error)
	// Listxattr answers the names, each ended by NUL.
	Listxattr(ctx context.Context, h abi.Handle) ([]byte, error)
	Setxattr(ctx context.Context, req SetxattrReq) error
	Removexattr(ctx context.Context, op Op, h abi.Handle, name []byte) error
}

// SetxattrReq sets one extended attribute. Flags: 1 must be new, 2 must exist.
type SetxattrReq struct {
	Op    Op
	Node  abi.Handle
	Name  []byte
	Value []byte
	Flags uint32
}

// Fallocater allocates and frees space inside a file. Without it: EOPNOTSUPP.
type Fallocater interface {
	// Fallocate with punch frees the range, without it allocates.
	Fallocate(ctx context.Context, op Op, h abi.Handle, off, n int64, punch bool) (abi.Vattr, error)
}

// Pager moves whole pages for a CapSole file system without CapKpages.
// Without it the kernel reads and writes through Read and Write, uncached.
type Pager interface {
	// ReadPages fills dst, a whole number of pages, from byte off on;
	// behind the end of the file it leaves zeros.
	ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error
	// WritePages stores pages; size is the file's size, not beyond which
	// anything is kept.
	WritePages(ctx context.Context, op Op, h abi.Handle, off int64, src abi.Iov, size int64) error
}

// Pinner keeps nodes without a name alive while somebody has them open.
// Without it, removing an open file is EBUSY.
//
// The number of pins of a node is part of the state that Checkpoint keeps, and
// Pin and Unpin are mutators there: they are replayed.
type Pinner interface {
	// Pin is called before the last name goes; Unpin after the last close.
	Pin(ctx context.Context, h abi.Handle) error
	Unpin(ctx context.Context, h abi.Handle) error
}

// Reclaimer wants to know which nodes the kernel has forgotten (VOP_RECLAIM),
// to close what it holds for them. Without it: nothing is said.
type Reclaimer interface {
	Reclaim(ctx context.Context, hs []abi.Handle) error
}

// Reserver grants space for file pages that the kernel keeps (CapKpages), so
// that ENOSPC comes at the write. Without it space is without limit.
//
// A file system with a Pager and without holes can have it, too. What it grants
// is then for files that become longer: others cannot have that space, but a
// WritePages that makes a file longer takes what it needs from it, without
// being told. The kernel gives that back afterwards, by a Reserve of as many
// pages that changes nothing. Frsize of Statvfs says in which units files take
// space; what is granted is not free there. After a death it can grant fewer
// than the kernel had, if files have taken the rest.
//
// What is granted belongs to the kernel, not to the state that Checkpoint
// keeps, and Reserve is not replayed. A mount that is mounted again (MountReq)
// has granted nothing; before anybody else uses it the kernel takes what it
// holds by one Reserve, which is to be granted in full: it was before.
type Reserver interface {
	// Reserve takes n pages (n < 0 gives back) and says how many it took,
	// possibly fewer; ENOSPC if none.
	Reserve(ctx context.Context, pages int64) (int64, error)
}

// Syncer makes things durable. Without it: 0, there is nothing to do.
type Syncer interface {
	// Sync returns when h, or everything if h is zero, is on stable storage.
	Sync(ctx context.Context, h abi.Handle, dataOnly bool) error
}

// Checkpointer is a file system that loses nothing when its process dies.
// Without it, or without the declared CapCheckpoint and CapFixedids, all that
// was not on stable storage is lost, and open files with it.
//
// The kernel keeps every mutator (Pin and Unpin among them) until a checkpoint
// covers it. After a death it mounts again with MountReq.Seq, that of the last
// checkpoint committed, and repeats the mutators behind it in their order, each
// with the Op of the first time and in Op.Fileid and Op.Gen the identity that
// was given then. They must answer what they answered then: the same ids, the
// same attributes, the same errors, and in directories the same cookies. An id
// that is in use, or a difference, is a fault that the kernel counts as
// divergence. Mutators up to Seq are never repeated. If there was no checkpoint
// yet, Seq is 0, and the mount is made as the first time, with the same Op.
// The process may die again at any time, during Mount and replay too, where
// there can be further checkpoints as well.
//
// The state is in two places only: the modapi.Store of the mount, and the block
// device. It has all that a client could notice missing: nodes that have pins
// but no name, with the number of their pins, the cookies of directories, the
// next file id. It does not have what the kernel owns: pages of CapKpages,
// granted space, locks.
type Checkpointer interface {
	// Checkpoint writes what has changed since the last one that was answered
	// without an error, and returns. When it is called all mutators up to seq
	// have been answered, and none is in flight until the kernel has the
	// answer; reads may be. The kernel then makes what was written to the
	// Store, and to the block device, valid at once, with seq. If the process
	// dies before that, all of it is dropped. Between answer and next mutator
	// the file system writes nothing. Not valid yet but written at other
	// times, it becomes so with the next checkpoint.
	//
	// It takes time in proportion to the changes. After an error (ENOMEM,
	// EIO) nothing becomes valid, the file system goes on, and the next
	// Checkpoint writes all of it again; what is in the Store already may be
	// written a second time.
	Checkpoint(ctx context.Context, seq abi.OpSeq) error
}

// HoleSeeker knows which parts of regular files are holes: parts that take no
// space and read as zeros (SEEK_DATA and SEEK_HOLE of lseek(2)). Without it a
// file is data up to its end.
type HoleSeeker interface {
	// Seek answers the first offset at or after off that is data (whence
	// abi.SEEK_DATA), or in a hole (abi.SEEK_HOLE); the end of the file is the
	// last hole. What is called data may be zeros, so that holes can be told in
	// whole blocks, but a hole has nothing else. ENXIO: off is below 0, or at
	// the end or behind it, or no data is left; EINVAL: another whence.
	// EOPNOTSUPP: it is not known of this file, which is data then.
	//
	// The kernel has the vnode locked, shared. Of a file with a Pager it knows
	// itself what has not been written back, and takes it for data.
	Seek(ctx context.Context, h abi.Handle, off int64, whence int) (int64, error)
}

// Accesser decides permissions itself (CapAuthz): EACCES, EPERM, or nil.
type Accesser interface {
	Access(ctx context.Context, h abi.Handle, c *abi.Caller, want abi.AccMode) error
}

// InterfaceCaps finds the optional interfaces of fs.
func InterfaceCaps(fs FS) Caps {
	var c Caps
	set := func(ok bool, bit Caps) {
		if ok {
			c |= bit
		}
	}
	_, ok := fs.(Creator)
	set(ok, HasCreator)
	_, ok = fs.(Remover)
	set(ok, HasRemover)
	_, ok = fs.(Renamer)
	set(ok, HasRenamer)
	_, ok = fs.(Linker)
	set(ok, HasLinker)
	_, ok = fs.(Symlinker)
	set(ok, HasSymlinker)
	_, ok = fs.(Mknoder)
	set(ok, HasMknoder)
	_, ok = fs.(Setattrer)
	set(ok, HasSetattrer)
	_, ok = fs.(Writer)
	set(ok, HasWriter)
	_, ok = fs.(Truncater)
	set(ok, HasTruncater)
	_, ok = fs.(Xattrer)
	set(ok, HasXattrer)
	_, ok = fs.(Fallocater)
	set(ok, HasFallocater)
	_, ok = fs.(Readlinker)
	set(ok, HasReadlinker)
	_, ok = fs.(Pager)
	set(ok, HasPager)
	_, ok = fs.(Pinner)
	set(ok, HasPinner)
	_, ok = fs.(Reclaimer)
	set(ok, HasReclaimer)
	_, ok = fs.(Reserver)
	set(ok, HasReserver)
	_, ok = fs.(Syncer)
	set(ok, HasSyncer)
	_, ok = fs.(Accesser)
	set(ok, HasAccesser)
	_, ok = fs.(Checkpointer)
	set(ok, HasCheckpointer)
	_, ok = fs.(HoleSeeker)
	set(ok, HasHoleSeeker)
	return c
}

// CapsOf is what fs can do: its own word if it gives one by a method Caps,
// which a proxy of a file system in another process does, else what its
// interfaces say.
func CapsOf(fs FS) Caps {
	if c, ok := fs.(interface{ Caps() Caps }); ok {
		return c.Caps()
	}
	return InterfaceCaps(fs)
}
