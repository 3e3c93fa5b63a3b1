package abi

import "time"

// VType is the type of a vnode (enum vtype).
type VType uint8

// The vnode types, with NetBSD's numbers.
const (
	VNON VType = iota
	VREG
	VDIR
	VBLK
	VCHR
	VLNK
	VSOCK
	VFIFO
	VBAD
)

var vtypeNames = [...]string{"none", "file", "directory", "block device", "character device", "symbolic link", "socket", "fifo", "bad"}

func (t VType) String() string {
	if int(t) < len(vtypeNames) {
		return vtypeNames[t]
	}
	return "unknown type"
}

// Timespec is a point in time: seconds since 1970, possibly negative or past
// 2038, and nanoseconds 0..999999999 (struct timespec).
type Timespec struct {
	Sec  int64
	Nsec int32
}

// Time converts t for use with package time.
func (t Timespec) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// TimespecOf converts a time.Time.
func TimespecOf(t time.Time) Timespec {
	return Timespec{Sec: t.Unix(), Nsec: int32(t.Nanosecond())}
}

// Before reports whether t is earlier than u.
func (t Timespec) Before(u Timespec) bool {
	return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec
}

// Vattr are the attributes of a file (struct vattr).
type Vattr struct {
	Type    VType
	Mode    uint32 // permission and set-id bits, 07777
	Nlink   uint32
	Uid     uint32
	Gid     uint32
	Flags   uint32 // chflags(2)
	Rdev    Dev    // device nodes: which device
	Size    int64  // bytes
	Bytes   int64  // storage held, bytes
	Blksize uint32 // preferred size of a transfer, bytes
	Fileid  Fileid
	Gen     Gen
	Atime   Timespec
	Mtime   Timespec
	Ctime   Timespec
	Btime   Timespec
}

// Handle is the handle of the file that v describes, on file system fs.
func (v *Vattr) Handle(fs Fsid) Handle { return Handle{FS: fs, File: v.Fileid, Gen: v.Gen} }

// SetMask says which fields of a Vattr a setattr changes.
type SetMask uint32

// The bits of a SetMask.
const (
	SetMode SetMask = 1 << iota
	SetUid
	SetGid
	SetSize
	SetAtime
	SetMtime
	SetFlags
	SetCtime // kernel only: time of a cached change being written back
	SetBtime
)

// Statvfs describes a file system (struct statvfs). Sizes are in units of
// Frsize bytes.
type Statvfs struct {
	Flag    uint64 // MNT_*
	Bsize   uint64 // preferred transfer size, bytes
	Frsize  uint64 // fundamental block size, bytes
	Blocks  uint64
	Bfree   uint64
	Bavail  uint64
	Files   uint64
	Ffree   uint64
	Namemax uint64
	Fsid    Fsid
	FSType  string // file system type, at most 31 bytes
	From    string // what is mounted
	On      string // where
}

// Dirent is one directory entry. Cookie is where to go on after it; it stays
// valid while the directory is changed.
type Dirent struct {
	Fileid Fileid
	Cookie uint64
	Type   VType
	Name   string
}
