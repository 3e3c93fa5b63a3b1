package wire

import (
	"net/netip"
	"sort"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Bounds of strings on the wire, in bytes.
const (
	maxName   = 255
	maxText   = 4096
	maxPath   = 1024
	maxIfName = 31
)

func (c *coder) handle(h *abi.Handle) {
	c.u64((*uint64)(&h.FS))
	c.u64((*uint64)(&h.File))
	c.u32((*uint32)(&h.Gen))
}

func (c *coder) timespec(t *abi.Timespec) {
	c.i64(&t.Sec)
	c.i32(&t.Nsec)
}

// vattrSize is the coded size of a Vattr, entrySize that of an Entry.
const (
	handleSize = 20
	vattrSize  = 1 + 5*4 + 3*8 + 4 + 8 + 4 + 4*12
	entrySize  = handleSize + vattrSize
)

func (c *coder) vattr(v *abi.Vattr) {
	c.u8((*uint8)(&v.Type))
	c.u32(&v.Mode)
	c.u32(&v.Nlink)
	c.u32(&v.Uid)
	c.u32(&v.Gid)
	c.u32(&v.Flags)
	c.u64((*uint64)(&v.Rdev))
	c.i64(&v.Size)
	c.i64(&v.Bytes)
	c.u32(&v.Blksize)
	c.u64((*uint64)(&v.Fileid))
	c.u32((*uint32)(&v.Gen))
	c.timespec(&v.Atime)
	c.timespec(&v.Mtime)
	c.timespec(&v.Ctime)
	c.timespec(&v.Btime)
}

func (c *coder) entry(e *vfsops.Entry) {
	c.handle(&e.Handle)
	c.vattr(&e.Vattr)
}

// optVattr codes attributes that may be absent (zero).
func (c *coder) optVattr(v *abi.Vattr) {
	there := *v != abi.Vattr{}
	c.bool(&there)
	if there {
		c.vattr(v)
	} else if c.dec {
		*v = abi.Vattr{}
	}
}

// callerBox keeps a decoded caller in one piece of memory.
type callerBox struct {
	abi.Caller
	cred   abi.Cred
	groups [abi.NGroupsMax]uint32
}

// caller codes who asks. nil is coded as the kernel itself.
func (c *coder) caller(p **abi.Caller) {
	if !c.dec {
		k := *p
		if k == nil {
			k = abi.KernelCaller
		}
		cr := k.Cred
		if cr == nil {
			cr = abi.Root
		}
		for _, v := range [...]uint32{uint32(k.Pid), uint32(k.Lid), cr.Ruid, cr.Euid, cr.Svuid, cr.Rgid, cr.Egid, cr.Svgid} {
			c.u32(&v)
		}
		g := cr.Groups
		if len(g) > abi.NGroupsMax {
			g = g[:abi.NGroupsMax]
		}
		c.count(len(g), 4, abi.NGroupsMax)
		for i := range g {
			c.u32(&g[i])
		}
		return
	}
	k := new(callerBox)
	k.Cred = &k.cred
	c.i32(&k.Pid)
	c.i32(&k.Lid)
	c.u32(&k.cred.Ruid)
	c.u32(&k.cred.Euid)
	c.u32(&k.cred.Svuid)
	c.u32(&k.cred.Rgid)
	c.u32(&k.cred.Egid)
	c.u32(&k.cred.Svgid)
	if n := c.count(0, 4, abi.NGroupsMax); n > 0 {
		k.cred.Groups = k.groups[:n:n]
		for i := range k.cred.Groups {
			c.u32(&k.cred.Groups[i])
		}
	}
	*p = &k.Caller
}

func (c *coder) op(o *vfsops.Op) {
	c.u64((*uint64)(&o.Seq))
	c.timespec(&o.Now)
	c.u64(&o.Seed)
	c.caller(&o.Caller)
	c.u64((*uint64)(&o.Fileid))
	c.u32((*uint32)(&o.Gen))
}

func (c *coder) addr(a *netip.Addr) {
	if !c.dec {
		n := uint8(a.BitLen() / 8)
		c.u8(&n)
		switch n {
		case 4:
			b := a.As4()
			c.b = append(c.b, b[:]...)
		case 16:
			b := a.As16()
			c.b = append(c.b, b[:]...)
			z := a.Zone()
			c.str(&z, maxIfName)
		}
		return
	}
	var n uint8
	c.u8(&n)
	*a = netip.Addr{}
	switch n {
	case 0:
	case 4:
		if p := c.take(4); p != nil {
			*a = netip.AddrFrom4([4]byte(p))
		}
	case 16:
		if p := c.take(16); p != nil {
			*a = netip.AddrFrom16([16]byte(p))
			var z string
			c.str(&z, maxIfName)
			if z != "" {
				*a = a.WithZone(z)
				if a.Zone() == "" {
					c.fail("zone on an IPv4-mapped address")
				}
			}
		}
	default:
		c.fail("address length")
	}
}

func (c *coder) prefix(p *netip.Prefix) {
	a, bits := p.Addr(), int32(p.Bits())
	c.addr(&a)
	c.i32(&bits)
	if c.dec {
		*p = netip.PrefixFrom(a, int(bits))
		if a.Zone() != "" || int32(p.Bits()) != bits {
			c.fail("prefix length")
		}
	}
}

func (c *coder) sockaddr(s *abi.Sockaddr) {
	c.u8(&s.Family)
	c.u16(&s.Port)
	c.addr(&s.Addr)
	c.u32(&s.Flow)
	c.str(&s.Path, abi.SunPathMax)
	c.str(&s.Data, maxName)
}

// strmap codes a map of strings, in the order of its keys.
func (c *coder) strmap(p *map[string]string) {
	n := c.count(len(*p), 8, 1024)
	if !c.dec {
		keys := make([]string, 0, len(*p))
		for k := range *p {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			v := (*p)[k]
			c.str(&k, maxText)
			c.str(&v, maxText)
		}
		return
	}
	*p = nil
	if n > 0 {
		*p = make(map[string]string, n)
	}
	last := ""
	for i := 0; i < n; i++ {
		var k, v string
		c.str(&k, maxText)
		c.str(&v, maxText)
		if c.err == nil && i > 0 && k <= last {
			c.fail("keys out of order")
		}
		if c.err != nil {
			return
		}
		(*p)[k] = v
		last = k
	}
}
