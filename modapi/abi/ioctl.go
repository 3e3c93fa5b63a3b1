package abi

// An ioctl(2) command says in its number how much data it moves and which way
// (sys/ioccom.h): direction in the top three bits, length in bits 16..28, a
// group letter in bits 8..15 and a number in bits 0..7. In and out are seen
// from the kernel's side: IOC_IN is data that the kernel reads.
const (
	IOC_VOID    = 0x20000000 // no data
	IOC_OUT     = 0x40000000 // the kernel writes
	IOC_IN      = 0x80000000 // the kernel reads
	IOC_INOUT   = IOC_IN | IOC_OUT
	IOC_DIRMASK = 0xe0000000

	IOCPARM_MASK = 0x1fff // the largest length, bytes
	IOCPARM_MAX  = 4096   // the largest length that is accepted, bytes
)

// IOC builds a command from direction, group, number and length in bytes. A
// length beyond IOCPARM_MASK is cut.
func IOC(dir uint32, group byte, num uint8, length int) uint32 {
	return dir | uint32(length)&IOCPARM_MASK<<16 | uint32(group)<<8 | uint32(num)
}

// IO is a command without data (_IO).
func IO(group byte, num uint8) uint32 { return IOC(IOC_VOID, group, num, 0) }

// IOR is a command with which the caller reads length bytes (_IOR).
func IOR(group byte, num uint8, length int) uint32 { return IOC(IOC_OUT, group, num, length) }

// IOW is a command with which the caller writes length bytes (_IOW).
func IOW(group byte, num uint8, length int) uint32 { return IOC(IOC_IN, group, num, length) }

// IOWR is a command that writes and reads length bytes (_IOWR).
func IOWR(group byte, num uint8, length int) uint32 { return IOC(IOC_INOUT, group, num, length) }

// IOCParmLen is the length in a command, in bytes.
func IOCParmLen(cmd uint32) int { return int(cmd >> 16 & IOCPARM_MASK) }

// IOCGroup is the group letter of a command.
func IOCGroup(cmd uint32) byte { return byte(cmd >> 8) }

// IOCDir is the direction of a command: IOC_VOID, IOC_IN, IOC_OUT, IOC_INOUT.
func IOCDir(cmd uint32) uint32 { return cmd & IOC_DIRMASK }

// Commands of every descriptor (sys/filio.h).
const (
	FIOCLEX   = 0x20006601 // close on exec
	FIONCLEX  = 0x20006602 // do not close on exec
	FIONREAD  = 0x4004667f // int: bytes that can be read
	FIONWRITE = 0x40046679 // int: bytes not yet sent
	FIONSPACE = 0x40046678 // int: bytes that can be written
	FIONBIO   = 0x8004667e // int: never wait
	FIOASYNC  = 0x8004667d // int: signal when ready
	FIOSETOWN = 0x8004667c // int: who gets the signal
	FIOGETOWN = 0x4004667b // int: who gets the signal
)

// Commands of terminals (sys/ttycom.h).
const (
	TIOCGETA   = 0x402c7413 // struct termios
	TIOCSETA   = 0x802c7414 // struct termios, now
	TIOCSETAW  = 0x802c7415 // struct termios, after output is drained
	TIOCSETAF  = 0x802c7416 // as TIOCSETAW, and input is dropped
	TIOCGWINSZ = 0x40087468 // struct winsize
	TIOCSWINSZ = 0x80087467 // struct winsize
	TIOCGPGRP  = 0x40047477 // int: foreground process group
	TIOCSPGRP  = 0x80047476 // int: foreground process group
	TIOCOUTQ   = 0x40047473 // int: bytes waiting to go out
	TIOCSCTTY  = 0x20007461 // become the controlling terminal
	TIOCNOTTY  = 0x20007471 // give up the controlling terminal
	TIOCGSID   = 0x40047463 // int: session
)

// TermiosSize and WinsizeSize are the lengths of struct termios and struct
// winsize, in bytes.
const (
	TermiosSize = 44
	WinsizeSize = 8
)

// Command of sockets (sys/sockio.h).
const SIOCATMARK = 0x40047307 // int: at the urgent data

// Commands of disks (sys/dkio.h).
const (
	DIOCGCACHE      = 0x40046474 // int: DKCACHE_*
	DIOCCACHESYNC   = 0x80046476 // int: force; write the device's own cache out
	DIOCGWEDGEINFO  = 0x40d0647a // struct dkwedge_info
	DIOCGMEDIASIZE  = 0x40086484 // int64: bytes
	DIOCGSECTORSIZE = 0x40046485 // uint32: bytes
)

// Bits of DIOCGCACHE.
const (
	DKCACHE_READ  = 0x000001 // the read cache is on
	DKCACHE_WRITE = 0x000002 // the write cache is on
	DKCACHE_FUA   = 0x020000 // a write can be durable by itself
)

// DkwedgeInfoSize is the length of struct dkwedge_info, in bytes: name of 16,
// label of 128 and parent of 16, int64 offset and uint64 size in sectors, type
// of 32.
const DkwedgeInfoSize = 208
