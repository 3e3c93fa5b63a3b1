package local

import (
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// control is what goes with bytes or a record.
type control struct {
	files []*file.File // references of the message
	cred  *abi.Sockcred
}

// mark is where in a stream control information belongs.
type mark struct {
	at  uint64
	ctl *control
}

// record is one datagram or packet.
type record struct {
	data []byte
	from abi.Sockaddr
	ctl  *control
}

// buffer is what a socket has received and nobody has read (struct sockbuf).
type buffer struct {
	mu     sync.Mutex
	stream bool
	space  int  // SO_RCVBUF, bytes; protected by mu
	used   int  // bytes, protected by mu
	eof    bool // nothing comes any more, protected by mu
	shut   bool // nobody reads any more, protected by mu
	creds  bool // LOCAL_CREDS, protected by mu

	// A stream: bytes pos to pos+used lie in ring from head on.
	ring  []byte // protected by mu
	head  int    // protected by mu
	pos   uint64 // protected by mu
	marks []mark // protected by mu

	recs  []record // protected by mu, from first on
	first int
}

const firstRing = 4 << 10

func (b *buffer) freeLocked() int { return b.space - b.used }

// lowatLocked is how much room makes a stream writable (so_snd.sb_lowat).
func (b *buffer) lowatLocked() int { return min(2048, max(b.space/2, 1)) }

// putLocked appends as much of src, from off on, as there is room for.
func (b *buffer) putLocked(src abi.Iov, off, n int) {
	if need := b.used + n; need > len(b.ring) {
		size := max(len(b.ring), firstRing)
		for size < need {
			size *= 2
		}
		ring := make([]byte, size)
		k := copy(ring, b.ring[b.head:min(len(b.ring), b.head+b.used)])
		copy(ring[k:], b.ring[:b.used-k])
		b.ring, b.head = ring, 0
	}
	if b.used == 0 {
		b.head = 0
	}
	at := b.head + b.used
	if at >= len(b.ring) {
		at -= len(b.ring)
	}
	b.used += n
	for _, p := range src {
		if off >= len(p) {
			off -= len(p)
			continue
		}
		p = p[off:min(len(p), off+n)]
		off = 0
		n -= len(p)
		for len(p) > 0 {
			k := copy(b.ring[at:], p)
			p = p[k:]
			if at += k; at == len(b.ring) {
				at = 0
			}
		}
		if n == 0 {
			return
		}
	}
}

// getLocked copies up to n bytes to dst from off on and takes them away unless
// peek is set.
func (b *buffer) getLocked(dst abi.Iov, off, n int, peek bool) {
	at, total := b.head, n
	for _, p := range dst {
		if off >= len(p) {
			off -= len(p)
			continue
		}
		p = p[off:min(len(p), off+n)]
		off = 0
		n -= len(p)
		for len(p) > 0 {
			k := copy(p, b.ring[at:])
			p = p[k:]
			if at += k; at == len(b.ring) {
				at = 0
			}
		}
		if n == 0 {
			break
		}
	}
	if !peek {
		b.head = at
		b.used -= total
		b.pos += uint64(total)
	}
}

// chunkLocked is how many bytes can be taken before the next control
// information, and that which belongs to the first of them.
func (b *buffer) chunkLocked() (n int, ctl *control) {
	n = b.used
	for _, m := range b.marks {
		if m.at == b.pos {
			ctl = m.ctl
			continue
		}
		return int(m.at - b.pos), ctl
	}
	return n, ctl
}

// roomLocked reports whether a record of n bytes fits. Empty ones take room
// as well.
func (b *buffer) roomLocked(n int) bool {
	return n <= b.freeLocked() && len(b.recs)-b.first < max(b.space/16, 16)
}

func (b *buffer) pushLocked(r record) {
	if b.first > 32 && b.first > len(b.recs)/2 {
		k := copy(b.recs, b.recs[b.first:])
		clear(b.recs[k:])
		b.recs, b.first = b.recs[:k], 0
	}
	b.recs = append(b.recs, r)
	b.used += len(r.data)
}

func (b *buffer) popLocked() {
	b.used -= len(b.recs[b.first].data)
	b.recs[b.first] = record{}
	if b.first++; b.first == len(b.recs) {
		b.recs, b.first = b.recs[:0], 0
	}
}

func (b *buffer) emptyLocked() bool {
	if b.stream {
		return b.used == 0
	}
	return b.first == len(b.recs)
}

// controlsLocked are all control messages in the buffer.
func (b *buffer) controlsLocked() []*control {
	var cs []*control
	for _, m := range b.marks {
		cs = append(cs, m.ctl)
	}
	for _, r := range b.recs[b.first:] {
		if r.ctl != nil {
			cs = append(cs, r.ctl)
		}
	}
	return cs
}

// clearLocked drops everything. The files in it have been taken out.
func (b *buffer) clearLocked() {
	b.ring, b.marks, b.recs = nil, nil, nil
	b.pos += uint64(b.used)
	b.head, b.used, b.first = 0, 0, 0
}
