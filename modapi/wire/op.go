package wire

import (
	"fmt"
	"time"
)

// Op is an operation: family<<8 | number. Numbers are appended, never changed.
type Op uint16

// Families of operations, the high byte of an Op.
const (
	FamLife  = 0x01
	FamVFS   = 0x02
	FamSock  = 0x03
	FamDev   = 0x04
	FamSys   = 0x05 // sysctl, kauth, system calls
	FamUp    = 0x81 // from the component to the kernel
	famShift = 8
)

// Family is the high byte of o.
func (o Op) Family() int { return int(o >> famShift) }

// Operations on the module itself. Object is the module's index in the answer
// to OpInfo.
const (
	OpInfo       Op = FamLife<<famShift | iota + 1 // -> InfoRes in the payload; all modules of the process
	OpInit                                         // InitReq
	OpFini                                         //
	OpStat                                         // -> text in the payload; ENOTTY
	OpAutoUnload                                   // ENOTTY
	OpCancel                                       // one-way: Object is the ReqID whose sender has given up
)

// Operations on file systems. Object is the mount.
const (
	OpMount       Op = FamVFS<<famShift | iota + 1 // MountReq -> MountRes
	OpRoot                                         // -> Entry
	OpLookup                                       // LookupReq -> LookupRes, trace in the payload
	OpGetattr                                      // HandleReq -> Vattr
	OpReaddir                                      // ReaddirReq -> ReaddirRes, entries in the payload
	OpRead                                         // IOReq -> bytes in the payload
	OpStatvfs                                      // -> Statvfs
	OpUnmount                                      //
	OpCreate                                       // CreateReq -> Mutated
	OpMkdir                                        // CreateReq -> Mutated
	OpMknod                                        // MknodReq -> Mutated
	OpSymlink                                      // SymlinkReq -> Mutated
	OpLink                                         // LinkReq -> Mutated
	OpRemove                                       // RemoveReq -> Mutated
	OpRmdir                                        // RemoveReq -> Mutated
	OpRename                                       // RenameReq -> Mutated
	OpSetattr                                      // SetattrReq -> Vattr
	OpWrite                                        // WriteReq, bytes in the payload -> WriteRes
	OpTruncate                                     // TruncateReq -> Vattr
	OpReadlink                                     // HandleReq -> text in the payload
	OpGetxattr                                     // XattrReq -> value in the payload
	OpListxattr                                    // HandleReq -> names in the payload
	OpSetxattr                                     // SetxattrReq, value in the payload
	OpRemovexattr                                  // XattrReq
	OpFallocate                                    // FallocReq -> Vattr
	OpReadPages                                    // IOReq -> bytes in the payload
	OpWritePages                                   // WritePagesReq, bytes in the payload
	OpPin                                          // HandleReq
	OpUnpin                                        // HandleReq
	OpReclaim                                      // HandlesReq
	OpReserve                                      // NumReq -> NumRes
	OpSync                                         // SyncReq
	OpAccess                                       // AccessReq
	OpCheckpoint                                   // NumReq (the OpSeq)
	OpSeek                                         // SeekReq -> NumRes
)

// Operations on sockets. Object is the socket; for the interface and route
// operations it is 0.
const (
	OpSocket      Op = FamSock<<famShift | iota + 1 // SocketReq
	OpBind                                          // AddrMsg
	OpConnect                                       // AddrMsg
	OpListen                                        // NumReq
	OpAccept                                        // AcceptReq -> AddrMsg
	OpSend                                          // SendReq, bytes in the payload -> NumRes
	OpRecv                                          // RecvReq -> RecvRes, bytes in the payload
	OpShutdown                                      // NumReq
	OpSetopt                                        // OptReq, value in the payload
	OpGetopt                                        // OptReq -> value in the payload
	OpName                                          // NumReq (1: peer) -> AddrMsg
	OpSockClose                                     //
	OpSockPoll                                      // -> NumRes
	OpSetRoutes                                     // NumReq (family), RoutesMsg in the payload
	OpIfCreate                                      // IfConfig
	OpIfConfigure                                   // IfConfig
	OpIfDestroy                                     // IfName
	OpIfStats                                       // IfName -> IfStats
)

// Operations on devices. Object is the device (abi.Dev).
const (
	OpDevOpen  Op = FamDev<<famShift | iota + 1 // DevReq
	OpDevClose                                  // DevReq
	OpDevRead                                   // DevReq -> bytes in the payload
	OpDevWrite                                  // DevReq, bytes in the payload -> NumRes
	OpDevIoctl                                  // NumReq (command), argument in the payload -> argument in the payload
	OpDevPoll                                   // -> NumRes

	// Of block device drivers.
	OpBlkGeometry // -> GeomMsg
	OpBlkOpen     // DevReq
	OpBlkClose    // DevReq
	OpBlkRead     // BufReq -> bytes in the payload
	OpBlkWrite    // BufReq, bytes in the payload
	OpBlkControl  // BufReq: flush, discard, zeroes
	OpBlkIoctl    // NumReq (command), argument in the payload -> argument in the payload
)

// Sysctl nodes and system calls of modules, and the calls of a client.
const (
	OpSysctlGet  Op = FamSys<<famShift | iota + 1 // Object: node -> text in the payload
	OpSysctlSet                                   // Object: node, text in the payload
	OpModSyscall                                  // Object: number, ModSyscallReq, bytes in the payload -> NumRes, bytes in the payload
	OpHello                                       // a client: HelloReq -> HelloRes
	OpSyscall                                     // a client: SyscallReq, In in the payload -> SyscallRes, Out in the payload
	OpSignal                                      // one-way, to a client: SignalMsg
)

// Upcalls. Object is the module's index unless the comment says otherwise.
const (
	OpAttachFS      Op = FamUp<<famShift | iota + 1 // AttachFSReq
	OpAttachChr                                     // AttachChrReq -> NumRes (the device)
	OpAttachDomain                                  // AttachDomainReq
	OpAttachIf                                      // IfName (the class)
	OpSysctl                                        // SysctlReq
	OpAddSyscall                                    // NumReq
	OpEvcnt                                         // one-way: EvcntMsg in the payload
	OpReady                                         // one-way: ReadyMsg in the payload; Object 0
	OpDevReady                                      // one-way: DevReadyMsg in the payload; Object 0
	OpLog                                           // one-way: LogMsg in the payload
	OpAttachBlk                                     // AttachBlkReq, NodesMsg in the payload -> NumRes (the device)
	OpBlkChanged                                    // NumReq (the device), NodesMsg in the payload
	OpBlockOpen                                     // BlockOpenReq -> NumRes (the handle)
	OpBlockGeometry                                 // Object: handle -> GeomMsg
	OpBlockRead                                     // Object: handle, BufReq -> bytes in the payload
	OpBlockWrite                                    // Object: handle, BufReq, bytes in the payload
	OpBlockControl                                  // Object: handle, BufReq
	OpBlockClose                                    // Object: handle
	OpTick                                          // one-way: a handler gets on with its work; Object 0
	OpStoreGet                                      // Object: mount, StoreKey -> value in the payload; EMSGSIZE: it is longer than ReplyLen
	OpStoreScan                                     // Object: mount, StoreScanReq -> StoreRecs in the payload
	OpStoreWrite                                    // Object: mount, StoreBatch in the payload
)

// Class says how long an operation may take.
type Class uint8

// The classes.
const (
	ClassSpin  Class = iota // under 10 us: memory only
	ClassCPU                // no waiting, but some work
	ClassBlock              // may wait for a disk
	ClassAdmin              // rare: load, mount, configure
)

// Deadline is how long an operation of class c may go without progress.
func (c Class) Deadline() time.Duration {
	if c <= ClassCPU {
		return 5 * time.Second
	}
	return 30 * time.Second
}

type opInfo struct {
	op    Op
	name  string
	class Class
	keep  bool // never answered early
}

// ops is the one table of operations.
var ops = [...]opInfo{
	{OpInfo, "info", ClassAdmin, false},
	{OpInit, "init", ClassAdmin, true},
	{OpFini, "fini", ClassAdmin, true},
	{OpStat, "stat", ClassAdmin, false},
	{OpAutoUnload, "autounload", ClassAdmin, false},
	{OpCancel, "cancel", ClassSpin, false},

	{OpMount, "mount", ClassAdmin, true},
	{OpRoot, "root", ClassSpin, false},
	{OpLookup, "lookup", ClassBlock, false},
	{OpGetattr, "getattr", ClassBlock, false},
	{OpReaddir, "readdir", ClassBlock, false},
	{OpRead, "read", ClassBlock, false},
	{OpStatvfs, "statvfs", ClassBlock, false},
	{OpUnmount, "unmount", ClassAdmin, true},
	{OpCreate, "create", ClassBlock, true},
	{OpMkdir, "mkdir", ClassBlock, true},
	{OpMknod, "mknod", ClassBlock, true},
	{OpSymlink, "symlink", ClassBlock, true},
	{OpLink, "link", ClassBlock, true},
	{OpRemove, "remove", ClassBlock, true},
	{OpRmdir, "rmdir", ClassBlock, true},
	{OpRename, "rename", ClassBlock, true},
	{OpSetattr, "setattr", ClassBlock, true},
	{OpWrite, "write", ClassBlock, true},
	{OpTruncate, "truncate", ClassBlock, true},
	{OpReadlink, "readlink", ClassBlock, false},
	{OpGetxattr, "getxattr", ClassBlock, false},
	{OpListxattr, "listxattr", ClassBlock, false},
	{OpSetxattr, "setxattr", ClassBlock, true},
	{OpRemovexattr, "removexattr", ClassBlock, true},
	{OpFallocate, "fallocate", ClassBlock, true},
	{OpReadPages, "readpages", ClassBlock, false},
	{OpWritePages, "writepages", ClassBlock, true},
	{OpPin, "pin", ClassSpin, true},
	{OpUnpin, "unpin", ClassBlock, true},
	{OpReclaim, "reclaim", ClassCPU, true},
	{OpReserve, "reserve", ClassSpin, true},
	{OpSync, "sync", ClassBlock, false},
	{OpAccess, "access", ClassBlock, false},
	{OpCheckpoint, "checkpoint", ClassBlock, true},
	{OpSeek, "seek", ClassBlock, false},

	{OpSocket, "socket", ClassCPU, true},
	{OpBind, "bind", ClassCPU, true},
	{OpConnect, "connect", ClassCPU, true},
	{OpListen, "listen", ClassCPU, true},
	{OpAccept, "accept", ClassCPU, true},
	{OpSend, "send", ClassCPU, true},
	{OpRecv, "recv", ClassCPU, true},
	{OpShutdown, "shutdown", ClassCPU, true},
	{OpSetopt, "setopt", ClassCPU, true},
	{OpGetopt, "getopt", ClassCPU, true}, // reading SO_ERROR clears it
	{OpName, "name", ClassSpin, false},
	{OpSockClose, "close", ClassCPU, true},
	{OpSockPoll, "poll", ClassSpin, false},
	{OpSetRoutes, "setroutes", ClassAdmin, true},
	{OpIfCreate, "ifcreate", ClassAdmin, true},
	{OpIfConfigure, "ifconfigure", ClassAdmin, true},
	{OpIfDestroy, "ifdestroy", ClassAdmin, true},
	{OpIfStats, "ifstats", ClassCPU, false},

	{OpDevOpen, "dev-open", ClassBlock, true},
	{OpDevClose, "dev-close", ClassBlock, true},
	{OpDevRead, "dev-read", ClassCPU, true},
	{OpDevWrite, "dev-write", ClassCPU, true},
	{OpDevIoctl, "dev-ioctl", ClassBlock, true},
	{OpDevPoll, "dev-poll", ClassSpin, false},
	{OpBlkGeometry, "blk-geometry", ClassBlock, false},
	{OpBlkOpen, "blk-open", ClassBlock, true},
	{OpBlkClose, "blk-close", ClassBlock, true},
	{OpBlkRead, "blk-read", ClassBlock, false},
	{OpBlkWrite, "blk-write", ClassBlock, true},
	{OpBlkControl, "blk-control", ClassBlock, true},
	{OpBlkIoctl, "blk-ioctl", ClassBlock, true},

	{OpSysctlGet, "sysctl-get", ClassCPU, false},
	{OpSysctlSet, "sysctl-set", ClassCPU, true},
	{OpModSyscall, "module-syscall", ClassBlock, true},
	{OpHello, "hello", ClassAdmin, false},
	{OpSyscall, "syscall", ClassBlock, false},
	{OpSignal, "signal", ClassSpin, false},

	{OpAttachFS, "attach-fs", ClassAdmin, true},
	{OpAttachChr, "attach-chr", ClassAdmin, true},
	{OpAttachDomain, "attach-domain", ClassAdmin, true},
	{OpAttachIf, "attach-if", ClassAdmin, true},
	{OpSysctl, "sysctl", ClassAdmin, true},
	{OpAddSyscall, "add-syscall", ClassAdmin, true},
	{OpEvcnt, "evcnt", ClassSpin, false},
	{OpReady, "ready", ClassSpin, false},
	{OpDevReady, "dev-ready", ClassSpin, false},
	{OpLog, "log", ClassSpin, false},
	{OpAttachBlk, "attach-blk", ClassAdmin, true},
	{OpBlkChanged, "blk-changed", ClassAdmin, true},
	{OpBlockOpen, "block-open", ClassAdmin, true},
	{OpBlockGeometry, "block-geometry", ClassBlock, false},
	{OpBlockRead, "block-read", ClassBlock, false},
	{OpBlockWrite, "block-write", ClassBlock, true},
	{OpBlockControl, "block-control", ClassBlock, true},
	{OpBlockClose, "block-close", ClassBlock, true},
	{OpTick, "tick", ClassSpin, false},
	{OpStoreGet, "store-get", ClassSpin, false},
	{OpStoreScan, "store-scan", ClassCPU, false},
	{OpStoreWrite, "store-write", ClassCPU, true},
}

// opIndex finds an op in the table: by family (upcalls last) and number.
var opIndex [6][64]uint8

func init() {
	for i := range ops {
		f, n := famSlot(ops[i].op)
		opIndex[f][n] = uint8(i + 1)
	}
}

func famSlot(o Op) (fam, n int) {
	fam, n = o.Family(), int(o&0xff)
	if fam == FamUp {
		fam = 0
	}
	return fam, n
}

func (o Op) info() *opInfo {
	f, n := famSlot(o)
	if f >= len(opIndex) || n >= len(opIndex[0]) || o.Family() == 0 {
		return nil
	}
	if i := opIndex[f][n]; i != 0 {
		return &ops[i-1]
	}
	return nil
}

// Known reports whether o is in the table.
func (o Op) Known() bool { return o.info() != nil }

// Class is the class of o; ClassAdmin for an unknown op.
func (o Op) Class() Class {
	if i := o.info(); i != nil {
		return i.class
	}
	return ClassAdmin
}

// Keeps reports whether o is never answered early once it has been sent.
func (o Op) Keeps() bool {
	i := o.info()
	return i != nil && i.keep
}

// Oneway reports whether o has no reply.
func (o Op) Oneway() bool {
	switch o {
	case OpCancel, OpEvcnt, OpReady, OpDevReady, OpLog, OpSignal, OpTick:
		return true
	}
	return false
}

func (o Op) String() string {
	if i := o.info(); i != nil {
		return i.name
	}
	return fmt.Sprintf("op %#04x", uint16(o))
}

// Ops lists the table of operations in the order of their numbers by family.
func Ops() []Op {
	r := make([]Op, len(ops))
	for i := range ops {
		r[i] = ops[i].op
	}
	return r
}
