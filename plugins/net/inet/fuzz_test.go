package inet

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// FuzzCalls makes calls out of bytes on a handful of sockets: whatever comes,
// the module answers a NetBSD error number and does not panic.
func FuzzCalls(f *testing.F) {
	for k := range options {
		f.Add(optCall(k, int32Val(1)))
	}
	for k := range ipOptions {
		f.Add(optCall(k, int32Val(1)))
		f.Add(optCall(k, append(make([]byte, 16), int32Val(1)...)))
		f.Add(optCall(k, []byte{224, 0, 0, 251, 127, 0, 0, 1}))
	}
	f.Add([]byte("\x02\x00\x7f\x00\x00\x01\x10\x00\x03\x00\x05\x04\x01\x7f\x00\x00\x01\x10\x00\x05\x00\x06\x02hi\x07\x09\x08\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k := boot(t)
		var ss []*so
		for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
			ss = append(ss, k.socket(af, abi.SOCK_STREAM), k.socket(af, abi.SOCK_DGRAM))
		}
		take := func(n int) []byte {
			n = min(n, len(b))
			p := b[:n]
			b = b[n:]
			return p
		}
		num := func() int {
			p := take(1)
			if len(p) == 0 {
				return 0
			}
			return int(p[0])
		}
		addr := func(af int) abi.Sockaddr {
			p := append(take(4+12*(af/abi.AF_INET6)), make([]byte, 16)...)
			a, _ := netip.AddrFromSlice(p[:4])
			if af == abi.AF_INET6 {
				a, _ = netip.AddrFromSlice(p[:16])
			}
			return abi.Sockaddr{Family: uint8(af), Addr: a, Port: uint16(num()) << 8}
		}
		for n := 0; len(b) > 0 && n < 64; n++ {
			s := ss[num()%len(ss)]
			var err error
			switch num() % 10 {
			case 0:
				p := append(take(6), make([]byte, 6)...)
				level, name := int(binary.LittleEndian.Uint32(p)), int(binary.LittleEndian.Uint16(p[4:]))
				val := take(num())
				err = s.d.Setopt(bg, s.id, level, name, val)
				s.d.Getopt(bg, s.id, level, name)
			case 1:
				err = s.bind(addr(s.af))
			case 2:
				err = s.start(addr(s.af))
			case 3:
				err = s.listen(num() - 9)
			case 4:
				_, err = s.d.Accept(bg, s.id, k.id())
			case 5:
				_, err = s.d.Send(bg, s.id, sockops.SendReq{To: addr(s.af), Flags: num()}, abi.IovOf(take(num())))
			case 6:
				_, err = s.d.Recv(bg, s.id, sockops.RecvReq{Flags: num()}, abi.IovOf(make([]byte, num())))
			case 7:
				err = s.shutdown(num() - 1)
			case 8:
				_, err = s.d.Name(bg, s.id, num()%2 == 0)
			case 9:
				_, err = s.d.Poll(bg, s.id)
			}
			if e := abi.ErrnoOf(err); e == abi.EIO {
				t.Errorf("call answers %v", err)
			}
		}
	})
}

// optCall is the call that sets an option, as FuzzCalls reads it.
func optCall(k optKey, val []byte) []byte {
	var b []byte
	for s := range byte(4) {
		b = append(b, s, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(k.level))
		b = binary.LittleEndian.AppendUint16(b, uint16(k.name))
		b = append(b, byte(len(val)))
		b = append(b, val...)
	}
	return b
}
