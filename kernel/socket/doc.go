// Package socket is the kernel's half of sockets: descriptors, options,
// waiting, readiness, and the tables of interfaces, addresses and routes. The
// protocols are a component's, reached through sockops.Domain, which never
// waits. AF_LOCAL is the kernel's own, in package local; the methods here pass its
// sockets on.
//
// # The words
//
// A domain is a protocol family (AF_*), attached by a plugin instance. A
// generation is one life of that instance: a socket lives in a component only
// in the generation in which it was made there or put back. A SockID is issued
// here, told to the component, and never used twice while the kernel runs.
//
// # The usual sequence
//
// A module attaches domains and interface classes during its Init
// (AttachDomain, AttachIf): that only registers them. When Init has succeeded,
// the module layer calls InstanceUp, at boot as after a restart: interfaces,
// addresses and routes are configured from the kernel's tables, then the
// sockets that outlived the component are made again, then callers are let in.
// When the process dies the module layer calls InstanceDown; when it will not
// come back, or is unloaded, DetachInstance.
//
// # Waiting
//
// One loop does all of it (Socket.wait): note the number of edges so far, try;
// on EAGAIN record a waiter with the socket's Selinfo, and try again if there
// was an edge since; only then sleep until an edge (Ready), a timeout, the end
// of the context, or a change of the component's state. A component changes
// its state first and reports after, so no edge is lost, and a component that
// is a process away is asked once, not twice. Poll trusts edges likewise: what
// was not ready is not asked for again before the next edge.
//
// # What a death looks like
//
//	connected stream    ECONNRESET once, then end of file and EPIPE;
//	                    poll POLLIN|POLLHUP|POLLERR
//	listener, unconnected stream, datagram socket
//	                    calls wait for the restart, at most RestartWait, then
//	                    ENETDOWN; non-blocking ones answer EAGAIN; the socket
//	                    has the same id, address and options afterwards
//	new socket          waits likewise
//	slot empty          EOPNOTSUPP "net component not available", poll POLLNVAL
//
// # Locks
//
//	Layer.cfgMu             interface and route tables; held over calls to the component
//	  Layer.mu              domains, classes, instances; never held over calls
//	Socket.ctl              serialises what the kernel must remember; held over calls
//	  Socket.mu             the socket's state
//	    event.Selinfo       leaf
//
// Which generation a socket may call is decided by atomics (Socket.at), so
// sends and receives take none of these locks.
package socket
