// Package fuse mounts the kernel's files in the host's own tree, by FUSE, so
// that every program of the machine can work on them.
//
// A Server is one mount. It lives in the host's process and talks to kernel/vfs
// directly, file by file, not through a client: so it names files by vnode, as
// Linux does, and learns of every change that came in another way before that
// change is acknowledged.
//
//	s, err := fuse.Mount(ctx, k.VFS, fuse.Options{Dir: "/mnt/x", Path: "/"})
//	...
//	s.Close()
//
// # Nodes
//
// What Linux knows by a number is a node, which holds a vnode until Linux
// forgets it; numbers are used once. A file that is gone, since its component
// died or its file system was unmounted, answers ESTALE, and Linux looks its
// path up again, so that a mount outlives a component: contents that were lost
// are lost, no program hangs. An unmount in the kernel makes the mount let go
// of what is not open.
//
// # Who may what
//
// Linux checks permissions itself by the attributes we answer
// (default_permissions, without which names that it has kept would be everybody's),
// and the kernel checks them again, as the program that
// asks: its ids and, where it is refused without them, its groups. A host that
// an ordinary user runs makes him the super-user inside: there his ids and 0
// change places. A new file gets its directory's group, as BSD has it.
//
// # What Linux keeps
//
// Names, attributes, links and pages of a file system that nobody changes but
// through this kernel (Vnode.Cacheable) are Linux's to keep for an hour; those
// of others (hostfs) not at all, and their pages until the next open. A change
// by somebody else goes into a queue, and one goroutine tells Linux, without any
// lock; the system call that made the change waits for that before it is
// answered. Requests of Linux's wait for no queue, or it would wait for us and
// we for it: what one mount changes, another mount learns of a little later.
// Access times that reads of kept pages do not bring about are missing.
//
// What is written goes to the kernel at once (no writeback cache): its clients
// would not see it, and size and times would be Linux's. Listings are not kept
// by Linux (FOPEN_CACHE_DIR) but here, and cost a request: an answer under way
// while a name goes would be kept past the change. Every close is told (FLUSH),
// since record locks go with it.
//
// Where Options.Backing allows it, Linux reads and writes the files of hostfs
// mounts itself, on the file of the host behind each (FUSE_PASSTHROUGH); root
// only. The host opens that file in the directory that it has granted, and
// takes it if it is the vnode's: no component hands a descriptor over, and one
// that dies disturbs no read or write. Opening, closing, sizes, names and
// permissions remain the kernel's. What is lost: reads and writes pass by who is
// told of them (kqueues and other exports hear at the close), and what is open
// stays so over a forced unmount. See passthrough.go.
//
// # Waiting
//
// Requests about files do not end by a signal, as programs expect: a component
// that dies answers within its restart-wait. Only who waits for a lock can be
// interrupted and killed.
//
// Fifos, sockets and devices are names here, and Linux's own when they are
// opened (devices: not at all, nodev). flock(2) and fcntl(2) exclude each other
// as in NetBSD; locks of open files (F_OFD_SETLK) are fcntl's with an owner of
// their own. O_TMPFILE is EOPNOTSUPP; the bytes of a copy_file_range(2) do not come to Linux.
//
// # Who mounts
//
// Root by mount(2), with allow_other. An ordinary user by fusermount3, which
// hands over the descriptor; allow_other only where /etc/fuse.conf says
// user_allow_other. Refusals say what to do.
//
// # The end
//
// Close unmounts. A mount in use is written back, taken away from its users
// (lazily, which the log says), and what is still open then answers ENOTCONN. A
// host that was killed leaves a dead mount: the next Mount on the directory takes
// it away. It asks by statfs(2): what stat(2) says, Linux may have kept.
//
// # What it costs
//
// A request is a change of threads, there and back, about 10 us where a processor
// is idle, and tens where none is; what Linux has kept costs none. host/bench
// has the rows, beside those of go-fuse's own example. Spinning for the next
// request was tried (own readers on a clone of the descriptor): on two processors
// that have something else to do it doubled the processor's time for nothing.
//
// # Locks
//
// Server.mu (nodes and open files) > Server.qmu (queue); Server.lmu (owners of
// locks). All are leaves to the VFS's: vnode locks may be held when mu and qmu
// are taken, never the other way round, and none is held over a call to the VFS
// or to Linux.
package fuse
