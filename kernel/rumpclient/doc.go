// Package rumpclient is how Go programs use a kernel: one interface for the
// kernel in the same process and for one that is reached over a socket.
//
// A Caller takes system calls; it stands for one process of the kernel, with
// its descriptors, working directory and credentials. An embedder gets a Caller
// from the kernel, everybody else from Open:
//
//	c, err := rumpclient.Open(ctx, "unix:///run/user/1000/rumpus/default.sock")
//	fd, err := c.Open(ctx, "/etc/motd", abi.O_RDONLY, 0)
//	n, err := c.Read(ctx, fd, buf)
//
// Client has the system calls by NetBSD's names in Go's case, ctx first. They
// take and answer the kernel's numbers and Go's types; structures are decoded.
// Reads and writes longer than abi.MaxTransfer are split. A call that waits ends
// with EINTR when ctx is cancelled and ETIMEDOUT when its deadline passes; what
// it has moved by then is answered, not lost.
//
// On these stand the shapes that other Go code expects:
//
//	File             os.File's methods, from OpenFile
//	Client.FS        an io/fs.FS of the whole tree that can be written too: WriteFS
//	Client.Dial      net.Conn over the kernel's sockets
//	Client.Listen    net.Listener, ListenPacket net.PacketConn
//
// so that &http.Transport{DialContext: c.Dial} fetches over the kernel's stack
// and http.Serve(l, h) serves on it.
//
// # Signals, other processes, other kernels
//
// Notify has signals of the process sent to a channel; RaiseSignals raises them
// as the host's in this program. Without either a signal has its default effect,
// but SIGPIPE and SIGXFSZ are ignored: EPIPE and EFBIG say enough. Rfork makes a
// child and Exec hands the process on, each by a cookie with which another client
// Attaches. OpenRetry connects anew when the kernel has gone and come back.
//
// # Errors
//
// A call that the kernel refuses gives an *Error: the operation, the path, the
// number and the kernel's own words where it has any ("net component not
// available"). It unwraps to the abi.Errno. When the kernel is gone, every call
// answers ErrGone at once; Open's failure is a *ConnectError.
//
// # Goroutines and locks
//
// Any number of goroutines may share a Client; calls run beside each other and
// replies come in any order. Close ends them all. Locks, none held over a
// system call: sock.mu (descriptor users), deadline.mu, remote.mu; all leaves.
package rumpclient
