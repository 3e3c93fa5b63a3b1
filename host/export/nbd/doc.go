// Package nbd serves block devices by the NBD protocol (modapi/nbd has its
// numbers) over a unix socket or loopback TCP.
//
// The words. A Backend is what is served, a device behind a small interface; an
// Export gives it a name. A Server has exports, takes connections from any
// number of listeners, and ends them.
//
//	s := nbd.NewServer(nbd.Options{})
//	s.Add(nbd.Export{Name: "disk0", Backend: b})
//	l, err := nbd.Listen("unix:/run/x.sock", false)
//	go s.Serve(l)
//	...
//	s.Close(ctx)        // answers what is in flight, then ends everybody
//
// A connection is one goroutine that reads. It reads ahead into 64 KiB, so that
// one system call brings many requests, and takes payloads straight into the
// buffer that the backend gets. What a prompt backend can do at once it does
// itself; for another one up to Options.Depth goroutines of the connection work
// beside it. Whoever has an answer puts it into the connection's queue, and the
// first one there writes what the queue has, with one writev, until it is empty.
// Nothing is allocated per request.
//
// What goes wrong. A client is a stranger: it may lie about lengths, stop in
// the middle of a frame, flood, or never read. That ends its connection and no
// other. Everything it makes us hold is bounded: connections in number; the
// handshake by time and by options; half a frame and an answer that is not
// taken by Options.Stall; payloads by a budget per connection and one of the
// server, both of them queues, so that nobody is starved. Whatever the others
// do, each connection has 256 KiB of its own to go on with.
//
// Locks: Server.mu > nothing; replies.mu and budget.mu are leaves. None is held
// over I/O.
package nbd
