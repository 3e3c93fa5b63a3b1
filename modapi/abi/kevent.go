package abi

import (
	"strconv"
	"strings"
)

// Kevent is struct kevent of NetBSD 10: a change to make to a kqueue, or an
// event that it answers.
type Kevent struct {
	Ident  uint64 // what it is about: a descriptor, a pid, a number of the caller's
	Filter uint32 // EVFILT_*: which kind of event
	Flags  uint32 // EV_*
	Fflags uint32 // NOTE_*, by filter
	Data   int64  // by filter: bytes, expirations, an errno with EV_ERROR
	Udata  uint64 // the caller's, passed through
}

// KeventSize is the size of a coded Kevent in bytes.
const KeventSize = 40

// The kinds of events, EVFILT_* of sys/event.h.
const (
	EVFILT_READ   = 0
	EVFILT_WRITE  = 1
	EVFILT_AIO    = 2
	EVFILT_VNODE  = 3
	EVFILT_PROC   = 4
	EVFILT_SIGNAL = 5
	EVFILT_TIMER  = 6
	EVFILT_FS     = 7
	EVFILT_USER   = 8
)

// What to do with an event, and what it says; EV_*.
const (
	EV_ADD      = 0x0001 // add, or change what was added
	EV_DELETE   = 0x0002
	EV_ENABLE   = 0x0004
	EV_DISABLE  = 0x0008
	EV_ONESHOT  = 0x0010 // deleted when it was answered once
	EV_CLEAR    = 0x0020 // its state is reset when it was answered: an edge
	EV_RECEIPT  = 0x0040 // answer each change with EV_ERROR, errno 0 if it was good
	EV_DISPATCH = 0x0080 // disabled when it was answered once
	EV_ERROR    = 0x4000 // answer: Data is an errno
	EV_EOF      = 0x8000 // answer: the end, of the file or of the other side
)

// Fflags of the filters.
const (
	NOTE_LOWAT = 0x0001 // READ, WRITE: not before Data bytes

	NOTE_DELETE = 0x0001 // VNODE: the last name was removed
	NOTE_WRITE  = 0x0002 // written to, or an entry of the directory changed
	NOTE_EXTEND = 0x0004 // became longer
	NOTE_ATTRIB = 0x0008 // attributes changed
	NOTE_LINK   = 0x0010 // number of links changed
	NOTE_RENAME = 0x0020
	NOTE_REVOKE = 0x0040 // access was revoked, the file system was unmounted

	NOTE_EXIT = 0x80000000 // PROC: it ended; Data is the exit status
	NOTE_FORK = 0x40000000 // it made another process
	NOTE_EXEC = 0x20000000 // it runs another program

	NOTE_MSECONDS = 0x0000 // TIMER: unit of Data
	NOTE_SECONDS  = 0x0001
	NOTE_USECONDS = 0x0002
	NOTE_NSECONDS = 0x0003
	NOTE_ABSTIME  = 0x0010 // Data is a time of the wall clock

	NOTE_FFNOP      = 0x00000000 // USER: what to do with the flags kept
	NOTE_FFAND      = 0x40000000
	NOTE_FFOR       = 0x80000000
	NOTE_FFCOPY     = 0xc0000000
	NOTE_FFCTRLMASK = 0xc0000000
	NOTE_FFLAGSMASK = 0x00ffffff
	NOTE_TRIGGER    = 0x01000000
)

// AppendKevents codes events as an array of struct kevent: ident (8 bytes),
// filter, flags, fflags (4 each), 4 bytes of padding, data, udata (8 each), all
// little-endian.
func AppendKevents(b []byte, evs []Kevent) []byte {
	for i := range evs {
		e := &evs[i]
		b = le.AppendUint64(b, e.Ident)
		b = le.AppendUint32(b, e.Filter)
		b = le.AppendUint32(b, e.Flags)
		b = le.AppendUint32(b, e.Fflags)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(e.Data))
		b = le.AppendUint64(b, e.Udata)
	}
	return b
}

// ParseKevents reads what AppendKevents wrote. EINVAL unless the length is a
// multiple of KeventSize; the caller bounds the length.
func ParseKevents(b []byte) ([]Kevent, error) {
	if len(b)%KeventSize != 0 {
		return nil, EINVAL
	}
	evs := make([]Kevent, len(b)/KeventSize)
	for i := range evs {
		e := b[i*KeventSize:]
		evs[i] = Kevent{
			Ident: le.Uint64(e), Filter: le.Uint32(e[8:]), Flags: le.Uint32(e[12:]), Fflags: le.Uint32(e[16:]),
			Data: int64(le.Uint64(e[24:])), Udata: le.Uint64(e[32:]),
		}
	}
	return evs, nil
}

var filterNames = [...]string{"READ", "WRITE", "AIO", "VNODE", "PROC", "SIGNAL", "TIMER", "FS", "USER"}

var vnodeNotes = [...]string{"DELETE", "WRITE", "EXTEND", "ATTRIB", "LINK", "RENAME", "REVOKE"}

// String is the event in one line: "VNODE 4 DELETE|LINK".
func (e Kevent) String() string {
	f := strconv.Itoa(int(e.Filter))
	if int(e.Filter) < len(filterNames) {
		f = filterNames[e.Filter]
	}
	s := f + " " + strconv.FormatUint(e.Ident, 10)
	if e.Flags&EV_ERROR != 0 {
		return s + " " + Errno(e.Data).Name()
	}
	if e.Filter == EVFILT_VNODE {
		var n []string
		for i, name := range vnodeNotes {
			if e.Fflags&(1<<i) != 0 {
				n = append(n, name)
			}
		}
		s += " " + strings.Join(n, "|")
	} else {
		s += " data=" + strconv.FormatInt(e.Data, 10)
	}
	if e.Flags&EV_EOF != 0 {
		s += " EOF"
	}
	return s
}
