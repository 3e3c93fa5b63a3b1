package vfsops

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FSType is a type of file system, attached under a name ("tmpfs").
type FSType interface {
	// Mount makes a file system. req.Fsid is its name from now on. Errors:
	// EINVAL for an option it does not know, ENODEV or ENOENT for a source
	// that is not there, EROFS when it can only be mounted read-only.
	Mount(ctx context.Context, req *MountReq) (FS, error)
}

// MountReq says what to mount.
type MountReq struct {
	Fsid     abi.Fsid          // issued by the kernel, stable over restarts
	Type     string            // name of the type, as attached
	Source   string            // what: a granted name, a device; may be empty
	Options  map[string]string // from -o; the kernel has taken its own (ro, nosuid, ...) out
	ReadOnly bool
	Op       Op
	// Seq is 0 for an empty mount: a new one, or one that was never
	// checkpointed. Otherwise the mount is to be as it was after mutator Seq,
	// from what its Store, or its device, had when Checkpoint(Seq) was
	// committed. See Checkpointer.
	Seq abi.OpSeq
	// Dev is the block device that Source names, for a type with CapBlock:
	// Kernel.Block opens it. abi.NoDev for others.
	Dev abi.Dev
}

// Entry is a node and its attributes. Its handle is {Fsid, Vattr.Fileid,
// Vattr.Gen}.
type Entry struct {
	Handle abi.Handle
	Vattr  abi.Vattr
}

// Op is what every mutator carries: its place in the order of the mount and
// all that it may not find out by itself.
type Op struct {
	Seq    abi.OpSeq    // from 1 per mount, in order of execution; numbers may be left out
	Now    abi.Timespec // the time to write into nodes
	Seed   uint64       // for random choices
	Caller *abi.Caller  // for ownership; never nil
	Fileid abi.Fileid   // replay: the id given the first time; 0 = choose one
	Gen    abi.Gen      // goes with Fileid
}

// FS is a mounted file system: what every one has.
type FS interface {
	// Root is the root directory.
	Root(ctx context.Context) (Entry, error)
	// Lookup walks names from a directory; see LookupRes. The error is for
	// Start itself (ESTALE, EIO); a name that is not there is LookupRes.Err.
	Lookup(ctx context.Context, req LookupReq) (LookupRes, error)
	// Getattr answers the attributes of a node. ESTALE if it is gone.
	Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error)
	// Readdir lists a directory from a cookie on, without "." and "..",
	// which the kernel adds. ENOTDIR.
	Readdir(ctx context.Context, req ReaddirReq) (ReaddirRes, error)
	// Read fills dst from a regular file, short only at its end. A file
	// system with the kpages capability is never asked (EIO).
	Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error)
	// Statvfs describes the file system; the kernel fills in Flag, Fsid,
	// FSType, From and On.
	Statvfs(ctx context.Context) (abi.Statvfs, error)
	// Unmount ends it: no further calls. EBUSY is not for an FS to say, the
	// kernel counts users.
	Unmount(ctx context.Context) error
}

// MaxNames bounds LookupReq.Names.
const MaxNames = 64

// LookupReq asks for a run of names below Start: 1 to MaxNames of them, each
// 1 to 255 bytes without '/' and NUL, never "." or "..".
type LookupReq struct {
	Start abi.Handle
	Names [][]byte
}

// LookupRes is how far the walk came: one Entry per name that was found. The
// walk stops behind a symbolic link or any other non-directory, with Err 0 if
// that entry itself was found. Err says why the next name has no entry:
// ENOENT, ENAMETOOLONG, EIO.
type LookupRes struct {
	Trace []Entry
	Err   abi.Errno
}

// ReaddirReq asks for entries after Cookie (0 = from the start), as many as
// fit in Max bytes, counting 24 bytes and the name for each.
type ReaddirReq struct {
	Dir    abi.Handle
	Cookie uint64
	Max    int
}

// ReaddirRes has the entries in cookie order. EOF says there are none after
// them. An entry that stays in the directory is listed exactly once over a
// whole scan, whatever else is created or removed meanwhile.
type ReaddirRes struct {
	Entries []abi.Dirent
	EOF     bool
}

// Caps are the capabilities of a file system: what it declares, and which
// optional interfaces it has (found by the SDK, see InterfaceCaps).
type Caps uint64

// Declared capabilities.
const (
	CapSole       Caps = 1 << iota // only we change it: the kernel caches names, attributes, pages
	CapKpages                      // contents live in the kernel's page cache (needs CapSole)
	CapJournalled                  // device writes keep barriers
	CapStateless                   // recover = stateless
	CapCheckpoint                  // recover = checkpoint (needs CapSole, CapFixedids, Checkpointer)
	CapXattr                       // has extended attributes
	CapACL                         // has access control lists
	CapCasefold                    // names are compared without case: no negative name cache
	CapFixedids                    // honours Op.Fileid and Op.Gen
	CapAuthz                       // authz=module: Accesser decides, the kernel caches nothing
	CapBlock                       // the source is a block device (MountReq.Dev)
)

// Capabilities that stand for an optional interface.
const (
	HasCreator Caps = 1 << (32 + iota)
	HasRemover
	HasRenamer
	HasLinker
	HasSymlinker
	HasMknoder
	HasSetattrer
	HasWriter
	HasTruncater
	HasXattrer
	HasFallocater
	HasReadlinker
	HasPager
	HasPinner
	HasReclaimer
	HasReserver
	HasSyncer
	HasAccesser
	HasCheckpointer
	HasHoleSeeker
)

// CapRecoverable is what a file system has that comes back after its process
// died as if nothing had been: it is checkpointed, and honours the file ids of
// a replay.
const CapRecoverable = CapCheckpoint | CapFixedids | HasCheckpointer
