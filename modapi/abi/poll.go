package abi

import (
	"encoding/binary"
	"strings"
)

// PollEvents is a set of conditions of a descriptor, sys/poll.h.
type PollEvents int16

// The conditions. POLLERR, POLLHUP and POLLNVAL are only ever answered; asking
// for them changes nothing.
const (
	POLLIN     PollEvents = 0x0001 // something to read, end of file included
	POLLPRI    PollEvents = 0x0002 // urgent data
	POLLOUT    PollEvents = 0x0004 // a write would not wait
	POLLERR    PollEvents = 0x0008 // an error is pending
	POLLHUP    PollEvents = 0x0010 // the other end is gone
	POLLNVAL   PollEvents = 0x0020 // not an open descriptor
	POLLRDNORM PollEvents = 0x0040 // normal data to read
	POLLWRNORM            = POLLOUT
	POLLRDBAND PollEvents = 0x0080 // priority data to read
	POLLWRBAND PollEvents = 0x0100 // priority data can be written

	// POLLANSWER are the conditions that are answered without being asked for.
	POLLANSWER = POLLERR | POLLHUP | POLLNVAL
)

// INFTIM is the timeout of poll(2) that never runs out, in milliseconds.
const INFTIM = -1

var pollNames = [...]string{"IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDNORM", "RDBAND", "WRBAND"}

// String lists the conditions, "IN|HUP", or "0".
func (e PollEvents) String() string {
	if e == 0 {
		return "0"
	}
	var b strings.Builder
	for i := 0; i < 16; i++ {
		if uint16(e)&(1<<i) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('|')
		}
		if i < len(pollNames) {
			b.WriteString(pollNames[i])
		} else {
			b.WriteByte('?')
		}
	}
	return b.String()
}

// Pollfd is struct pollfd: a descriptor, what is asked and what is answered. A
// negative Fd is skipped and answers nothing.
type Pollfd struct {
	Fd      int32
	Events  PollEvents
	Revents PollEvents
}

// PollfdSize is the size of a coded Pollfd, in bytes.
const PollfdSize = 8

// AppendPollfds codes fds as an array of struct pollfd, little-endian, and
// appends it to b.
func AppendPollfds(b []byte, fds []Pollfd) []byte {
	for _, f := range fds {
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Fd))
		b = binary.LittleEndian.AppendUint16(b, uint16(f.Events))
		b = binary.LittleEndian.AppendUint16(b, uint16(f.Revents))
	}
	return b
}

// ParsePollfds decodes what AppendPollfds made. EINVAL unless the length is a
// multiple of PollfdSize; the caller bounds the length.
func ParsePollfds(b []byte) ([]Pollfd, error) {
	if len(b)%PollfdSize != 0 {
		return nil, EINVAL
	}
	fds := make([]Pollfd, len(b)/PollfdSize)
	for i := range fds {
		e := b[i*PollfdSize:]
		fds[i] = Pollfd{
			Fd:      int32(binary.LittleEndian.Uint32(e)),
			Events:  PollEvents(binary.LittleEndian.Uint16(e[4:])),
			Revents: PollEvents(binary.LittleEndian.Uint16(e[6:])),
		}
	}
	return fds, nil
}

// FdSetSize is the size in bytes of an fd_set of select(2) for nd descriptors:
// bit fd%8 of byte fd/8, in units of 4 bytes.
func FdSetSize(nd int) int { return (nd + 31) / 32 * 4 }
