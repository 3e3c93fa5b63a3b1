// Package journal makes the death of a file system's process invisible: it
// keeps what was done since the last checkpoint of a mount, and does it again
// in the next process.
//
// # The words
//
// An FS stands between the kernel and the file system of one mount, which may
// be another one, in another process, after each death. To the kernel it is a
// vfsops.FS like any other, with everything that the file system has. An Entry
// is one mutator in the order of the mount (its OpSeq): sent, then answered, and
// kept until a checkpoint covers it. A checkpoint is the file system writing
// its state to the Backing (its Store, the overlay of its device), and the
// kernel committing that, at once and with the OpSeq to which it is complete.
// To replay is to send entries again, to a process that begins with the last
// checkpoint.
//
// # The usual sequence
//
//	New -> mutators, checkpoints, ... -> Down -> Recover -> mutators, ... -> Close
//
// A mutator takes its OpSeq and its place in the journal, in one step, before it
// is sent; the kernel holds the locks of the vnodes that it names meanwhile, so
// that the order of the journal is the order in which mutators that touch each
// other are executed. Its answer is recorded before the caller gets it: the
// identity that was given to a new file, and a hash of the attributes. A mutator
// that failed is taken out of the journal, it will not be repeated.
//
// When the journal is worth half of the replay time that is allowed (Limits), a
// goroutine lets no further mutator begin, waits until those in flight have
// been answered, has the file system write a checkpoint, commits it, and drops
// the entries that it covers. If the journal is full, mutators wait for that.
//
// When the process has died (Down, or a call that fails for that reason),
// callers wait. Recover mounts the file system in the new process as of the
// last committed checkpoint, and sends the answered entries again in their
// order, each with its time, seed and caller, and with the identity that was
// given the first time. What is answered must be what was answered then. Then
// those that were in flight are sent, one at a time and with new numbers at the
// end of the journal, as they are executed only now; whoever waits for one gets
// this answer, once. Then everybody is let in, and reads that failed because of
// the death are asked again. If the process dies during all this, the next
// Recover begins anew; checkpoints are taken during a replay too, so that deaths
// more frequent than a replay takes do not stop everything.
//
// # What goes wrong
//
//   - A replayed mutator answers something else than the first time: this is a
//     divergence. It is counted and logged, and the mount is degraded: reads
//     are answered, mutators get EIO.
//   - The process dies while a mutator that was in flight at its death is alone
//     in flight again, and nobody outside has killed it: the mutator is poison.
//     It gets EIO and is left out, and Options.Poison is told how to do it
//     again (Repro). A process killed from outside must die so five times.
//   - No new process comes within Options.Wait, or none will come (Fail): EIO.
//     Mutators that were in flight are forgotten then.
//   - A checkpoint fails: it is tried again later. Once the journal is full,
//     mutators get the errno of the checkpoint.
//
// # Locks
//
//	FS.recMu   one Recover at a time
//	  FS.mu    the journal and the state; leaf, held over no call
//
// Nothing here takes a lock of a vnode. Callers hold theirs while they wait for
// Recover, which therefore must not need any.
package journal
