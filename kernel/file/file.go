// Package file has open files and descriptor tables: struct file, fileops and
// filedesc.
//
// A File is what open, socket or pipe makes: flags, an offset, and the Ops of
// its type. Descriptors refer to files; dup and inheritance share them. A
// Filedesc maps descriptors to files for one process, or for several that
// share it (rfork).
//
// References: a descriptor holds one, each system call in progress one
// (Filedesc.Get, File.Release). The last Release calls Ops.Close, so a close
// while another thread reads is safe, as with fd_getfile and fd_putfile.
//
// Lock order: Filedesc.mu before File.OffMu; neither is held over Ops calls,
// but OffMu, which a read or write at the file's own offset keeps so that
// offsets do not interleave (POSIX 2.9.7).
package file

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Type is what a file is (f_type, DTYPE_*), with NetBSD's numbers.
type Type uint8

// The file types.
const (
	TypeVnode  Type = 1
	TypeSocket Type = 2
	TypePipe   Type = 3
	TypeKqueue Type = 4
	TypeMisc   Type = 5
)

func (t Type) String() string {
	switch t {
	case TypeVnode:
		return "vnode"
	case TypeSocket:
		return "socket"
	case TypePipe:
		return "pipe"
	case TypeKqueue:
		return "kqueue"
	}
	return "misc"
}

// Cur, as an offset, means the file's own offset, which then advances.
const Cur int64 = -1

// Ops is what a type of file does (struct fileops). NoOps refuses them all
// and is meant to be embedded.
type Ops interface {
	// Read and Write move bytes at off, or at the file's offset if off is
	// Cur (they take f.OffMu themselves then). A file opened with
	// O_NONBLOCK answers EAGAIN instead of waiting. EBADF for the wrong
	// direction has been answered before.
	Read(ctx context.Context, c *abi.Caller, f *File, dst []byte, off int64) (int, error)
	Write(ctx context.Context, c *abi.Caller, f *File, src []byte, off int64) (int, error)
	// Seek is lseek(2). ESPIPE.
	Seek(ctx context.Context, c *abi.Caller, f *File, off int64, whence int) (int64, error)
	// Stat is fstat(2).
	Stat(ctx context.Context, c *abi.Caller, f *File) (abi.Stat, error)
	// Ioctl gets the in part of the argument and answers the out part. ENOTTY.
	Ioctl(ctx context.Context, c *abi.Caller, f *File, cmd uint32, arg []byte) ([]byte, error)
	// Poll answers which of want is ready, besides POLLERR, POLLHUP, POLLNVAL.
	Poll(ctx context.Context, f *File, want abi.PollEvents) abi.PollEvents
	// Selinfo is where to wait for readiness; nil: always ready.
	Selinfo(f *File) *event.Selinfo
	// Fsync is fsync(2); dataOnly is fdatasync(2). EINVAL.
	Fsync(ctx context.Context, c *abi.Caller, f *File, dataOnly bool) error
	// Close ends the file; called once, with a context of the kernel's.
	Close(ctx context.Context, f *File) error
}

// File is an open file (struct file).
type File struct {
	Type Type
	Ops  Ops
	Data any // belongs to Ops
	Cred *abi.Cred
	Name string // the path that it was opened by, for fstat(1); set once, before the file has a descriptor

	flags  atomic.Uint32
	refs   atomic.Int32
	flight atomic.Int32 // of them, references of messages in flight
	owner  atomic.Int32 // who gets SIGIO
	async  atomic.Pointer[async]

	OffMu  sync.Mutex
	Offset int64 // protected by OffMu
	table  *Table
	last   lastContext // of the last Release
}

// lastContext is what Close gets: the values of whose Release was the last, but
// nobody can cancel it. It is context.WithoutCancel without the allocation.
type lastContext struct{ context.Context }

func (*lastContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*lastContext) Done() <-chan struct{}       { return nil }
func (*lastContext) Err() error                  { return nil }

// Flags that fcntl(F_SETFL) can change.
// O_ASYNC is SetAsync's.
const settable = abi.O_APPEND | abi.O_NONBLOCK | abi.O_SYNC | abi.O_DSYNC | abi.O_DIRECT

// Flags are the O_* flags of the open, access mode included.
func (f *File) Flags() int { return int(f.flags.Load()) }

// SetFlags changes the flags that can be changed (F_SETFL).
func (f *File) SetFlags(fl int) {
	for {
		old := f.flags.Load()
		if f.flags.CompareAndSwap(old, old&^settable|uint32(fl)&settable) {
			return
		}
	}
}

// Nonblock reports whether the file answers EAGAIN instead of waiting.
func (f *File) Nonblock() bool { return f.flags.Load()&abi.O_NONBLOCK != 0 }

// Readable reports whether it was opened for reading.
func (f *File) Readable() bool {
	m := f.flags.Load() & abi.O_ACCMODE
	return m == abi.O_RDONLY || m == abi.O_RDWR
}

// Writable reports whether it was opened for writing.
func (f *File) Writable() bool {
	m := f.flags.Load() & abi.O_ACCMODE
	return m == abi.O_WRONLY || m == abi.O_RDWR
}

// Hold takes a reference.
func (f *File) Hold() { f.refs.Add(1) }

// Release drops a reference; the last one closes the file.
func (f *File) Release(ctx context.Context) error {
	if n := f.refs.Add(-1); n != 0 {
		if n == f.flight.Load() {
			if o, ok := f.Ops.(Orphaner); ok {
				o.Orphaned(f)
			}
		}
		return nil
	}
	if f.table != nil {
		f.table.n.Add(-1)
	}
	if f.async.Load() != nil {
		_ = f.SetAsync(nil)
	}
	f.last.Context = ctx
	return f.Ops.Close(&f.last, f)
}

// Orphaner is the optional part of Ops of files that can hold messages with
// other files in them (AF_LOCAL sockets).
type Orphaner interface {
	// Orphaned is called, with no locks held, when f is referred to by
	// nothing but messages in flight: they may be in f itself.
	Orphaned(f *File)
}

// Launch notes that one of the references belongs to a message in flight
// (SCM_RIGHTS), Land that it does not any more.
func (f *File) Launch() { f.flight.Add(1) }

// Land undoes Launch.
func (f *File) Land() { f.flight.Add(-1) }

// InFlight reports whether a message in flight refers to f.
func (f *File) InFlight() bool { return f.flight.Load() > 0 }

// Orphan reports whether all references are those of messages in flight.
func (f *File) Orphan() bool {
	n := f.flight.Load()
	return n > 0 && n == f.refs.Load()
}

// Table is the system-wide file table: it counts open files against
// kern.maxfiles.
type Table struct {
	n   atomic.Int64
	Max atomic.Int64 // kern.maxfiles
}

// Count is the number of open files.
func (t *Table) Count() int64 { return t.n.Load() }

// New makes a file with one reference and the given O_* flags. ENFILE when
// the table is full.
func (t *Table) New(typ Type, ops Ops, data any, flags int, cred *abi.Cred) (*File, error) {
	if n := t.n.Add(1); n > t.Max.Load() {
		t.n.Add(-1)
		return nil, abi.ENFILE
	}
	f := &File{Type: typ, Ops: ops, Data: data, Cred: cred, table: t}
	f.flags.Store(uint32(flags))
	f.refs.Store(1)
	return f, nil
}

// NoOps refuses every operation with the errno that NetBSD's fbadop and
// fnullop functions give. Embed it.
type NoOps struct{}

// Read refuses with EOPNOTSUPP.
func (NoOps) Read(context.Context, *abi.Caller, *File, []byte, int64) (int, error) {
	return 0, abi.EOPNOTSUPP
}

// Write refuses with EOPNOTSUPP.
func (NoOps) Write(context.Context, *abi.Caller, *File, []byte, int64) (int, error) {
	return 0, abi.EOPNOTSUPP
}

// Seek refuses with ESPIPE.
func (NoOps) Seek(context.Context, *abi.Caller, *File, int64, int) (int64, error) {
	return 0, abi.ESPIPE
}

// Stat refuses with EOPNOTSUPP.
func (NoOps) Stat(context.Context, *abi.Caller, *File) (abi.Stat, error) {
	return abi.Stat{}, abi.EOPNOTSUPP
}

// Ioctl refuses with ENOTTY.
func (NoOps) Ioctl(context.Context, *abi.Caller, *File, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// Poll answers that all is ready.
func (NoOps) Poll(_ context.Context, _ *File, want abi.PollEvents) abi.PollEvents {
	return want & (abi.POLLIN | abi.POLLOUT | abi.POLLRDNORM | abi.POLLWRNORM)
}

// Selinfo answers nil: always ready.
func (NoOps) Selinfo(*File) *event.Selinfo { return nil }

// Fsync refuses with EINVAL.
func (NoOps) Fsync(context.Context, *abi.Caller, *File, bool) error { return abi.EINVAL }

// Close does nothing.
func (NoOps) Close(context.Context, *File) error { return nil }
