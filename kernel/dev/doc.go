// Package dev is the device switch: which driver a device number belongs to,
// and open character devices.
//
// # The words
//
// A driver is attached under a name by a plugin instance and has a major
// number; its units are the minors (devsw_attach). The name keeps its number
// as long as the kernel runs, so that device nodes in file systems stay right
// over unload and reload. A node is a name that devfs shows for a unit.
//
// # The usual sequence
//
// A module attaches its drivers during Init (AttachChr), which registers them;
// the module layer calls InstanceUp when Init has succeeded, at boot as after
// a restart, and InstanceDown when the process died. Open of a device vnode
// comes here and gets the file.Ops of one open device (Handle).
//
// # Waiting
//
// Drivers never wait: what would, answers EAGAIN, and DevReady says later that
// something has changed. Handle notes the number of edges, tries, records a
// waiter with the unit's event.Selinfo, and sleeps only if no edge came since,
// so none is lost.
//
// # What a death looks like
//
// A call in the driver when it dies answers EIO. One that waits for data, or
// comes while the process is restarted, waits for the restart, at most
// RestartWait, then EIO; a non-blocking one answers EAGAIN at once. An open
// device goes on afterwards: it is opened again in the new process at its next
// use. Without the driver an open is ENXIO, and says "dev component not
// available" if there is no driver component at all; devices that are open
// answer ENXIO and poll POLLHUP|POLLERR.
//
// # Locks
//
//	Handle.openMu    one re-open at a time; held over Chr.Open
//	  Switch.mu      tables; never held over calls to a driver
//	    event.Selinfo  leaf
package dev
