// Package vfsops is what a file system implements.
//
// A file-system type (FSType) is attached at module init; mounting one gives
// an FS. An FS knows nodes by handle. It knows neither mount points, nor
// symbolic links being followed, nor "." and "..", nor permissions: the
// kernel splits paths, walks, authorises and caches, and asks for a whole run
// of names in one Lookup.
//
// What a file system need not have is an optional interface. The kernel
// answers for what is missing with the errno in each interface's comment. The
// SDK finds the optional interfaces by type assertion and sends them along as
// capability bits (Caps), so that a file system behind a process boundary and
// one bound in-process look the same.
//
// # The usual sequence
//
//	Mount -> Root -> Lookup, Getattr, Create, Write, ... -> Unmount
//
// # Locks
//
// The kernel holds vnode locks over a call: exclusive for mutators, of every
// node that the request names, parents before children, then in the order of
// handles; shared for Lookup, Getattr, Readdir, Read, Readlink. So
// conflicting mutators are never in flight together, but calls on different
// nodes are: an FS protects structures of its own that span nodes.
//
// # Determinism
//
// A mutator finds everything that would make it not repeatable in its request
// (Op): the time, a seed for random numbers, the caller, and, at a replay, the
// file id that was given the first time. It reads no clock.
//
// # Death and recovery
//
// A file system that implements Checkpointer, and declares CapCheckpoint and
// CapFixedids, loses nothing when its process dies, and its users notice
// nothing but a pause:
//
//	Mount(Seq 0) -> mutators 1 ... 90 -> Checkpoint(90) -> mutators 91 ... 120
//	  -> the process dies; another one starts
//	Mount(Seq 90) -> mutators 91 ... 120 again, with the ids of the first time
//
// What it keeps goes to the modapi.Store of the mount, or through a BlockIO; the
// kernel makes both valid at the same moment. package modtest checks that
// nothing is forgotten (the rules "checkpoint-..." and TestRecovery).
//
// # Errors
//
// nil or an abi.Errno, wrapped in context if that helps the log. A panic ends
// the process.
package vfsops
