package abi

// Flags of open(2), sys/fcntl.h. The low two bits are the access mode.
const (
	O_RDONLY    = 0x00000000 // read only
	O_WRONLY    = 0x00000001 // write only
	O_RDWR      = 0x00000002 // read and write
	O_ACCMODE   = 0x00000003 // mask of the three above
	O_NONBLOCK  = 0x00000004 // never wait
	O_APPEND    = 0x00000008 // every write goes to the end
	O_SHLOCK    = 0x00000010 // take a shared flock(2) lock
	O_EXLOCK    = 0x00000020 // take an exclusive flock(2) lock
	O_ASYNC     = 0x00000040 // signal when data is ready
	O_SYNC      = 0x00000080 // writes reach the device before they return
	O_NOFOLLOW  = 0x00000100 // a symbolic link as last component is ELOOP
	O_CREAT     = 0x00000200 // create if missing
	O_TRUNC     = 0x00000400 // cut to length 0
	O_EXCL      = 0x00000800 // with O_CREAT: EEXIST if it exists
	O_NOCTTY    = 0x00008000 // no controlling terminal
	O_DSYNC     = 0x00010000 // as O_SYNC, for the data only
	O_RSYNC     = 0x00020000 // reads wait as writes do
	O_ALT_IO    = 0x00040000 // "alternate" semantics, chosen by the file system
	O_DIRECT    = 0x00080000 // hint: bypass the cache
	O_DIRECTORY = 0x00200000 // ENOTDIR unless a directory
	O_CLOEXEC   = 0x00400000 // close on exec
	O_SEARCH    = 0x00800000 // open a directory for lookups only
	O_NOSIGPIPE = 0x01000000 // EPIPE without SIGPIPE
	O_REGULAR   = 0x02000000 // EFTYPE unless a regular file
	O_EXEC      = 0x04000000 // open for execution only

	O_FSYNC  = O_SYNC     // old name
	O_NDELAY = O_NONBLOCK // old name

	// O_MASK are all bits that open takes; others are ignored.
	O_MASK = O_ACCMODE | O_NONBLOCK | O_APPEND | O_SHLOCK | O_EXLOCK | O_ASYNC |
		O_SYNC | O_NOFOLLOW | O_CREAT | O_TRUNC | O_EXCL | O_NOCTTY | O_DSYNC | O_RSYNC |
		O_ALT_IO | O_DIRECT | O_DIRECTORY | O_CLOEXEC | O_SEARCH | O_NOSIGPIPE | O_REGULAR | O_EXEC

	// O_SETFLMASK are the bits that fcntl(F_SETFL) changes (FCNTLFLAGS).
	O_SETFLMASK = O_APPEND | O_ASYNC | O_SYNC | O_NONBLOCK | O_DSYNC | O_RSYNC | O_ALT_IO | O_DIRECT | O_NOSIGPIPE
)

// How a file is open, as the kernel tests it: FFlags makes them of O_RDONLY,
// O_WRONLY, O_RDWR by adding 1.
const (
	FREAD  = 1 // reads are allowed
	FWRITE = 2 // writes are allowed
)

// FFlags turns flags of open into flags of a file (FFLAGS): the access mode
// becomes FREAD and FWRITE, the rest stays. An access mode of O_ACCMODE, which
// open refuses with EINVAL, becomes neither.
func FFlags(oflags uint32) uint32 {
	return oflags&^O_ACCMODE | (oflags+1)&O_ACCMODE
}

// OFlags undoes FFlags (OFLAGS).
func OFlags(fflags uint32) uint32 {
	return fflags&^O_ACCMODE | (fflags-1)&O_ACCMODE
}

// Commands of fcntl(2).
const (
	F_DUPFD         = 0  // duplicate, lowest number from the argument on
	F_GETFD         = 1  // FD_CLOEXEC
	F_SETFD         = 2  // FD_CLOEXEC
	F_GETFL         = 3  // O_* flags
	F_SETFL         = 4  // those in O_SETFLMASK
	F_GETOWN        = 5  // process or group that gets SIGIO
	F_SETOWN        = 6  // process or group that gets SIGIO
	F_GETLK         = 7  // who holds a record lock
	F_SETLK         = 8  // record lock, EAGAIN if held
	F_SETLKW        = 9  // record lock, wait if held
	F_CLOSEM        = 10 // close all from this number on
	F_MAXFD         = 11 // the largest open number
	F_DUPFD_CLOEXEC = 12 // F_DUPFD with close on exec
	F_GETNOSIGPIPE  = 13 // O_NOSIGPIPE as a number
	F_SETNOSIGPIPE  = 14 // O_NOSIGPIPE as a number
	F_GETPATH       = 15 // path name, if the kernel still knows it
)

// FD_CLOEXEC is the one flag of a descriptor (F_GETFD): closed on exec.
const FD_CLOEXEC = 1

// Types of a record lock, and the flags the kernel adds to them.
const (
	F_RDLCK = 1 // shared
	F_UNLCK = 2 // none
	F_WRLCK = 3 // exclusive

	F_WAIT  = 0x010 // wait until granted
	F_FLOCK = 0x020 // flock(2) semantics: owned by the open file
	F_POSIX = 0x040 // fcntl(2) semantics: owned by the process
)

// Operations of flock(2).
const (
	LOCK_SH = 1 // shared
	LOCK_EX = 2 // exclusive
	LOCK_NB = 4 // EWOULDBLOCK instead of waiting
	LOCK_UN = 8 // unlock
)

// Arguments of the *at calls.
const (
	AT_FDCWD            = -100  // the current directory instead of a descriptor
	AT_EACCESS          = 0x100 // faccessat: use the effective ids
	AT_SYMLINK_NOFOLLOW = 0x200 // act on a symbolic link itself
	AT_SYMLINK_FOLLOW   = 0x400 // linkat: follow the symbolic link
	AT_REMOVEDIR        = 0x800 // unlinkat: rmdir
)

// Origins of lseek(2). NetBSD has no SEEK_DATA and SEEK_HOLE; the numbers are
// FreeBSD's and Linux's.
const (
	SEEK_SET  = 0 // from the start
	SEEK_CUR  = 1 // from the current offset
	SEEK_END  = 2 // from the end of the file
	SEEK_DATA = 3 // to the next data at or after the offset, ENXIO if none
	SEEK_HOLE = 4 // to the next hole at or after the offset
)

// Modes of access(2). They are the AccMode bits VEXEC, VWRITE and VREAD.
const (
	F_OK = 0 // does it exist
	X_OK = 1 // execute or search
	W_OK = 2 // write
	R_OK = 4 // read
)

// The file mode of stat(2): type, set-id bits and permissions.
const (
	S_IFMT   = 0o170000 // mask of the type
	S_IFIFO  = 0o010000 // fifo
	S_IFCHR  = 0o020000 // character device
	S_IFDIR  = 0o040000 // directory
	S_IFBLK  = 0o060000 // block device
	S_IFREG  = 0o100000 // regular file
	S_IFLNK  = 0o120000 // symbolic link
	S_IFSOCK = 0o140000 // socket
	S_IFWHT  = 0o160000 // whiteout

	S_ISUID = 0o4000 // set user id on execution
	S_ISGID = 0o2000 // set group id on execution
	S_ISVTX = 0o1000 // sticky: only owners delete
	S_ISTXT = S_ISVTX

	S_IRWXU = 0o700 // owner
	S_IRUSR = 0o400
	S_IWUSR = 0o200
	S_IXUSR = 0o100
	S_IRWXG = 0o070 // group
	S_IRGRP = 0o040
	S_IWGRP = 0o020
	S_IXGRP = 0o010
	S_IRWXO = 0o007 // others
	S_IROTH = 0o004
	S_IWOTH = 0o002
	S_IXOTH = 0o001

	ALLPERMS    = 0o7777 // what chmod may set
	ACCESSPERMS = 0o0777 // the permission bits alone

	S_BLKSIZE = 512 // unit of st_blocks, bytes
)

// iftovt and vttoif are the two directions of the table between the type bits
// of a mode and a VType.
var (
	iftovt = [16]VType{
		S_IFIFO >> 12: VFIFO, S_IFCHR >> 12: VCHR, S_IFDIR >> 12: VDIR, S_IFBLK >> 12: VBLK,
		S_IFREG >> 12: VREG, S_IFLNK >> 12: VLNK, S_IFSOCK >> 12: VSOCK, 15: VBAD,
	}
	vttoif = [...]uint32{
		VNON: 0, VREG: S_IFREG, VDIR: S_IFDIR, VBLK: S_IFBLK, VCHR: S_IFCHR,
		VLNK: S_IFLNK, VSOCK: S_IFSOCK, VFIFO: S_IFIFO, VBAD: S_IFMT,
	}
)

// ModeType is the VType that the type bits of a mode stand for (IFTOVT), VNON
// if none.
func ModeType(mode uint32) VType { return iftovt[mode&S_IFMT>>12] }

// TypeMode gives the type bits for a VType (VTTOIF), 0 for VNON or a type that
// does not exist.
func TypeMode(t VType) uint32 {
	if int(t) < len(vttoif) {
		return vttoif[t]
	}
	return 0
}

// Types of a directory entry on the wire of getdents(2): the type bits of the
// mode, shifted down by 12.
const (
	DT_UNKNOWN = 0
	DT_FIFO    = 1
	DT_CHR     = 2
	DT_DIR     = 4
	DT_BLK     = 6
	DT_REG     = 8
	DT_LNK     = 10
	DT_SOCK    = 12
	DT_WHT     = 14
)

// Flags of chflags(2): UF_ may be changed by the owner, SF_ by the super-user.
const (
	UF_SETTABLE  = 0x0000ffff // mask of the owner's flags
	UF_NODUMP    = 0x00000001 // not in backups
	UF_IMMUTABLE = 0x00000002 // may not be changed
	UF_APPEND    = 0x00000004 // writes may only append
	UF_OPAQUE    = 0x00000008 // union: hides what is below
	SF_SETTABLE  = 0xffff0000 // mask of the super-user's flags
	SF_ARCHIVED  = 0x00010000 // has been archived
	SF_IMMUTABLE = 0x00020000 // may not be changed
	SF_APPEND    = 0x00040000 // writes may only append
)

// Values of tv_nsec with a meaning of their own in utimensat(2).
const (
	UTIME_NOW  = 1<<30 - 1 // the current time
	UTIME_OMIT = 1<<30 - 2 // leave as it is
)

// Flags of fsync_range(2); neither of the first two is EINVAL.
const (
	FDATASYNC = 0x0010 // data and what is needed to read it back
	FFILESYNC = 0x0020 // data and all attributes
	FDISKSYNC = 0x0040 // flush the device's own cache as well
)

// Advice of posix_fadvise(2).
const (
	POSIX_FADV_NORMAL     = 0
	POSIX_FADV_RANDOM     = 1
	POSIX_FADV_SEQUENTIAL = 2
	POSIX_FADV_WILLNEED   = 3
	POSIX_FADV_DONTNEED   = 4
	POSIX_FADV_NOREUSE    = 5
)

// Flags of renameat2, which NetBSD lacks; the numbers are Linux's.
const (
	RENAME_NOREPLACE = 1 // EEXIST if the target exists
	RENAME_EXCHANGE  = 2 // swap the two names
)

// Flags of setxattr(2), and name spaces of the extattr calls.
const (
	XATTR_CREATE  = 1 // EEXIST if the attribute exists
	XATTR_REPLACE = 2 // ENOATTR if it does not

	EXTATTR_NAMESPACE_USER   = 1
	EXTATTR_NAMESPACE_SYSTEM = 2
)

// Flags of mount(2), sys/fstypes.h; statvfs(2) answers those in
// MNT_VISFLAGMASK as f_flag.
const (
	MNT_RDONLY      = 0x00000001 // read only
	MNT_SYNCHRONOUS = 0x00000002 // all writes synchronous
	MNT_NOEXEC      = 0x00000004 // nothing can be executed
	MNT_NOSUID      = 0x00000008 // set-id bits have no effect
	MNT_NODEV       = 0x00000010 // device nodes cannot be opened
	MNT_UNION       = 0x00000020 // shows what is below as well
	MNT_ASYNC       = 0x00000040 // no write synchronous
	MNT_NOCOREDUMP  = 0x00008000 // no core files
	MNT_RELATIME    = 0x00020000 // access time only if older than a change
	MNT_IGNORE      = 0x00100000 // not shown by df
	MNT_DISCARD     = 0x00800000 // tell the device of freed blocks
	MNT_EXTATTR     = 0x01000000 // extended attributes
	MNT_LOG         = 0x02000000 // metadata journal
	MNT_NOATIME     = 0x04000000 // access time is never updated
	MNT_AUTOMOUNTED = 0x10000000 // by the automounter
	MNT_SYMPERM     = 0x20000000 // symbolic links have permissions
	MNT_NODEVMTIME  = 0x40000000 // no times for device nodes
	MNT_SOFTDEP     = 0x80000000 // soft dependencies

	MNT_LOCAL  = 0x00001000 // storage is local
	MNT_QUOTA  = 0x00002000 // quotas are on
	MNT_ROOTFS = 0x00004000 // the root file system

	MNT_EXRDONLY    = 0x00000080 // exported read only
	MNT_EXPORTED    = 0x00000100 // exported
	MNT_DEFEXPORTED = 0x00000200 // exported to everybody
	MNT_EXPORTANON  = 0x00000400 // exported with anonymous ids
	MNT_EXKERB      = 0x00000800 // exported with Kerberos ids
	MNT_EXNORESPORT = 0x08000000 // exported to any port

	MNT_UPDATE  = 0x00010000 // change an existing mount
	MNT_RELOAD  = 0x00040000 // read metadata anew
	MNT_FORCE   = 0x00080000 // unmount, or make read only, even if busy
	MNT_GETARGS = 0x00400000 // read the arguments back

	// MNT_OP_FLAGS choose what mount(2) does; they are no property of a mount.
	MNT_OP_FLAGS = MNT_UPDATE | MNT_RELOAD | MNT_FORCE | MNT_GETARGS

	// MNT_BASIC_FLAGS are the properties that mount(2) sets.
	MNT_BASIC_FLAGS = MNT_RDONLY | MNT_SYNCHRONOUS | MNT_NOEXEC | MNT_NOSUID | MNT_NODEV | MNT_UNION |
		MNT_ASYNC | MNT_NOCOREDUMP | MNT_RELATIME | MNT_DISCARD | MNT_EXTATTR | MNT_LOG | MNT_NOATIME |
		MNT_AUTOMOUNTED | MNT_SYMPERM | MNT_NODEVMTIME | MNT_SOFTDEP

	// MNT_VISFLAGMASK are the flags that statvfs(2) shows. NetBSD hides
	// MNT_RELATIME there; here it is seen like every other property.
	MNT_VISFLAGMASK = MNT_BASIC_FLAGS | MNT_IGNORE | MNT_LOCAL | MNT_QUOTA | MNT_ROOTFS | MNT_EXRDONLY |
		MNT_EXPORTED | MNT_DEFEXPORTED | MNT_EXPORTANON | MNT_EXKERB | MNT_EXNORESPORT
)

// How far sync and getvfsstat wait for the file systems.
const (
	MNT_WAIT   = 1 // until everything is written
	MNT_NOWAIT = 2 // start writing, or take what is known
	MNT_LAZY   = 3 // what the syncer has not written
)

// Flags of reboot(2).
const (
	RB_AUTOBOOT  = 0          // start again
	RB_ASKNAME   = 0x00000001 // ask for the kernel
	RB_SINGLE    = 0x00000002 // single user
	RB_NOSYNC    = 0x00000004 // without sync
	RB_HALT      = 0x00000008 // stop and stay stopped
	RB_INITNAME  = 0x00000010 // unused
	RB_KDB       = 0x00000040 // debugger
	RB_RDONLY    = 0x00000080 // root read only
	RB_DUMP      = 0x00000100 // dump the kernel's memory first
	RB_MINIROOT  = 0x00000200 // root in memory
	RB_STRING    = 0x00000400 // with a boot string
	RB_POWERDOWN = RB_HALT | 0x800
	RB_USERCONF  = 0x00001000 // edit the configuration
)

// Flags of the boot (boothowto) beside RB_*: how much the kernel says.
const (
	AB_NORMAL  = 0
	AB_QUIET   = 0x00010000
	AB_VERBOSE = 0x00020000
	AB_SILENT  = 0x00040000
	AB_DEBUG   = 0x00080000
)

// Limits of this kernel. A name in a directory has at most NAME_MAX bytes
// (NetBSD's KERNEL_NAME_MAX), a path PATH_MAX with its closing NUL.
const (
	PATH_MAX    = 1024 // bytes of a path with NUL, else ENAMETOOLONG
	NAME_MAX    = 255  // bytes of one name, else ENAMETOOLONG
	SYMLOOP_MAX = 32   // symbolic links in one lookup, else ELOOP
	MAXSYMLINKS = SYMLOOP_MAX
	IOV_MAX     = 1024       // pieces of one readv, else EINVAL
	LINK_MAX    = 32767      // hard links, else EMLINK
	PIPE_BUF    = 512        // bytes that a pipe writes as one
	ARG_MAX     = 256 * 1024 // bytes of arguments and environment
	MAXLOGNAME  = 16         // bytes of a login name with NUL
	MFSNAMELEN  = 32         // bytes of a file system type with NUL
)

// Names of getrlimit(2) and the value that means no limit.
const (
	RLIMIT_CPU     = 0  // seconds
	RLIMIT_FSIZE   = 1  // bytes
	RLIMIT_DATA    = 2  // bytes
	RLIMIT_STACK   = 3  // bytes
	RLIMIT_CORE    = 4  // bytes
	RLIMIT_RSS     = 5  // bytes
	RLIMIT_MEMLOCK = 6  // bytes
	RLIMIT_NPROC   = 7  // processes of the user
	RLIMIT_NOFILE  = 8  // open files
	RLIMIT_SBSIZE  = 9  // bytes of socket buffers
	RLIMIT_AS      = 10 // bytes of address space
	RLIMIT_NTHR    = 11 // threads of the user
	RLIM_NLIMITS   = 12

	RLIM_INFINITY = 1<<63 - 1
)

// Names of pathconf(2).
const (
	PC_LINK_MAX         = 1
	PC_MAX_CANON        = 2
	PC_MAX_INPUT        = 3
	PC_NAME_MAX         = 4
	PC_PATH_MAX         = 5
	PC_PIPE_BUF         = 6
	PC_CHOWN_RESTRICTED = 7
	PC_NO_TRUNC         = 8
	PC_VDISABLE         = 9
	PC_SYNC_IO          = 10
	PC_FILESIZEBITS     = 11
	PC_SYMLINK_MAX      = 12
	PC_2_SYMLINKS       = 13
	PC_ACL_EXTENDED     = 14
)
