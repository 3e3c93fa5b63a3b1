package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Limits of a frame, in bytes.
const (
	HeaderSize = 64
	MaxArgs    = 8 << 10
	MaxPayload = 1 << 20
)

// Magic is the first word of a frame on a stream: "RMP1".
const Magic = uint32('R') | uint32('M')<<8 | uint32('P')<<16 | uint32('1')<<24

// Flags of a frame.
type Flags uint16

// The flags.
const (
	FlagReply   Flags = 1 << iota // answers the request ReqID
	FlagMutator                   // never answered early
	FlagOneway                    // has no reply; ReqID is 0

	flagsKnown = FlagReply | FlagMutator | FlagOneway
)

// Header is the 64-byte head of a frame. Fields that do not apply are 0.
type Header struct {
	Op         Op
	Flags      Flags
	ReqID      abi.ReqID
	Epoch      abi.Epoch
	Errno      int32 // replies
	OpSeq      abi.OpSeq
	Object     uint64 // mount, socket, device, node, or module index
	ArgsOff    uint32 // rings only
	ArgsLen    uint32
	PayloadOff uint32 // rings only
	PayloadLen uint32
	ReplyLen   uint32 // requests: most bytes of payload in the reply
	Cred       uint16 // 0: the credentials are in the arguments
	Class      Class
	Rank       uint8
}

// Put codes h into the first HeaderSize bytes of b, with Magic in front.
func (h *Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], Magic)
	le.PutUint16(b[4:], uint16(h.Op))
	le.PutUint16(b[6:], uint16(h.Flags))
	le.PutUint64(b[8:], uint64(h.ReqID))
	le.PutUint32(b[16:], uint32(h.Epoch))
	le.PutUint32(b[20:], uint32(h.Errno))
	le.PutUint64(b[24:], uint64(h.OpSeq))
	le.PutUint64(b[32:], h.Object)
	le.PutUint32(b[40:], h.ArgsOff)
	le.PutUint32(b[44:], h.ArgsLen)
	le.PutUint32(b[48:], h.PayloadOff)
	le.PutUint32(b[52:], h.PayloadLen)
	le.PutUint32(b[56:], h.ReplyLen)
	le.PutUint16(b[60:], h.Cred)
	b[62] = uint8(h.Class)
	b[63] = h.Rank
}

// Parse decodes the header of a stream frame and checks what can be checked
// without knowing the request: magic, flags, class, limits of the lengths, and
// that a reply to nobody and a request with an error do not exist. The error
// wraps ErrMalformed.
func (h *Header) Parse(b []byte) error {
	if len(b) < HeaderSize {
		return fmt.Errorf("frame of %d bytes: %w", len(b), ErrMalformed)
	}
	le := binary.LittleEndian
	if m := le.Uint32(b); m != Magic {
		return fmt.Errorf("frame begins with %#x: %w", m, ErrMalformed)
	}
	*h = Header{
		Op:         Op(le.Uint16(b[4:])),
		Flags:      Flags(le.Uint16(b[6:])),
		ReqID:      abi.ReqID(le.Uint64(b[8:])),
		Epoch:      abi.Epoch(le.Uint32(b[16:])),
		Errno:      int32(le.Uint32(b[20:])),
		OpSeq:      abi.OpSeq(le.Uint64(b[24:])),
		Object:     le.Uint64(b[32:]),
		ArgsOff:    le.Uint32(b[40:]),
		ArgsLen:    le.Uint32(b[44:]),
		PayloadOff: le.Uint32(b[48:]),
		PayloadLen: le.Uint32(b[52:]),
		ReplyLen:   le.Uint32(b[56:]),
		Cred:       le.Uint16(b[60:]),
		Class:      Class(b[62]),
		Rank:       b[63],
	}
	bad := ""
	switch {
	case h.Flags&^flagsKnown != 0:
		bad = "unknown flags"
	case h.ArgsLen > MaxArgs:
		bad = "too many arguments"
	case h.PayloadLen > MaxPayload:
		bad = "payload too large"
	case h.ReplyLen > MaxPayload:
		bad = "reply length too large"
	case h.ArgsOff|h.PayloadOff != 0:
		bad = "offsets on a stream"
	case h.Class > ClassAdmin:
		bad = "unknown class"
	case h.Flags&FlagOneway != 0 && (h.ReqID != 0 || h.Flags&FlagReply != 0):
		bad = "one-way frame with a request id"
	case h.Flags&FlagOneway == 0 && h.ReqID == 0:
		bad = "no request id"
	case h.Flags&FlagReply == 0 && h.Errno != 0:
		bad = "request with an error number"
	case h.Flags&FlagReply != 0 && (h.Errno < 0 || h.Errno > 255):
		bad = "error number out of range"
	case h.Errno != 0 && h.PayloadLen != 0:
		bad = "error with a payload"
	default:
		return nil
	}
	return fmt.Errorf("%s: %s: %w", h.Op, bad, ErrMalformed)
}

// AppendFrame codes a whole frame; the lengths in h are set.
func AppendFrame(b []byte, h *Header, args, payload []byte) []byte {
	h.ArgsLen, h.PayloadLen = uint32(len(args)), uint32(len(payload))
	n := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	h.Put(b[n:])
	b = append(b, args...)
	return append(b, payload...)
}

// ParseFrame takes apart a whole frame. args and payload alias b.
func ParseFrame(b []byte) (h Header, args, payload []byte, err error) {
	if err = h.Parse(b); err != nil {
		return h, nil, nil, err
	}
	b = b[HeaderSize:]
	if uint64(len(b)) != uint64(h.ArgsLen)+uint64(h.PayloadLen) {
		return h, nil, nil, fmt.Errorf("%s: %d bytes behind the header, not %d and %d: %w",
			h.Op, len(b), h.ArgsLen, h.PayloadLen, ErrMalformed)
	}
	return h, b[:h.ArgsLen:h.ArgsLen], b[h.ArgsLen:], nil
}

// maxErrText bounds the text of an error reply, in bytes.
const maxErrText = 512

// ErrText makes the arguments of an error reply: a line of printable text.
func ErrText(b []byte, text string) []byte {
	for _, r := range text {
		if len(b) >= maxErrText-4 {
			break
		}
		if r < ' ' || r == 0x7f || r == 0xfffd {
			r = '?'
		}
		b = append(b, string(r)...)
	}
	return b
}

// ParseErrText is the text in the arguments of an error reply, made harmless
// for a terminal.
func ParseErrText(b []byte) string {
	if len(b) > maxErrText {
		b = b[:maxErrText]
	}
	return string(ErrText(nil, string(b)))
}
