// Command rumpus-chaos proves that what is acknowledged stays: it breaks
// components, hosts and disks on purpose while programs use a kernel, and holds
// every answer against what it has to be.
//
//	make chaos MINUTES=60 SEED=7
//
// takes turns at three tiers until the time is up, and writes a CSV with a row a
// fault. The last line is "N passed, N failed"; the exit status is 0 if none
// failed, else 1, and a command line that runs each failing seed again is shown.
//
// # The words
//
// A round is one kernel under load with a number of faults, all decided by one
// seed. A fault has a kind (what is done), a victim (to whom) and a moment
// (when). The tiers:
//
//	sim    the journal of one mount with components as goroutines, a clock of
//	       its own and seeded turns (kernel/journal/journalsim): the seed is the
//	       bug report
//	kill   real processes: a host, its components vfs, net and dev, this program
//	       as all of them, tmpfs and FAT (on an image of the host, on an
//	       encrypted one, on memory), sockets and devices in use
//	power  the disk: the block writes of a FAT are recorded and each prefix of
//	       them, with any of the writes that no flush had covered, is recovered
//	       and checked by fsck; and a host is killed by SIGKILL under load and
//	       boots again
//
// The kinds of the tier kill: SIGKILL and SIGSTOP from outside at any moment, and
// by the component to itself, inside an operation, before it is carried out or
// after it and before the reply, or in a checkpoint: kill, stop, panic, exit,
// abort, bomb (out of memory), loop, deadlock. With some faults the process that
// takes over is killed too, at its start, while it mounts or while it replays.
// Faults inside are built into this program's components only (component.go):
// the plugins that are shipped have no such door.
//
// # Who checks what
//
//	tree     a client with a subtree of its own and an exact model of it; each
//	         write has a tag that no other has; open files without a name
//	shared   objects that all clients change: appends to one file, O_EXCL
//	         creates, renames; their histories are checked for linearizability
//	         by porcupine in short windows; what it cannot decide is a failure
//	net      a listener and UDP sockets that outlive net; connections that may
//	         end by ECONNRESET, and never carry wrong bytes
//	dev      an encrypted disk with a model, by its block and its raw node
//	hostfs   a directory of the host, not recoverable: an operation may fail by
//	         EIO or ESTALE when vfs dies, but then it was done or it was not
//	census   descriptors, goroutines, memory and shared memory of the host, and
//	         its processes, are back at the baseline in the end
//	synced   what an fsync or sync acknowledged is there after the host's death
//
// A checker that cannot fail proves nothing: chaos_test.go runs it on kernels
// whose answers are false on purpose (lies.go).
//
// # Using it
//
//	rumpus-chaos -minutes 1 -seed 7            all tiers in turns
//	rumpus-chaos -tier kill -seed 12 -rounds 1 one round again
//	rumpus-chaos -figures                      what faults cost, as a table
//
// The moments of faults from outside are the machine's, so that a seed of the
// tier kill gives the same plan but not the same run; repeat it.
package main
