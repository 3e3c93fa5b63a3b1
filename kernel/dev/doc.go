// Package dev is the device switch: which driver a device number belongs to,
// open character devices, and open block devices.
//
// # The words
//
// A driver is attached under a name by a plugin instance and has a major
// number; its units are the minors (devsw_attach). The name keeps its number
// as long as the kernel runs, so that device nodes in file systems stay right
// over unload and reload. A node is a name that devfs shows for a unit.
//
// A block device driver has a second number as a character device, its raw
// side: whole sectors, past the cache. For each of its nodes NAME devfs shows
// the block device NAME and the raw device rNAME. A buf is one request to a
// block device.
//
// # The usual sequence
//
// A module attaches its drivers during Init (AttachChr, AttachBlk), which
// registers them; the module layer calls InstanceUp when Init has succeeded, at
// boot as after a restart, and InstanceDown when the process died. Open of a
// device vnode comes here (Open, OpenBlkNode) and gets the file.Ops of one open
// device. Units of block devices come and go while the driver runs: BlkChanged
// asks for the nodes again; those made by Attach are remembered, and a new
// process is told of them before they are used.
//
// Inside the kernel a block device is a BlkHandle:
//
//	h, err := s.OpenBlk(ctx, dev, abi.O_RDWR|abi.O_EXCL)
//	err = h.Strategy(ctx, buf)      // ErrDied: h.Up, and issue it again
//	err = h.Do(ctx, buf)            // does that by itself
//	h.Close(ctx)
//
// O_EXCL is for who must have a disk alone: a mount, a component that has it by
// Block. Opens of nodes go on beside it.
//
// # Waiting
//
// Character device drivers never wait: what would, answers EAGAIN, and DevReady
// says later that something has changed. Handle notes the number of edges,
// tries, records a waiter with the unit's event.Selinfo, and sleeps only if no
// edge came since, so none is lost. Block device drivers may wait; returning
// from Strategy is biodone.
//
// # What a death looks like
//
// A call in a character device driver when it dies answers EIO. One that waits
// for data, or comes while the process is restarted, waits for the restart, at
// most RestartWait, then EIO; a non-blocking one answers EAGAIN at once. An
// open device goes on afterwards: it is opened again in the new process at its
// next use. Without the driver an open is ENXIO, and says "dev component not
// available" if there is no driver component at all; devices that are open
// answer ENXIO and poll POLLHUP|POLLERR.
//
// A buf in a driver that dies has ErrDied in its error, and so has every one
// until the process is back. As a buf may be done twice without harm, it is
// issued again then, with its ID: by Do, or by package bio, which has a table
// of what is in flight. One that kills 33 processes in a row is given up: EIO.
//
// # Stacks
//
// A driver that stands on a device has it by Block, which says for which unit.
// The rank of a unit is one more than the highest of what it stands on, at
// most 8 (ELOOP); circles are refused (EDEADLK). Upcalls so go strictly
// downward. Requests of the kernel to the disks of one process are bounded, those
// that they make of other disks in it are not, so that none waits in a circle
// (depths). Writes that overlap are never in flight together, whoever issues them.
//
// # Locks
//
//	Handle.openMu   one re-open at a time; held over the driver's Open
//	BlkHandle.openMu   a leaf; who finds a re-open under way waits for it without
//	  config.mu      one Configure of a unit at a time; held over the driver's
//	    Switch.mu    tables; never held over calls to a driver
//	      event.Selinfo  leaf
//	edges            parts of sectors are changed one at a time; held over Strategy
//	  blkUnit.mu     writes in flight; leaf
//	  depths.mu      leaf
package dev
