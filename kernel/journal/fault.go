package journal

// Fault is a point in the code at which a test can let something go wrong: the
// process die, the caller give up, the kernel be unmounted.
type Fault string

// The fault points, in the order in which a mutator, a checkpoint and a recovery
// come by.
const (
	FaultBeforeAppend   Fault = "before-append"        // a mutator has no place in the journal yet
	FaultAfterAppend    Fault = "after-append"         // it has, and has not been sent
	FaultBeforeRecord   Fault = "before-record"        // it has been answered, which is not recorded
	FaultBeforeReply    Fault = "before-reply"         // recorded, the caller does not know
	FaultCheckpoint     Fault = "checkpoint-begin"     // no mutator is in flight; the file system has not been asked
	FaultCommit         Fault = "checkpoint-written"   // it has answered, which is not committed
	FaultTrim           Fault = "checkpoint-committed" // committed, the entries are still there
	FaultCheckpointDone Fault = "checkpoint-trimmed"   // and now they are not
	FaultMount          Fault = "recover-mount"        // the calls of the old process have ended
	FaultReplay         Fault = "recover-replay"       // before each entry that is replayed
	FaultReplayed       Fault = "recover-replayed"     // all have been, orphans have not
	FaultOrphan         Fault = "recover-orphan"       // before each orphan
	FaultOrphanDone     Fault = "recover-orphan-done"  // it is answered, which is not recorded
	FaultOpen           Fault = "recover-open"         // all is done, nobody is let in yet
)

// Faults are all fault points, for tests that go through them.
var Faults = []Fault{FaultBeforeAppend, FaultAfterAppend, FaultBeforeRecord, FaultBeforeReply,
	FaultCheckpoint, FaultCommit, FaultTrim, FaultCheckpointDone,
	FaultMount, FaultReplay, FaultReplayed, FaultOrphan, FaultOrphanDone, FaultOpen}

// at is called at each fault point, without locks.
func (f *FS) at(p Fault, e *Entry) {
	if f.o.Fault != nil {
		f.o.Fault(p, e)
	}
}
