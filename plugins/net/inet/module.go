package inet

import (
	"context"
	"fmt"
	"sync"

	gvlog "gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// Sizes of buffers, in bytes. A socket starts with the default; receive
// buffers grow on their own up to the maximum, which also bounds SO_SNDBUF and
// SO_RCVBUF (NetBSD's kern.sbmax).
const (
	tcpBufMin     = 4 << 10
	tcpBufDefault = 1 << 20
	tcpBufMax     = 8 << 20
	udpBufMin     = 4 << 10
	udpBufDefault = 256 << 10
	udpBufMax     = 4 << 20
)

// The range of anonymous ports (net.inet.ip.anonportmin and anonportmax).
const (
	anonPortMin = 49152
	anonPortMax = 65535
)

// New makes the module "inet" (class net).
func New() *Module { return &Module{} }

// Module is the module "inet". One is one network stack.
type Module struct {
	k     modapi.Kernel
	stack *stack.Stack
	socks sync.Map // abi.SockID -> *sock

	mu     sync.Mutex
	ifs    map[string]*iface
	nextID tcpip.NICID
	routes map[int][]sockops.Route // by family, as the kernel said
}

var (
	_ modapi.Module = (*Module)(nil)
	_ modapi.Stater = (*Module)(nil)
)

// Info describes the module.
func (m *Module) Info() modapi.Info {
	return modapi.Info{
		Name: "inet", Class: modapi.ClassNet,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
	}
}

// quiet keeps netstack's log, which goes to the standard error, to warnings.
var quiet = sync.OnceFunc(func() { gvlog.SetLevel(gvlog.Warning) })

// Init makes the stack and attaches AF_INET, AF_INET6 and the class lo.
// Interfaces and routes come from the kernel afterwards, for a fresh start and
// a restart alike.
func (m *Module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	quiet()
	s, err := newStack()
	if err != nil {
		return err
	}
	m.k = k
	m.stack = s
	m.ifs = make(map[string]*iface)
	m.routes = make(map[int][]sockops.Route)
	m.nextID = 0
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		if err := k.AttachDomain(af, &Domain{m: m, af: af}); err != nil {
			m.destroy()
			return fmt.Errorf("attach domain %d: %w", af, err)
		}
	}
	if err := k.AttachIf("lo", &loClass{m: m}); err != nil {
		m.destroy()
		return fmt.Errorf("attach interface class lo: %w", err)
	}
	if err := m.attachSysctl(); err != nil {
		m.destroy()
		return err
	}
	return nil
}

// newStack makes a stack with all options set that matter, whatever
// netstack's defaults are.
func newStack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal:     true,
		DefaultIPTables: stack.DefaultTables,
	})
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		nagle    = tcpip.TCPDelayEnabled(true) // TCP_NODELAY is off by default
		snd      = tcpip.TCPSendBufferSizeRangeOption{Min: tcpBufMin, Default: tcpBufDefault, Max: tcpBufMax}
		rcv      = tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpBufMin, Default: tcpBufDefault, Max: tcpBufMax}
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &nagle, &snd, &rcv} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			s.Destroy()
			return nil, fmt.Errorf("tcp option %T: %s: %w", o, err, abi.EINVAL)
		}
	}
	for _, o := range []any{
		tcpip.SendBufferSizeOption{Min: udpBufMin, Default: udpBufDefault, Max: udpBufMax},
		tcpip.ReceiveBufferSizeOption{Min: udpBufMin, Default: udpBufDefault, Max: udpBufMax},
	} {
		if err := s.SetOption(o); err != nil {
			s.Destroy()
			return nil, fmt.Errorf("stack option %T: %s: %w", o, err, abi.EINVAL)
		}
	}
	if err := s.SetPortRange(anonPortMin, anonPortMax); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("port range: %s: %w", err, abi.EINVAL)
	}
	return s, nil
}

// Stat says how many sockets and interfaces there are.
func (m *Module) Stat(context.Context) (string, error) {
	n := 0
	m.socks.Range(func(any, any) bool { n++; return true })
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%d sockets, %d interfaces", n, len(m.ifs)), nil
}

// Fini closes every socket and ends the stack with its goroutines. It is never
// EBUSY: the kernel knows what is in use. If ctx ends first, the stack goes on
// ending by itself and Fini answers ctx's error.
func (m *Module) Fini(ctx context.Context) error {
	if m.stack == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.destroy()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the network stack: %w", ctx.Err())
	}
}

// destroy aborts all sockets, ends the stack and waits for its goroutines.
func (m *Module) destroy() {
	m.socks.Range(func(key, v any) bool {
		if s, ok := m.socks.LoadAndDelete(key); ok {
			s := s.(*sock)
			s.q.EventUnregister(&s.entry)
			s.ep.Abort()
		}
		return true
	})
	m.stack.Destroy()
}
