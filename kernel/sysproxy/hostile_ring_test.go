//go:build linux

package sysproxy

import (
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// What a client of any make knows of the memory (package ring, "The memory"):
// where the half for its calls begins, and where in it things are.
const (
	rHalf   = 4096
	rState  = rHalf
	rBell   = rHalf + 64
	rRing   = rHalf + 512
	rSlots  = rHalf + 4096
	rSlot   = 128 // bytes of a slot
	rN      = 128 // slots
	rArgs   = rSlots + rN*rSlot
	rInline = rArgs + rN*wire.MaxArgs
	rRoom   = 16 << 10 // bytes of an inline area
)

// memory is a ring seen from a client that keeps to no rule.
type memory struct {
	*raw
	b    []byte
	tail int
	gen  uint32
}

// helloRing greets and takes the memory.
func (r *raw) helloRing() *memory {
	r.t.Helper()
	p := ring.NewPasser(r.Conn, true)
	r.Conn = p
	h := wire.Header{Op: wire.OpHello, ReqID: 1, Class: wire.OpHello.Class(), Object: wire.HelloRing}
	r.id++
	r.send(wire.AppendFrame(nil, &h, (&wire.HelloReq{Name: "raw"}).Append(nil), nil))
	if h, _, _, err := r.reply(); err != nil || h.Errno != 0 {
		r.t.Fatalf("hello: %v, errno %d", err, h.Errno)
	}
	f := p.Received()
	if f == nil {
		r.t.Fatal("no memory")
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Munmap(b) })
	return &memory{raw: r, b: b}
}

func (m *memory) word(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&m.b[off])) }

func (m *memory) slot(i int) *atomic.Uint32 { return m.word(rSlots + i*rSlot) }

// ring wakes the server, whatever it does.
func (m *memory) ring() {
	for _, off := range []int{rState, rBell} {
		m.word(off).Add(1)
		syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(m.word(off))), 1, 100, 0, 0, 0)
	}
}

// enter puts a slot's number into the ring.
func (m *memory) enter(n uint32) {
	m.word(rRing + 4*(m.tail%rN)).Store(n)
	m.tail++
	m.ring()
}

// request fills slot i with a system call.
func (m *memory) request(i int, num int32, a [6]uint64, in []byte, out int, mod func(h *wire.Header)) {
	m.id++
	args := (&wire.SyscallReq{Num: num, A: a}).Append(nil)
	copy(m.b[rArgs+i*wire.MaxArgs:], args)
	copy(m.b[rInline+i*rRoom:], in)
	h := wire.Header{Op: wire.OpSyscall, ReqID: abi.ReqID(m.id), Class: wire.OpSyscall.Class(), ReplyLen: uint32(out),
		ArgsOff: uint32(rArgs - rHalf + i*wire.MaxArgs), ArgsLen: uint32(len(args)),
		PayloadOff: uint32(rInline - rHalf + i*rRoom), PayloadLen: uint32(len(in))}
	if mod != nil {
		mod(&h)
	}
	var b [wire.HeaderSize]byte
	h.Put(b[:])
	copy(m.b[rSlots+i*rSlot+4:rSlots+i*rSlot+wire.HeaderSize], b[4:])
	m.gen++
	m.slot(i).Store(m.gen<<8 | 1)
}

// call asks for slot i.
func (m *memory) call(i int, num int32, mod func(h *wire.Header)) {
	m.request(i, num, [6]uint64{}, nil, 0, mod)
	m.enter(uint32(i + 1))
}

// answered waits until slot i is complete.
func (m *memory) answered(i int) {
	m.t.Helper()
	for end := time.Now().Add(limit); m.slot(i).Load()&3 != 3; m.ring() {
		if time.Now().After(end) {
			m.t.Fatal("no answer by the ring")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestHostileRing has clients break the rules in the memory that they share
// with the kernel. All of them, and nobody else, end.
func TestHostileRing(t *testing.T) {
	if !ring.Enabled() {
		t.Skip("no rings here")
	}
	for _, c := range []struct {
		name string
		act  func(m *memory)
	}{
		{"a slot that is none", func(m *memory) { m.enter(1 << 31) }},
		{"a slot that asks nothing", func(m *memory) { m.enter(5) }},
		{"arguments of giant length", func(m *memory) { m.call(0, abi.SYS_getpid, func(h *wire.Header) { h.ArgsLen = 1 << 31 }) }},
		{"arguments somewhere else", func(m *memory) {
			m.call(0, abi.SYS_getpid, func(h *wire.Header) { h.Op, h.ArgsOff = 0x7777, 1<<32-8 })
		}},
		{"a payload behind the end", func(m *memory) {
			m.call(0, abi.SYS_write, func(h *wire.Header) { h.PayloadOff, h.PayloadLen = 1<<32-4096, 4096 })
		}},
		{"a payload in another's slot", func(m *memory) {
			m.call(0, abi.SYS_write, func(h *wire.Header) { h.PayloadOff, h.PayloadLen = h.PayloadOff+rRoom, 10 })
		}},
		{"a payload in the ring itself", func(m *memory) {
			m.call(0, abi.SYS_read, func(h *wire.Header) { h.PayloadOff, h.ReplyLen = 512, 10 })
		}},
		{"more payload than room", func(m *memory) {
			m.call(0, abi.SYS_write, func(h *wire.Header) { h.PayloadLen = rRoom + 1 })
		}},
		{"an answer larger than room", func(m *memory) {
			m.call(0, abi.SYS_read, func(h *wire.Header) { h.ReplyLen = 1 << 30 })
		}},
		{"another epoch", func(m *memory) { m.call(0, abi.SYS_getpid, func(h *wire.Header) { h.Epoch = 9 }) }},
		{"an operation of components", func(m *memory) { m.call(0, 0, func(h *wire.Header) { h.Op = wire.OpMount }) }},
		{"a second HELLO", func(m *memory) { m.call(0, 0, func(h *wire.Header) { h.Op = wire.OpHello }) }},
		{"a reply", func(m *memory) { m.call(0, 0, func(h *wire.Header) { h.Flags = wire.FlagReply }) }},
		{"a one-way call", func(m *memory) { m.call(0, 0, func(h *wire.Header) { h.Flags = wire.FlagOneway }) }},
		{"arguments of nonsense", func(m *memory) {
			m.request(0, 0, [6]uint64{}, nil, 0, nil)
			copy(m.b[rArgs:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
			clear(m.b[rArgs+12 : rArgs+200])
			m.b[rArgs+52], m.b[rArgs+53] = 0xff, 0xff
			m.enter(1)
			m.answered(0)           // an unknown call, or a lie: either
			m.enter(uint32(rN + 1)) // and this is one
		}},
		{"a slot that is being served", func(m *memory) {
			m.call(0, abi.SYS_paccept, nil)
			for m.slot(0).Load()&3 == 1 {
				time.Sleep(time.Millisecond)
			}
			m.slot(0).Store(77<<8 | 1)
			m.enter(1)
		}},
		{"bells without end", func(m *memory) {
			end := time.Now().Add(limit)
			for m.Conn.SetReadDeadline(time.Now().Add(time.Millisecond)); time.Now().Before(end); {
				for range 100 {
					m.ring()
				}
				var one [1]byte
				m.Conn.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := m.Conn.Read(one[:]); err != nil {
					if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
						break // it has ended
					}
				}
			}
			m.Conn.SetReadDeadline(end)
		}},
		{"all slots wait, and then it dies", func(m *memory) {
			for i := range 100 {
				m.call(i, abi.SYS_paccept, nil)
			}
			for i := range 100 {
				for m.slot(i).Load()&3 == 1 {
					m.ring()
					time.Sleep(time.Millisecond)
				}
			}
			m.Close()
		}},
		{"a payload that changes under the call", func(m *memory) {
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for n := byte(0); ; n++ {
					select {
					case <-stop:
						return
					default:
						m.word(rInline + 64*int(n)).Store(uint32(n))
					}
				}
			}()
			for range 200 {
				m.request(0, abi.SYS_sendto, [6]uint64{}, make([]byte, rRoom), rRoom, nil)
				m.enter(1)
				m.answered(0)
			}
			close(stop)
			<-done
			m.enter(uint32(rN + 1))
		}},
		{"a header that changes under the call", func(m *memory) {
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for n := uint32(0); ; n++ {
					select {
					case <-stop:
						return
					default:
						for off := 16; off < wire.HeaderSize; off += 4 {
							m.word(rSlots + off).Store(n * 2654435761)
						}
					}
				}
			}()
			defer func() { close(stop); <-done }()
			m.call(0, abi.SYS_getpid, nil)
			m.enter(uint32(rN + 1))
		}},
		{"scribbling everywhere", func(m *memory) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				m.call(r.IntN(8), int32(r.IntN(500)), nil)
				for range 50 {
					m.word(rHalf + 4*r.IntN(rArgs/4)).Store(r.Uint32())
				}
			}
			m.enter(1 << 30)
			m.Close()
		}},
	} {
		hostile(t, c.name, false, func(r *raw) {
			m := r.helloRing()
			// That the kit can do it right: a call by the ring is answered.
			m.call(3, abi.SYS_getpid, nil)
			m.answered(3)
			c.act(m)
		})
	}
}
