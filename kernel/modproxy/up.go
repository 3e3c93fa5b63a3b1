package modproxy

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// upcalls serves what the component asks of the kernel.
type upcalls Link

// Serve implements stream.Handler.
func (u *upcalls) Serve(ctx context.Context, req *stream.Request) {
	l := (*Link)(u)
	op := req.Header.Op
	l.mu.Lock() // also waits for Open to have made the link
	var m *module
	if req.Header.Object < uint64(len(l.mods)) {
		m = l.mods[req.Header.Object]
	}
	l.mu.Unlock()
	switch op {
	case wire.OpReady:
		l.ready(req)
		return
	case wire.OpDevReady:
		l.devReady(req)
		return
	case wire.OpTick: // that it came is all there is to it
		return
	}
	switch {
	case op >= wire.OpBlockGeometry && op <= wire.OpBlockClose:
		l.serveBlock(ctx, req)
		return
	case op >= wire.OpStoreGet && op <= wire.OpStoreWrite:
		l.serveStore(ctx, req)
		return
	}
	if m == nil {
		l.lie("%s by module %d", op, req.Header.Object)
		return
	}
	switch op {
	case wire.OpEvcnt:
		m.evcnt(req)
		return
	case wire.OpLog:
		m.log(req)
		return
	}
	args, err := m.attach(req)
	if err != nil {
		var text []byte
		if _, plain := err.(abi.Errno); !plain {
			text = wire.ErrText(nil, err.Error())
		}
		req.Reply(abi.ErrnoOf(err), text, nil)
		return
	}
	req.Reply(0, args, nil)
}

// legal reports whether s can name something that is attached: 1 to max
// printable characters without '/'.
func legal(s string, max int) bool {
	if len(s) == 0 || len(s) > max {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '/' {
			return false
		}
	}
	return true
}

// attach serves an attach upcall: for Init only.
func (m *module) attach(req *stream.Request) ([]byte, error) {
	l := m.l
	op := req.Header.Op
	l.mu.Lock()
	k, starting := m.kernel, m.starting
	l.mu.Unlock()
	if k != nil {
		switch op {
		case wire.OpBlockOpen:
			return m.blockOpen(k, req)
		case wire.OpBlkChanged:
			return nil, m.blkChanged(k, req)
		}
	}
	if k == nil || !starting {
		return nil, fmt.Errorf("%s outside Init: %w", op, abi.EPERM)
	}
	malformed := func(err error) error { return l.lie("%s: %v", op, err) }
	switch op {
	case wire.OpAttachFS:
		var r wire.AttachFSReq
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		if !legal(r.Name, 31) {
			return nil, l.lie("%s: name %q", op, r.Name)
		}
		c := r.Caps & declaredCaps
		return nil, k.AttachFS(r.Name, &fstype{l: l, k: k, name: r.Name, caps: c}, c)
	case wire.OpAttachChr:
		var r wire.AttachChrReq
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		return m.attachChr(k, &r)
	case wire.OpAttachBlk:
		return m.attachBlk(k, req)
	case wire.OpAttachDomain:
		var r wire.AttachDomainReq
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		d := &domain{l: l, k: k, af: int(r.AF)}
		if r.Router {
			return nil, k.AttachDomain(d.af, routerDomain{d})
		}
		return nil, k.AttachDomain(d.af, d)
	case wire.OpAttachIf:
		var r wire.IfName
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		if !legal(r.Class, 15) {
			return nil, l.lie("%s: class %q", op, r.Class)
		}
		return nil, k.AttachIf(r.Class, &ifclass{l: l, class: r.Class})
	case wire.OpSysctl:
		var r wire.SysctlReq
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		if !legal(r.Name, 255) {
			return nil, l.lie("%s: name %q", op, r.Name)
		}
		return nil, k.Sysctl(l.sysctlNode(&r))
	case wire.OpAddSyscall:
		var r wire.NumReq
		if err := r.Parse(req.Args); err != nil {
			return nil, malformed(err)
		}
		return nil, k.Syscall(int(r.N), l.syscall(uint64(r.N)))
	}
	return nil, l.lie("%s is no upcall", op)
}

// declaredCaps are the capabilities that a file system declares, as opposed to
// those that stand for its interfaces.
const declaredCaps = vfsops.HasCreator - 1

// maxSysctl bounds a node's value, in bytes.
const maxSysctl = 64 << 10

func (l *Link) sysctlNode(r *wire.SysctlReq) modapi.SysctlNode {
	id := r.Node
	n := modapi.SysctlNode{Name: r.Name, Desc: wire.ParseErrText([]byte(r.Desc)), Get: func() string {
		k := stream.GetCall()
		defer k.Release()
		k.Header.Op, k.Header.Object = wire.OpSysctlGet, id
		k.Scratch(maxSysctl)
		if l.call(context.Background(), k) != nil { // it ends with the link, or its deadline
			return ""
		}
		return string(k.Got())
	}}
	if r.Writable {
		n.Set = func(v string) error {
			k := stream.GetCall()
			defer k.Release()
			k.Header.Op, k.Header.Object = wire.OpSysctlSet, id
			k.SetPayload([]byte(v))
			return l.call(context.Background(), k)
		}
	}
	return n
}

func (l *Link) syscall(num uint64) modapi.SyscallFn {
	return func(ctx context.Context, c *abi.Caller, a [6]uint64, in []byte, max int) (uint64, []byte, error) {
		k := stream.GetCall()
		defer k.Release()
		k.Header.Op, k.Header.Object = wire.OpModSyscall, num
		k.Args = (&wire.ModSyscallReq{Caller: c, A: a}).Append(k.Args)
		k.SetPayload(in)
		if max < 0 || max > wire.MaxPayload {
			return 0, nil, abi.EINVAL
		}
		k.Scratch(max)
		if err := l.call(ctx, k); err != nil {
			return 0, nil, err
		}
		var r wire.NumRes
		if err := l.parse(k, &r); err != nil {
			return 0, nil, err
		}
		return uint64(r.N), append([]byte(nil), k.Got()...), nil
	}
}

// evcnt adds what the component's counters have grown by.
func (m *module) evcnt(req *stream.Request) {
	var r wire.EvcntMsg
	if err := r.Parse(req.Payload); err != nil {
		m.l.lie("evcnt: %v", err)
		return
	}
	m.l.mu.Lock()
	k := m.kernel
	m.l.mu.Unlock()
	if k == nil {
		return // it ended meanwhile
	}
	for _, v := range r.Vals {
		m.l.mu.Lock()
		c := m.counters[v.ID]
		m.l.mu.Unlock()
		if c == nil {
			if !legal(v.Group, 31) || !legal(v.Name, 63) || v.ID >= wire.MaxEvcnts {
				m.l.lie("evcnt %d: name %q %q", v.ID, v.Group, v.Name)
				return
			}
			c = &counter{c: k.Evcnt(v.Group, v.Name)}
			m.l.mu.Lock()
			m.counters[v.ID] = c
			m.l.mu.Unlock()
		}
		if v.Value < c.last {
			m.l.lie("evcnt %d runs backwards", v.ID)
			return
		}
		c.c.Add(v.Value - c.last)
		c.last = v.Value
	}
}

// log passes a log line on.
func (m *module) log(req *stream.Request) {
	var r wire.LogMsg
	if err := r.Parse(req.Payload); err != nil {
		m.l.lie("log: %v", err)
		return
	}
	log := m.l.opt.Log
	if log == nil {
		m.l.mu.Lock()
		k := m.kernel
		m.l.mu.Unlock()
		if k == nil {
			return
		}
		log = k.Log()
	}
	kv := make([]any, len(r.KV))
	for i, s := range r.KV {
		kv[i] = wire.ParseErrText([]byte(s))
	}
	text := wire.ParseErrText([]byte(r.Text))
	switch r.Level {
	case wire.LogDebug:
		log.Debug(text, kv...)
	case wire.LogInfo:
		log.Info(text, kv...)
	case wire.LogWarn:
		log.Warn(text, kv...)
	default:
		log.Error(text, kv...)
	}
}

// ready passes edges of sockets on. One of a socket just closed is late and
// dropped; one of a socket that never was is a lie.
func (l *Link) ready(req *stream.Request) {
	var r wire.ReadyMsg
	if err := r.Parse(req.Payload); err != nil {
		l.lie("ready: %v", err)
		return
	}
	for _, e := range r.Edges {
		l.mu.Lock()
		d, known := l.socks[e.Sock], e.Sock != 0 && e.Sock <= l.maxSock
		l.mu.Unlock()
		switch {
		case d != nil:
			d.k.Ready(e)
		case !known:
			l.lie("ready: socket %d", e.Sock)
			return
		}
	}
}

// devReady passes edges of devices on.
func (l *Link) devReady(req *stream.Request) {
	var r wire.DevReadyMsg
	if err := r.Parse(req.Payload); err != nil {
		l.lie("dev-ready: %v", err)
		return
	}
	for _, e := range r.Edges {
		l.mu.Lock()
		c := l.chrs[e.Dev.Major()]
		l.mu.Unlock()
		if c == nil {
			l.lie("dev-ready: device %v", e.Dev)
			return
		}
		c.k.DevReady(e)
	}
}
