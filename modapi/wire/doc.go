// Package wire is the one description of what travels between the kernel, a
// component and a remote client: the 64-byte frame header, the table of
// operations, and the coded form of every message of the interfaces in vfsops,
// sockops, devops and modapi.
//
// # The frame
//
// A frame is a Header, then ArgsLen bytes of arguments (at most MaxArgs), then
// PayloadLen bytes of payload (at most MaxPayload). Arguments are the coded
// message; the payload is bulk: file contents, and answers that may be large
// (lookup traces, directory entries, extended attributes, sysctl values).
// Everything is little-endian. On the stream the first word is Magic and the
// two offsets are 0.
//
// A request carries in ReplyLen how many bytes of payload its sender takes in
// the reply. A reply carries FlagReply, the request's op and ReqID, and Errno;
// if that is not 0 there is no payload, and the arguments may be a line of
// text that says more (ErrText).
//
// # The words
//
// An op is family<<8 | number; numbers are appended, never changed. Its class
// says how long it may take (Class.Deadline). An op that keeps (Op.Keeps) is
// never answered early: its effect cannot be taken back.
//
// # Messages
//
// Each message is a Go type with two methods: Append codes it at the end of a
// buffer and cannot fail; Parse decodes it and checks every length before it is
// used, so that no more is allocated than the input's own size justifies.
// Parsed byte slices alias the input, strings do not. Several messages are the
// request types of vfsops under another name and convert for free:
//
//	b = (*wire.LookupReq)(&req).Append(b[:0])
//
// One function per type describes its layout for both directions (code), so
// that coder and decoder cannot disagree. The golden bytes in testdata pin the
// layout of this major version.
package wire

import "errors"

// Major is the major version of the wire: the key of go-plugin's
// VersionedPlugins. It changes when an old peer would misread a message.
const Major = 1

// ErrMalformed is what decoders answer for bytes that are no such message.
var ErrMalformed = errors.New("malformed message")
