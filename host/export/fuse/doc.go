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
// (default_permissions), and the kernel checks them again, as the program that
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
// Fifos, sockets and devices are names here, and Linux's own when they are
// opened (devices: not at all, nodev). flock(2) and fcntl(2) exclude each other
// as in NetBSD.
//
// # The end
//
// Close unmounts; what is still open then answers ENOTCONN. A host that was
// killed leaves a dead mount: the next Mount on the directory takes it away.
//
// # Locks
//
// Server.mu (nodes and open files) > Server.qmu (queue); Server.lmu (owners of
// locks). All are leaves to the VFS's: vnode locks may be held when mu and qmu
// are taken, never the other way round, and none is held over a call to the VFS
// or to Linux.
package fuse
