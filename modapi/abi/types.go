package abi

import "fmt"

// Fsid identifies a mounted file system for as long as the kernel runs. The
// kernel issues it; 0 means none.
type Fsid uint64

// Fileid identifies a file within its file system. The file system issues it
// (an inode number); 0 means none.
type Fileid uint64

// OpSeq numbers the mutators of one mount from 1 in the order of execution.
// Requests that change nothing carry 0.
type OpSeq uint64

// ReqID identifies one request on one transport; 0 means none.
type ReqID uint64

// SockID names a socket. The kernel issues it and tells the net component, so
// that a new process generation can be given the same sockets.
type SockID uint64

// BufID names a block request in flight; the kernel issues it.
type BufID uint64

// MountID names a mount towards a component; the kernel issues it. It equals
// the Fsid of the mounted file system.
type MountID = Fsid

// Epoch counts the process generations of one plugin instance, from 1. It is
// in every frame; an old one is a lie.
type Epoch uint32

// Gen tells two files apart that used the same Fileid one after the other.
type Gen uint32

// Ckpt numbers the checkpoints of one mount.
type Ckpt uint64

// Handle names a file for good: it stays valid over restarts of the component
// while the file is linked, open or pinned. Reuse of File must raise Gen.
type Handle struct {
	FS   Fsid
	File Fileid
	Gen  Gen
}

// IsZero reports whether h names no file.
func (h Handle) IsZero() bool { return h == Handle{} }

// Less orders handles as the vnode lock order wants it: by file system, file
// id and generation.
func (h Handle) Less(o Handle) bool {
	if h.FS != o.FS {
		return h.FS < o.FS
	}
	if h.File != o.File {
		return h.File < o.File
	}
	return h.Gen < o.Gen
}

func (h Handle) String() string {
	return fmt.Sprintf("%d:%d.%d", h.FS, h.File, h.Gen)
}

// Extent is a run of shared memory: Off in pages of 4 KiB from the start of
// the arena, Len in bytes. Arenas belong to one instance and one generation.
type Extent struct {
	Arena uint16
	Off   uint32
	Len   uint32
}

// PageSize is the unit of file pages and arenas, in bytes.
const PageSize = 4096

// Dev is a kernel device number in NetBSD's layout (sys/types.h makedev):
// major in bits 8..19, minor in bits 0..7 and 20..31.
type Dev uint64

// NoDev stands for "no device" (NODEV).
const NoDev = ^Dev(0)

// Makedev builds a device number as NetBSD's makedev does.
func Makedev(major, minor uint32) Dev {
	return Dev((major<<8)&0x000fff00 | (minor<<12)&0xfff00000 | minor&0x000000ff)
}

// Major is the driver's number.
func (d Dev) Major() uint32 { return uint32(d>>8) & 0xfff }

// Minor is the unit, as the driver counts.
func (d Dev) Minor() uint32 { return uint32(d)>>12&0xfff00 | uint32(d)&0xff }

func (d Dev) String() string {
	if d == NoDev {
		return "nodev"
	}
	return fmt.Sprintf("%d,%d", d.Major(), d.Minor())
}
