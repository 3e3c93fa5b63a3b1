package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// request is the context of one request of Linux's, and tells the VFS that we
// know of what it does. It does not end when the program gets a signal: calls
// about files are not interrupted, and few programs expect EINTR of them. Only
// who waits for a lock has cancel, see waiting.
type request struct {
	s      *Server
	cancel <-chan struct{}
	h      *fuse.InHeader
}

// waiting is a request that ends when the program is interrupted.
type waiting struct{ *request }

func (w waiting) Done() <-chan struct{} { return w.cancel }

func (w waiting) Err() error {
	select {
	case <-w.cancel:
		return context.Canceled
	default:
		return nil
	}
}

var _ context.Context = (*request)(nil)

var originKey = vfs.OriginKey()

func (*request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*request) Done() <-chan struct{}       { return nil }
func (*request) Err() error                  { return nil }

func (r *request) Value(key any) any {
	if key == originKey {
		return vfs.Watcher(r.s)
	}
	return nil
}

// idmap is who is who. A host that root runs has the same ids inside and
// outside. One that a user runs makes him the super-user inside, so his ids and
// 0 change places.
type idmap struct{ uid, gid uint32 }

func hostIDs() idmap { return idmap{uint32(os.Geteuid()), uint32(os.Getegid())} }

func (m idmap) out(id, own uint32) uint32 {
	switch {
	case m.uid == 0:
		return id
	case id == 0:
		return own
	case id == own:
		return 0
	}
	return id
}

// in is the same: the places are changed back.
func (m idmap) in(id, own uint32) uint32 { return m.out(id, own) }

// as calls fn as the program that waits. Supplementary groups cost a look into
// /proc, so they are asked for only when something was refused without.
func (r *request) as(fn func(c *abi.Caller) error) error {
	err := fn(r.caller())
	if err == nil || !refused(err) {
		return err
	}
	if c := r.withGroups(); c != nil {
		return fn(c)
	}
	return err
}

func refused(err error) bool { return errors.Is(err, abi.EACCES) || errors.Is(err, abi.EPERM) }

func (r *request) ids() (uid, gid uint32) {
	m := r.s.ids
	return m.in(r.h.Uid, m.uid), m.in(r.h.Gid, m.gid)
}

// caller is the program without its supplementary groups.
func (r *request) caller() *abi.Caller {
	uid, gid := r.ids()
	if uid == 0 && gid == 0 {
		return superuser
	}
	key := uint64(uid)<<32 | uint64(gid)
	if c, ok := r.s.creds.Load(key); ok {
		return c.(*abi.Caller)
	}
	c := &abi.Caller{Cred: abi.NewCred(uid, gid), Lid: 1}
	r.s.creds.Store(key, c)
	return c
}

// superuser is who asks on behalf of nobody in particular.
var superuser = &abi.Caller{Cred: abi.Root, Lid: 1}

// withGroups is the program with its groups, nil if it has no others.
func (r *request) withGroups() *abi.Caller {
	uid, gid := r.ids()
	if uid == 0 || r.h.Pid == 0 {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.h.Pid))
	if err != nil {
		return nil
	}
	gs := parseGroups(b)
	if len(gs) == 0 {
		return nil
	}
	for i := range gs {
		gs[i] = r.s.ids.in(gs[i], r.s.ids.gid)
	}
	return &abi.Caller{Cred: abi.NewCred(uid, gid, gs...), Lid: 1}
}

// parseGroups finds the groups in /proc/PID/status, as many as a credential can
// have.
func parseGroups(status []byte) []uint32 {
	_, rest, ok := bytes.Cut(status, []byte("\nGroups:"))
	if !ok {
		return nil
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	var gs []uint32
	for _, f := range bytes.Fields(line) {
		g, err := strconv.ParseUint(string(f), 10, 32)
		if err == nil && len(gs) < abi.NGroupsMax {
			gs = append(gs, uint32(g))
		}
	}
	return gs
}

// status is what Linux is answered.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	return fuse.Status(linuxabi.Errno(err))
}
