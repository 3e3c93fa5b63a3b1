// Package stream carries frames (package wire) over a stream socket, both ways
// at once: each end may call the other.
//
// # The usual sequence
//
//	c := stream.New(nc, handler, stream.Options{Epoch: 1})
//	k := stream.GetCall()
//	k.Header.Op, k.Header.Object = wire.OpGetattr, mount
//	k.Args = (&wire.HandleReq{Node: h}).Append(k.Args[:0])
//	err := c.Call(ctx, k)            // an abi.Errno, or a *Dead
//	... k.Reply, k.N ...
//	k.Release()
//	c.Close(); c.Wait()
//
// One goroutine reads. It never writes and never waits for a handler, so that
// a call made inside a handler, in either direction, gets its reply. Requests
// are served by a bounded number of workers; one-way frames are served by the
// reader itself, in order, and their handler must not wait.
//
// A connection may have a faster way beside it (Fast, package ring). Call takes
// it when it can; everything else here is common to both.
//
// # Giving up
//
// When its context ends or its time is over, a call that may be answered early
// returns EINTR or ETIMEDOUT at once; the peer is told (wire.OpCancel) and its
// late reply is thrown away. An operation that keeps (wire.Op.Keeps) waits for
// its reply or for the connection's end. If it is past its deadline and the
// peer has said nothing at all meanwhile, the connection fails with *Hang.
//
// # What goes wrong
//
// A frame that breaks the rules (bad magic, lengths, epoch, a reply nobody
// waits for or longer than asked, a request id used twice) is a *Lie and ends
// the connection. So does the peer's end (io.EOF) and a peer that does not
// read what it is sent for as long as the write may take (*Hang). Every call
// in flight then returns a *Dead with the cause.
//
// # Watching
//
// Who knows more of the peer than its silence, as a host that can see how much
// processor time it uses, judges earlier than deadlines do: Options.Busy tells
// that calls wait, Inflight which, Frames whether the peer gets on, Unread
// whether it has said something that nobody has seen yet, and Fail is the
// verdict. It costs calls nothing that are answered at once by the fast way.
//
// # Locks
//
//	wlock (one frame at a time)   held over a write, bounded by its deadline
//	Conn.mu                       leaf: tables of calls and requests
package stream
