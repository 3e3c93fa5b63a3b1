package fuse

import (
	"context"
	"fmt"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// What Linux has to forget. The VFS tells us of changes with its locks held, so
// that they are queued only; one goroutine passes them on. It may wait there
// for locks that Linux has while it waits for an answer of ours, which is why
// no request is ever served by it and none waits for it. A system call that
// changed something waits for the queue before it is answered (Settle).

// event is something that Linux has to forget.
type event struct {
	id   uint64 // of the file, or of the directory that name is in
	name string // "": attributes, and with off 0 contents
	off  int64
}

// maxSettle is how long a system call waits for Linux. It is over only if
// Linux's own locks are held for that long; then nobody waits until the queue is
// empty again.
const maxSettle = 2 * time.Second

var (
	_ vfs.Watcher = (*Server)(nil)
	_ vfs.Holder  = (*Server)(nil)
)

// Changed implements vfs.Watcher.
func (s *Server) Changed(ctx context.Context, v *vfs.Vnode, hint uint32) {
	if vfs.Origin(ctx) == vfs.Watcher(s) {
		return
	}
	id := s.known(v)
	if id == 0 {
		return
	}
	e := event{id: id, off: -1}
	if hint&(abi.NOTE_WRITE|abi.NOTE_EXTEND|abi.NOTE_REVOKE) != 0 && v.Type() == abi.VREG {
		e.off = 0
	}
	s.queue(e)
}

// EntryChanged implements vfs.Watcher.
func (s *Server) EntryChanged(ctx context.Context, dir *vfs.Vnode, name string) {
	if vfs.Origin(ctx) == vfs.Watcher(s) {
		return
	}
	if id := s.known(dir); id != 0 {
		s.queue(event{id: id, name: name})
	}
}

// Unmounting implements vfs.Watcher: what is not open is let go.
func (s *Server) Unmounting(fsid abi.Fsid) {
	s.mu.RLock()
	open := make(map[*vfs.Vnode]bool, len(s.files))
	for _, f := range s.files {
		open[f.v] = true
	}
	s.mu.RUnlock()
	s.letGo(func(v *vfs.Vnode) bool { return v.Handle().FS == fsid && !open[v] })
	s.dropRoots(fsid)
}

// Holding implements vfs.Holder.
func (s *Server) Holding(fsid abi.Fsid) string {
	n := 0
	s.mu.RLock()
	for _, f := range s.files {
		if f.v.Handle().FS == fsid {
			n++
		}
	}
	s.mu.RUnlock()
	switch n {
	case 0:
		return ""
	case 1:
		return "fuse " + s.dir + ": 1 open file"
	}
	return fmt.Sprintf("fuse %s: %d open files", s.dir, n)
}

// queue adds an event, unless it is the last one already.
func (s *Server) queue(e event) {
	s.qmu.Lock()
	defer s.qmu.Unlock()
	if n := len(s.events); n > 0 && s.events[n-1] == e {
		return
	}
	s.events = append(s.events, e)
	s.queued.Add(1)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Settle implements vfs.Watcher.
func (s *Server) Settle() {
	want := s.queued.Load()
	if s.passed.Load() >= want || s.stuck.Load() {
		return
	}
	limit := time.NewTimer(maxSettle)
	defer limit.Stop()
	for {
		s.qmu.Lock()
		ch := s.moved
		s.qmu.Unlock()
		if s.passed.Load() >= want {
			return
		}
		select {
		case <-ch:
		case <-s.ended:
			return
		case <-limit.C:
			s.stuck.Store(true)
			s.cnt.late.Inc()
			s.o.Log.Warn("fuse: Linux does not take what has changed", "dir", s.dir)
			return
		}
	}
}

// invalidate passes events on until the mount has ended.
func (s *Server) invalidate() {
	for {
		select {
		case <-s.wake:
		case <-s.ended:
			return
		}
		s.qmu.Lock()
		es := s.events
		s.events = nil
		s.qmu.Unlock()
		for _, e := range es {
			s.notify(e)
		}
		s.passed.Add(uint64(len(es)))
		s.qmu.Lock()
		if len(s.events) == 0 {
			s.stuck.Store(false)
		}
		close(s.moved)
		s.moved = make(chan struct{})
		s.qmu.Unlock()
	}
}

// notify passes one event on. Linux says ENOENT for what it does not know: it
// has forgotten it, or the answer by which it learns of it is still on its way,
// which is worth another try.
func (s *Server) notify(e event) {
	s.cnt.invals.Inc()
	for pause := 100 * time.Microsecond; ; pause *= 4 {
		var st fuse.Status
		if e.name != "" {
			st = s.srv.EntryNotify(e.id, e.name)
		} else {
			st = s.srv.InodeNotify(e.id, e.off, 0)
		}
		if st != fuse.ENOENT || e.name != "" || pause > 10*time.Millisecond || !s.fresh(e.id) {
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-s.ended:
			t.Stop()
			return
		}
	}
}
