package fuse

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Locks of fcntl(2) belong to a process of Linux's, which it names by a number
// of 64 bits. In the kernel the owner of a lock is a process id, so each owner
// gets one that no process of the kernel has, as long as it has locks.
type lockOwner struct {
	pid   int32             // in the kernel
	linux uint32            // the process that took the first lock
	files map[uint64]uint64 // nodes on which it may have locks: the open file of the last
}

// firstPid is above all process ids of the kernel.
const firstPid = 1 << 30

// owner is who an owner of Linux's is in the kernel, made if node is not 0,
// where it is about to take a lock.
func (s *Server) owner(id uint64, pid uint32, node, fh uint64) int32 {
	s.lmu.Lock()
	defer s.lmu.Unlock()
	o := s.owners[id]
	if o == nil && node == 0 {
		return 0
	}
	if o == nil {
		for s.lastPid++; s.byPid[s.lastPid] != nil || s.lastPid < firstPid; s.lastPid++ {
			if s.lastPid < firstPid {
				s.lastPid = firstPid - 1
			}
		}
		o = &lockOwner{pid: s.lastPid, linux: pid, files: map[uint64]uint64{}}
		s.owners[id], s.byPid[o.pid] = o, o
	}
	if node != 0 {
		o.files[node] = fh
	}
	return o.pid
}

// disown takes note that an owner has no locks on node any more.
func (s *Server) disown(id, node uint64) {
	s.lmu.Lock()
	defer s.lmu.Unlock()
	if o := s.owners[id]; o != nil {
		if delete(o.files, node); len(o.files) == 0 {
			delete(s.owners, id)
			delete(s.byPid, o.pid)
		}
	}
}

// released has those locks go that were taken through an open file and are still
// there when it is closed for the last time: a process's went with its own
// close (Flush), so they are the open file's own (F_OFD_SETLK), of whose end
// Linux says nothing else.
func (s *Server) released(f *openFile, fh, node uint64) {
	var pids []int32
	s.lmu.Lock()
	for id, o := range s.owners {
		if at, ok := o.files[node]; !ok || at != fh {
			continue
		}
		pids = append(pids, o.pid)
		if delete(o.files, node); len(o.files) == 0 {
			delete(s.owners, id)
			delete(s.byPid, o.pid)
		}
	}
	s.lmu.Unlock()
	for _, pid := range pids {
		s.vfs.UnlockClosed(pid, f.f)
	}
}

// flock makes NetBSD's lock of Linux's.
func flock(l *fuse.FileLock) (abi.Flock, error) {
	t, err := linuxabi.LockType(l.Typ)
	if err != nil || l.Start > math.MaxInt64 || l.End < l.Start {
		return abi.Flock{}, abi.EINVAL
	}
	fl := abi.Flock{Start: int64(l.Start), Type: t, Whence: abi.SEEK_SET}
	if l.End < math.MaxInt64 {
		fl.Len = int64(l.End-l.Start) + 1
	}
	return fl, nil
}

// GetLk is GETLK.
func (s *Server) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	f := s.file(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	fl, err := flock(&in.Lk)
	if err != nil {
		return status(err)
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	c := &abi.Caller{Cred: f.c.Cred, Pid: s.owner(in.Owner, in.Pid, 0, 0), Lid: 1}
	if c.Pid == 0 {
		c.Pid = -1 // nobody: every lock is in its way
	}
	if err := s.vfs.Advlock(r, c, f.f, abi.F_GETLK, &fl); err != nil {
		return status(err)
	}
	out.Lk = fuse.FileLock{Typ: linuxabi.FromLockType(fl.Type)}
	if fl.Type != abi.F_UNLCK {
		out.Lk.Start, out.Lk.End = uint64(fl.Start), math.MaxInt64
		if fl.Len > 0 {
			out.Lk.End = uint64(fl.Start + fl.Len - 1)
		}
		s.lmu.Lock()
		if o := s.byPid[fl.Pid]; o != nil {
			out.Lk.Pid = o.linux // others are no process of Linux's
		}
		s.lmu.Unlock()
	}
	return fuse.OK
}

// SetLk is SETLK, of fcntl(2) or flock(2).
func (s *Server) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return s.setlk(cancel, in, false)
}

// SetLkw is SETLKW: it waits, until the program is interrupted.
func (s *Server) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return s.setlk(cancel, in, true)
}

func (s *Server) setlk(cancel <-chan struct{}, in *fuse.LkIn, wait bool) fuse.Status {
	f := s.file(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	fl, err := flock(&in.Lk)
	if err != nil {
		return status(err)
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	if in.LkFlags&fuse.LK_FLOCK != 0 {
		op := map[int16]int{abi.F_RDLCK: abi.LOCK_SH, abi.F_WRLCK: abi.LOCK_EX, abi.F_UNLCK: abi.LOCK_UN}[fl.Type]
		if !wait {
			op |= abi.LOCK_NB
		}
		return status(s.vfs.Flock(waiting{r}, f.c, f.f, op))
	}
	c := &abi.Caller{Cred: f.c.Cred, Lid: 1}
	if fl.Type == abi.F_UNLCK {
		if c.Pid = s.owner(in.Owner, in.Pid, 0, 0); c.Pid == 0 {
			return fuse.OK // it has none
		}
	} else {
		c.Pid = s.owner(in.Owner, in.Pid, in.NodeId, in.Fh)
	}
	cmd := abi.F_SETLK
	if wait {
		cmd = abi.F_SETLKW
	}
	return status(s.vfs.Advlock(waiting{r}, c, f.f, cmd, &fl))
}

// Flush is FLUSH, a close of one descriptor: the process loses its locks on the
// file.
func (s *Server) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	f := s.file(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if pid := s.owner(in.LockOwner, 0, 0, 0); pid != 0 {
		s.vfs.UnlockClosed(pid, f.f)
		s.disown(in.LockOwner, in.NodeId)
	}
	return fuse.OK
}
