// Package nbd is the NBD protocol: numbers, and the coding of what the two
// sides say. It does no I/O.
//
// It stands in modapi because both sides of it are ours: the export
// (host/export/nbd) serves devices of the kernel, and a driver
// (plugins/dev/nbd) makes a device of somebody else's export; host and plugins
// share nothing but modapi. Facts are from the protocol's own document,
// doc/proto.md of github.com/NetworkBlockDevice/nbd, which is in the public
// domain; names here are its names in Go's case.
//
// The words. An export is a range of bytes with a name. In the handshake the
// client sends options and the server answers each with replies, the last of
// which is Ack or an error ("fixed newstyle"); Go or ExportName ends it. In the
// transmission the client sends requests, each with a cookie, and the server
// answers each, in any order, with a simple reply or, if that was negotiated,
// with structured chunks, the last of which is marked as done.
//
//	S: Greeting                        C: ClientFlags
//	C: Option{StructuredReply}         S: Reply{Ack}
//	C: Option{SetMetaContext, ...}     S: Reply{MetaContext} Reply{Ack}
//	C: Option{Go, GoRequest}           S: Reply{Info, InfoExport}... Reply{Ack}
//	C: Request{CmdRead}                S: Chunk{OffsetData} data
//
// All numbers are big-endian. What comes from the other side is checked here as
// far as it can be without context: decoders answer an error that wraps
// ErrProtocol, never panic, and never allocate by a length that was not seen.
package nbd

import (
	"errors"
	"fmt"
)

// ErrProtocol is wrapped by every error about bytes that the protocol does not
// allow. Whoever gets one ends the connection.
var ErrProtocol = errors.New("NBD protocol violated")

func bad(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), ErrProtocol)
}

// The magic numbers.
const (
	MagicNBD        uint64 = 0x4e42444d41474943 // "NBDMAGIC", the greeting
	MagicOption     uint64 = 0x49484156454F5054 // "IHAVEOPT", greeting and options
	MagicReply      uint64 = 0x0003e889045565a9 // replies to options
	MagicRequest    uint32 = 0x25609513
	MagicSimple     uint32 = 0x67446698 // simple reply
	MagicStructured uint32 = 0x668e33ef // chunk of a structured reply
)

// Sizes of the fixed parts, in bytes.
const (
	GreetingSize = 18
	OptionSize   = 16
	ReplySize    = 20
	RequestSize  = 28
	SimpleSize   = 16
	ChunkSize    = 20
)

// Limits.
const (
	MaxString  = 4096    // bytes of a name or an error text
	MaxOption  = 1 << 16 // bytes of option data that we take: far above any real client's
	MaxPayload = 1 << 25 // bytes of a read or write that everybody takes (32 MiB)
	MaxQueries = 64      // metadata queries that we take in one option
)

// Handshake flags of the server; client flags have the same bits.
const (
	FlagFixedNewstyle uint16 = 1 << 0
	FlagNoZeroes      uint16 = 1 << 1
)

// TxFlags are the transmission flags: what an export can do.
type TxFlags uint16

// The transmission flags.
const (
	HasFlags        TxFlags = 1 << 0
	ReadOnly        TxFlags = 1 << 1
	SendFlush       TxFlags = 1 << 2
	SendFUA         TxFlags = 1 << 3
	Rotational      TxFlags = 1 << 4
	SendTrim        TxFlags = 1 << 5
	SendWriteZeroes TxFlags = 1 << 6
	SendDF          TxFlags = 1 << 7
	CanMultiConn    TxFlags = 1 << 8
	SendCache       TxFlags = 1 << 10
	SendFastZero    TxFlags = 1 << 11
)

// Opt is the number of an option.
type Opt uint32

// The options.
const (
	OptExportName      Opt = 1
	OptAbort           Opt = 2
	OptList            Opt = 3
	OptStartTLS        Opt = 5
	OptInfo            Opt = 6
	OptGo              Opt = 7
	OptStructuredReply Opt = 8
	OptListMetaContext Opt = 9
	OptSetMetaContext  Opt = 10
	OptExtendedHeaders Opt = 11
)

// Rep is the type of a reply to an option. Errors have the highest bit set.
type Rep uint32

// The replies.
const (
	RepAck         Rep = 1
	RepServer      Rep = 2
	RepInfo        Rep = 3
	RepMetaContext Rep = 4

	RepErrUnsup         Rep = 1<<31 + 1
	RepErrPolicy        Rep = 1<<31 + 2
	RepErrInvalid       Rep = 1<<31 + 3
	RepErrPlatform      Rep = 1<<31 + 4
	RepErrTLSReqd       Rep = 1<<31 + 5
	RepErrUnknown       Rep = 1<<31 + 6
	RepErrShutdown      Rep = 1<<31 + 7
	RepErrBlockSizeReqd Rep = 1<<31 + 8
	RepErrTooBig        Rep = 1<<31 + 9
)

// IsErr reports whether r is an error.
func (r Rep) IsErr() bool { return r>>31 != 0 }

func (r Rep) String() string {
	switch r {
	case RepErrUnsup:
		return "option not supported"
	case RepErrPolicy:
		return "forbidden by the server's policy"
	case RepErrInvalid:
		return "invalid option"
	case RepErrPlatform:
		return "not supported on the server's platform"
	case RepErrTLSReqd:
		return "the server wants TLS"
	case RepErrUnknown:
		return "no such export"
	case RepErrShutdown:
		return "the server is shutting down"
	case RepErrBlockSizeReqd:
		return "the server insists on its block size"
	case RepErrTooBig:
		return "too big"
	}
	return fmt.Sprintf("reply %#x", uint32(r))
}

// Info is the type of an information about an export.
type Info uint16

// The informations.
const (
	InfoExport      Info = 0
	InfoName        Info = 1
	InfoDescription Info = 2
	InfoBlockSize   Info = 3
)

// Cmd is the type of a request.
type Cmd uint16

// The requests.
const (
	CmdRead        Cmd = 0
	CmdWrite       Cmd = 1
	CmdDisc        Cmd = 2
	CmdFlush       Cmd = 3
	CmdTrim        Cmd = 4
	CmdCache       Cmd = 5
	CmdWriteZeroes Cmd = 6
	CmdBlockStatus Cmd = 7
)

// CmdFlags are flags of a request.
type CmdFlags uint16

// The request flags.
const (
	FlagFUA      CmdFlags = 1 << 0
	FlagNoHole   CmdFlags = 1 << 1 // WriteZeroes: stays allocated
	FlagDF       CmdFlags = 1 << 2 // Read: one piece
	FlagReqOne   CmdFlags = 1 << 3 // BlockStatus: one extent
	FlagFastZero CmdFlags = 1 << 4 // WriteZeroes: fast or ENOTSUP
)

// ChunkType is the type of a chunk of a structured reply. Errors have bit 15
// set.
type ChunkType uint16

// The chunks.
const (
	ChunkNone        ChunkType = 0
	ChunkOffsetData  ChunkType = 1
	ChunkOffsetHole  ChunkType = 2
	ChunkBlockStatus ChunkType = 5
	ChunkError       ChunkType = 1<<15 + 1
	ChunkErrorOffset ChunkType = 1<<15 + 2
)

// IsErr reports whether t is an error chunk, known or not.
func (t ChunkType) IsErr() bool { return t>>15 != 0 }

// ChunkDone is the flag of the last chunk of a reply.
const ChunkDone uint16 = 1 << 0

// The metadata context that there is, and its flags.
const (
	BaseAllocation = "base:allocation"

	StateHole uint32 = 1 << 0
	StateZero uint32 = 1 << 1
)
