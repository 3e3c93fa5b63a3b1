// Package inet is the module of the Internet protocols: TCP and UDP over IPv4
// and IPv6, and the interface class lo, on gVisor's netstack. It is the only
// package tree that imports gVisor, whose API promises no stability.
//
// The words. The stack is netstack's; an endpoint is its socket; a NIC is its
// interface, numbered from 1, and that number is the scope id (the zone) of a
// link-local address. The kernel issues socket ids and owns descriptors,
// waiting, time-outs and the tables of interfaces, addresses and routes; this
// module is told them, and again after a restart.
//
// The usual sequence, of a server and a client on lo0:
//
//	Create(lo0) SetRoutes Socket(1) Bind Listen
//	Socket(2) Connect -> EINPROGRESS   Ready(1, IN) Accept(1, as 3)
//	Ready(2, OUT) Getopt(SO_ERROR) Send ... Ready(3, IN) Recv ... Close
//
// Nothing waits: netstack answers "would block" and notifies a waiter queue,
// which each socket listens to from the moment it exists, and which becomes
// Kernel.Ready. No edge is lost between a refused call and the wait that
// follows it: the listener is always registered, and a refusal, like a Poll,
// arms the edge before the look that it rests on (sock.go). Edges that nobody
// can wait for are not sent. An accepted connection is live before it has an
// id, so Accept sends an edge if something is ready already.
//
// What goes wrong: notifications come with endpoint locks held, so that
// Kernel.Ready must not call back into the module; the interface forbids it.
// Endpoint.Read insists that a writer takes all or says io.ErrShortWrite.
// A failed connection keeps its error in two places in netstack; SO_ERROR
// must be clear after it was told once, so both are emptied.
//
// Differences from NetBSD that are known: SO_REUSEADDR and SO_REUSEPORT share
// ports by Linux' rules (SO_REUSEPORT balances); there is no urgent data
// (MSG_OOB is EOPNOTSUPP); raw sockets are EPROTONOSUPPORT; SO_RCVLOWAT is
// always 1; a lingering close does not wait (SO_LINGER with time 0 resets as
// it must); connections wait to be accepted in the order in which their
// handshakes ended, and two that end together come in any order. A receive
// buffer made smaller on a live connection takes back window that was offered,
// and what was sent into it is lost until a timer resends it: set SO_RCVBUF
// before connect and listen.
//
// Lock order:
//
//	Module.mu (interfaces and routes)
//	    netstack's own locks
//	        Kernel.Ready, Log (never wait)
//
// The table of sockets is a sync.Map; a socket has atomics only.
package inet
