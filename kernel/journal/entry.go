package journal

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Kind is which mutator an entry is. The numbers are in reproducer files:
// append, never renumber.
type Kind uint8

// The mutators.
const (
	Create Kind = 1 + iota
	Mkdir
	Mknod
	Symlink
	Link
	Remove
	Rmdir
	Rename
	Setattr
	Write
	Truncate
	Setxattr
	Removexattr
	Fallocate
	WritePages
	Pin
	Unpin
	kinds
)

var kindNames = [kinds]string{Create: "create", Mkdir: "mkdir", Mknod: "mknod", Symlink: "symlink", Link: "link",
	Remove: "remove", Rmdir: "rmdir", Rename: "rename", Setattr: "setattr", Write: "write", Truncate: "truncate",
	Setxattr: "setxattr", Removexattr: "removexattr", Fallocate: "fallocate", WritePages: "writepages", Pin: "pin", Unpin: "unpin"}

// String is the mutator's name, as in "create".
func (k Kind) String() string {
	if k < kinds && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// makes reports whether the mutator makes a file, whose identity is recorded.
func (k Kind) makes() bool { return k >= Create && k <= Symlink }

// State is how far an entry has come.
type State uint8

// The states of an entry. One that is covered by a checkpoint, or failed, is
// no longer in the journal.
const (
	Sent     State = iota // the file system has been asked
	Orphan                // the process died before it answered
	Answered              // the answer is recorded
	Failed                // with an error: not to be repeated
)

// Entry is a mutator: all that is needed to do it again. Which fields are used
// depends on the Kind; they are those of the request in vfsops of the same name.
type Entry struct {
	Op     vfsops.Op // Seq: its place; Fileid and Gen: as given the first time
	Kind   Kind
	State  State
	Punch  bool        // Fallocate
	Append bool        // Write: at the end; once answered, Off says where that was
	Type   abi.VType   // Mknod
	Node   abi.Handle  // the file; of Rename, From
	Dir    abi.Handle  // the directory; of Rename, FDir
	Dir2   abi.Handle  // of Rename, TDir
	Victim abi.Handle  // of Remove and Rmdir; of Rename, To
	Name   []byte      // of Rename, FName
	Name2  []byte      // of Rename, TName
	Mode   uint32      //
	Uid    uint32      //
	Gid    uint32      //
	Flags  uint32      // Rename, Setxattr
	Mask   abi.SetMask // Setattr
	Rdev   abi.Dev     // Mknod
	Off    int64       // bytes
	Size   int64       // bytes
	Attr   *abi.Vattr  // Setattr
	Data   []byte      // Symlink: the text; Setxattr: the value; Write, WritePages: the contents
	Hash   uint64      // of the answer
	caller abi.Caller  // Op.Caller points here
	iov    abi.Iov     // Write, WritePages: the caller's own contents, until the answer
	kills  uint8       // deaths while it was alone in flight, by whom it may be
	blamed uint8       // those of them that were nobody else's fault
	res    *result     // of an orphan that has been executed
	err    error       // the same
	order  abi.OpSeq   // of an orphan: its first number
}

// String names the entry for the log.
func (e *Entry) String() string {
	return fmt.Sprintf("%s %d of %v in %v", e.Kind, e.Op.Seq, e.Node, e.Dir)
}

// entryBytes is what an entry takes beside its names and contents, about.
const entryBytes = 512

// bytes is what the entry takes in memory, about.
func (e *Entry) bytes() int64 {
	return int64(entryBytes + len(e.Name) + len(e.Name2) + len(e.Data))
}

// keep makes the entry independent of the caller's memory.
func (e *Entry) keep() {
	if c := e.Op.Caller; c != nil {
		e.caller = *c
		e.Op.Caller = &e.caller
	}
	if n := e.iov.Len(); n > 0 {
		e.Data = make([]byte, n)
		e.iov.CopyOut(e.Data)
	}
}
