package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var (
	_ file.Noter       = vnodeFile{}
	_ file.KnotePoller = vnodeFile{}
	_ file.Noter       = (*specFile)(nil)
	_ file.KnotePoller = (*specFile)(nil)
)

// note tells the kqueues and Watchers of v what happened to it (VN_KNOTE). It
// costs two loads while there are none, and never waits.
func (v *Vnode) note(ctx context.Context, hint uint32) {
	v.notes.Note(hint)
	v.changed(ctx, hint)
}

// Klist is the list of knotes on the vnode.
func (vnodeFile) Klist(f *file.File) *event.Klist { return &f.Data.(*Vnode).base().notes }

// PollKnote is genfs_kqfilter: a file can be read while the offset is not its
// end, and written always. The data of a read is the way to the end, which is
// negative behind it.
func (vnodeFile) PollKnote(ctx context.Context, f *file.File, filter uint32) (data int64, flags uint32, ready bool) {
	v := f.Data.(*Vnode)
	if v.dead.Load() != 0 {
		return 0, abi.EV_EOF, true
	}
	if filter == abi.EVFILT_WRITE {
		return 0, 0, true
	}
	var va abi.Vattr
	if err := v.getattr(ctx, &va); err != nil {
		return 0, abi.EV_EOF, true
	}
	f.OffMu.Lock()
	data = va.Size - f.Offset
	f.OffMu.Unlock()
	return data, 0, data != 0
}

// Klist is the list of knotes on the device's or fifo's vnode.
func (s *specFile) Klist(*file.File) *event.Klist { return &s.v.base().notes }

// PollKnote asks the layer that has the device or fifo.
func (s *specFile) PollKnote(ctx context.Context, f *file.File, filter uint32) (data int64, flags uint32, ready bool) {
	if p, ok := s.Ops.(file.KnotePoller); ok {
		return p.PollKnote(ctx, f, filter)
	}
	return file.PollKnote(ctx, f, filter)
}
