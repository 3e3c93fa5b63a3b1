// Package sockops is what a protocol family and a network interface class
// implement.
//
// The kernel's socket layer owns descriptors, options, waiting and readiness;
// a Domain owns the protocols. Nothing here ever waits: what would block
// answers EAGAIN (or EINPROGRESS for Connect), and the domain says later by
// Kernel.Ready that something has changed. A lost edge is a bug, a spurious
// one is not: the kernel asks Poll again.
//
// The usual sequence of a TCP client: Socket, Connect -> EINPROGRESS, edge
// POLLOUT, Getopt(SO_ERROR), Send, Recv -> EAGAIN, edge POLLIN, Recv, Close.
//
// Interfaces, their addresses, and routes live in the kernel's tables. A
// domain and an interface class are told them, and told again after a restart
// of the process, before any frame is let in.
//
// Locks: the kernel may call with several requests on one socket at a time
// (a reader, a writer, a poller); an implementation locks for itself.
package sockops

import (
	"context"
	"net/netip"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Domain is a protocol family: sockets of one AF_*.
type Domain interface {
	// Socket makes the socket id. EPROTONOSUPPORT, EPROTOTYPE (typ).
	Socket(ctx context.Context, id abi.SockID, typ, proto int) error
	// Bind names a socket. EADDRINUSE, EADDRNOTAVAIL, EINVAL (bound).
	Bind(ctx context.Context, id abi.SockID, a abi.Sockaddr) error
	// Connect begins to connect; EINPROGRESS if it goes on. EISCONN,
	// EALREADY, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH.
	Connect(ctx context.Context, id abi.SockID, a abi.Sockaddr) error
	// Listen lets a stream socket be connected to.
	Listen(ctx context.Context, id abi.SockID, backlog int) error
	// Accept takes a connection from ls and names it as. EAGAIN if none.
	Accept(ctx context.Context, ls, as abi.SockID) (abi.Sockaddr, error)
	// Send queues bytes or one datagram. EAGAIN, EPIPE, EMSGSIZE,
	// EDESTADDRREQ, ENOTCONN. A stream may take less than all.
	Send(ctx context.Context, id abi.SockID, req SendReq, src abi.Iov) (int, error)
	// Recv takes bytes or one datagram; 0 bytes of a stream are its end.
	Recv(ctx context.Context, id abi.SockID, req RecvReq, dst abi.Iov) (RecvRes, error)
	// Shutdown ends one direction or both: abi.SHUT_RD, SHUT_WR, SHUT_RDWR.
	Shutdown(ctx context.Context, id abi.SockID, how int) error
	// Setopt and Getopt carry the value as setsockopt(2) has it, in
	// NetBSD's numbers and layout. ENOPROTOOPT.
	Setopt(ctx context.Context, id abi.SockID, level, name int, val []byte) error
	Getopt(ctx context.Context, id abi.SockID, level, name int) ([]byte, error)
	// Name answers the own or the peer's address. ENOTCONN.
	Name(ctx context.Context, id abi.SockID, peer bool) (abi.Sockaddr, error)
	// Close ends the socket; its id is free after that.
	Close(ctx context.Context, id abi.SockID) error
	// Poll answers what is ready now.
	Poll(ctx context.Context, id abi.SockID) (abi.PollEvents, error)
}

// SendReq goes with Send. To is valid if its Family is not AF_UNSPEC.
type SendReq struct {
	To      abi.Sockaddr
	Flags   int // MSG_*
	Control []byte
}

// RecvReq goes with Recv.
type RecvReq struct {
	Flags      int // MSG_PEEK, MSG_TRUNC, ...
	MaxControl int // bytes of control messages wanted
}

// RecvRes is what Recv answers beside the bytes.
type RecvRes struct {
	N       int
	From    abi.Sockaddr
	Flags   int // MSG_TRUNC, MSG_CTRUNC
	Control []byte
}

// Ready says that a socket may have become ready: an edge. Events is a hint.
type Ready struct {
	Sock   abi.SockID
	Events abi.PollEvents
}

// Router is the optional part of a Domain that takes routes.
type Router interface {
	// SetRoutes replaces the whole table.
	SetRoutes(ctx context.Context, routes []Route) error
}

// Route is one entry of a routing table.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr // invalid: directly connected
	If      string
}

// IfClass is a kind of network interface: "lo", "tap".
type IfClass interface {
	// Create makes an interface with the given configuration. EEXIST.
	Create(ctx context.Context, c IfConfig) error
	// Configure brings the interface to c: flags, MTU, addresses.
	Configure(ctx context.Context, c IfConfig) error
	// Destroy takes it away. ENXIO.
	Destroy(ctx context.Context, name string) error
	// Stats answers its counters. ENXIO.
	Stats(ctx context.Context, name string) (IfStats, error)
}

// IfConfig is all that an interface is configured with.
type IfConfig struct {
	Name  string // "lo0"
	Class string // "lo"
	Up    bool
	MTU   uint32 // 0: the class's default
	Addrs []netip.Prefix
	Link  string            // linkstr: what it is connected to
	Props map[string]string // of the class
}

// IfStats are the counters of an interface.
type IfStats struct {
	MTU                  uint32
	InPackets, InBytes   uint64
	OutPackets, OutBytes uint64
	InErrors, OutErrors  uint64
	InDrops              uint64
}
