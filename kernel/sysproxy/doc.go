// Package sysproxy lets programs outside of the kernel's process use it: the
// server of NetBSD's sysproxy. It takes connections on a unix socket; each is a
// process of the kernel, and its frames are that process's system calls.
//
// # The usual sequence
//
// The client connects; who it is comes from the host (SO_PEERCRED), never from
// what it says, and Options.Allow says whether it may come in. Its first frame is
// HELLO, within HelloTimeout. Options.NewProc makes its process, and the answer
// carries the process's number; a refusal carries the reason. From then on every
// request is SYSCALL. Each runs in a goroutine of its own, so that an accept that
// waits holds up nobody. A client has at most MaxCalls of them in flight: it
// waits itself for one to end, since a server that would stop reading for its
// sake could see neither its CANCELs nor its death. When the client gives up on a
// call (CANCEL) the call's context ends and it is answered with what it has come
// to. When the connection ends, by death or otherwise, the contexts of all calls
// end and Proc.Close closes its descriptors.
//
// A process that has signals (Attender) has its client told of them by SIGNAL,
// which is one-way. The last says that a signal has ended the process, and the
// connection ends with it. Telling never waits: what a client does not read in
// time is told once for each signal.
//
// # What a hostile client can do
//
// To others: nothing. What breaks the rules of a frame or of the sequence above
// ends the connection, as do more than MaxCalls calls, half a frame for longer
// than 5 seconds and answers that are not read for 5 seconds. Memory that calls in
// flight hold is bounded by CallMemory for each client (ENOBUFS beyond), clients by
// Options.Clients (EAGAIN), connections that have not said HELLO by the same and
// maxStrangers, and those of people whom Allow refuses by maxOutsiders (closed at
// once).
//
// # Lock order
//
//	server.mu   the set of connections; leaf
//	client.mu   the process of a connection; leaf
package sysproxy
