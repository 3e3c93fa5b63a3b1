// Package modproxy is the kernel's side of a component process: it makes each
// module in it a modapi.Module, so that kernel/module loads one that is bound
// in-process and one behind a stream alike.
//
// The usual sequence:
//
//	l, err := modproxy.Open(ctx, nc, ctl, modproxy.Options{Epoch: 1})
//	for _, m := range l.Modules() { m.Init(ctx, kernel, reason, props) ... }
//	<-l.Done(); why := l.Err()
//
// During Init the component's upcalls become calls of the modapi.Kernel that
// Init was given, with proxies for what is attached: file-system types,
// devices, protocol families, interface classes, sysctl nodes, system calls.
// The proxy of a file system has every optional interface; what the file
// system really can do is its method Caps (vfsops.CapsOf), and what it lacks
// is refused here with the errno of the interface.
//
// Nothing that comes back is believed. Handles must be of the mount, types
// known, sizes not negative, traces and lists no longer than asked, names
// legal, cookies rising, sockets and devices known. Whatever breaks that is a
// lie: the link fails with a *stream.Lie, for which the supervisor ends the
// process, and the caller gets EIO.
//
// Block devices that the component has open (modapi.Kernel.Block) have handles,
// which are issued here; they are closed when their module ends or the link
// does.
//
// When the link has ended, operations on file systems and devices answer EIO,
// those on sockets ECONNRESET.
//
// # Locks
//
//	Link.mu   tables; leaf, not held over calls of the kernel or component
package modproxy
