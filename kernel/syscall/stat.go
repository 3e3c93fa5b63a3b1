package syscall

import (
	"context"
	"encoding/json"
	"sort"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// procRow is a process as sysProcstat lists it.
type procRow struct {
	Pid   int32  `json:"pid"`
	Ppid  int32  `json:"ppid"`
	Pgid  int32  `json:"pgid"`
	Sid   int32  `json:"sid"`
	Uid   uint32 `json:"uid"`
	Gid   uint32 `json:"gid"`
	State string `json:"state"` // I, R, S, T
	Lwps  int    `json:"lwps"`
	Files int    `json:"files"`
	Wmesg string `json:"wmesg"`
	Login string `json:"login"`
	Name  string `json:"name"`
}

// sees reports whether c may know of a process.
func (k *Kernel) sees(c *abi.Caller, p *proc.Proc) bool {
	return k.Auth.Authorize(kauth.Process, c.Cred, kauth.CanSee, p.Cred()) == nil
}

// byPid lists the processes that c may see.
func (k *Kernel) byPid(c *abi.Caller) []*proc.Proc {
	var ps []*proc.Proc
	k.Procs.Each(func(p *proc.Proc) {
		if k.sees(c, p) {
			ps = append(ps, p)
		}
	})
	sort.Slice(ps, func(i, j int) bool { return ps[i].Pid < ps[j].Pid })
	return ps
}

// sysProcstat lists the processes as a JSON array, by pid; Lwps are the system
// calls in progress, the one that asks included.
func sysProcstat(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	b, err := k.ProcsJSON(l.Caller())
	if err != nil {
		return err
	}
	return answer(a, b)
}

// ProcsJSON is what procstat answers, and kern.proc.
func (k *Kernel) ProcsJSON(c *abi.Caller) ([]byte, error) {
	rows := []procRow{}
	for _, p := range k.byPid(c) {
		c := p.Cred()
		r := procRow{Pid: p.Pid, Ppid: p.Ppid(), Pgid: p.Pgid(), Sid: p.Sid(), Uid: c.Euid, Gid: c.Egid, State: p.State(), Lwps: p.NLwps(), Login: p.Login(), Name: p.Name()}
		p.Fd.Each(func(int, *file.File) { r.Files++ })
		if k.Wmesg != nil {
			r.Wmesg = k.Wmesg(p.Pid)
		}
		rows = append(rows, r)
	}
	return json.Marshal(rows)
}

// fileRow is an open descriptor as sysFilestat lists it. Which fields have
// something depends on the type.
type fileRow struct {
	Pid    int32  `json:"pid"`
	Uid    uint32 `json:"uid"`
	Name   string `json:"name"` // of the process
	Fd     int    `json:"fd"`
	Type   string `json:"type"`   // vnode, socket, pipe, kqueue, misc
	Access string `json:"access"` // r, w, rw
	Mount  string `json:"mount"`
	Fstype string `json:"fstype"`
	Fileid uint64 `json:"fileid"`
	Mode   uint32 `json:"mode"` // with the bits of the type
	Size   int64  `json:"size"`
	Path   string `json:"path"`  // as it was opened
	Local  string `json:"local"` // addresses of a socket
	Peer   string `json:"peer"`
	Events int    `json:"events"` // knotes of a kqueue
}

// sysFilestat lists the open descriptors of process A[0], or of all if that is
// -1, as a JSON array. ESRCH.
func sysFilestat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	ps := k.byPid(l.Caller())
	if pid := a.Int(0); pid >= 0 {
		p, err := k.Procs.Find(int32(min(pid, 1<<31-1)))
		if err == nil && !k.sees(l.Caller(), p) {
			err = abi.ESRCH
		}
		if err != nil {
			return err
		}
		ps = []*proc.Proc{p}
	}
	b, err := k.filesJSON(ctx, l.Caller(), ps)
	if err != nil {
		return err
	}
	return answer(a, b)
}

// FilesJSON is what filestat answers of all processes, and kern.file.
func (k *Kernel) FilesJSON(ctx context.Context, c *abi.Caller) ([]byte, error) {
	return k.filesJSON(ctx, c, k.byPid(c))
}

func (k *Kernel) filesJSON(ctx context.Context, c *abi.Caller, ps []*proc.Proc) ([]byte, error) {
	rows := []fileRow{}
	for _, p := range ps {
		type entry struct {
			fd int
			f  *file.File
		}
		var fs []entry
		p.Fd.Each(func(fd int, f *file.File) {
			f.Hold()
			fs = append(fs, entry{fd, f})
		})
		for _, e := range fs {
			r := fileRow{Pid: p.Pid, Uid: p.Cred().Euid, Name: p.Name(), Fd: e.fd}
			k.describe(ctx, c, e.f, &r)
			rows = append(rows, r)
			e.f.Release(ctx)
		}
	}
	return json.Marshal(rows)
}

// describe says what is known of an open file. What a component does not answer
// stays empty.
func (k *Kernel) describe(ctx context.Context, c *abi.Caller, f *file.File, r *fileRow) {
	r.Type, r.Path = f.Type.String(), f.Name
	if f.Readable() {
		r.Access = "r"
	}
	if f.Writable() {
		r.Access += "w"
	}
	r.Mount, r.Fstype, _ = vfs.MountOf(f)
	if st, err := f.Ops.Stat(ctx, c, f); err == nil {
		r.Fileid, r.Size = uint64(st.Fileid), st.Size
		r.Mode = abi.TypeMode(st.Type) | st.Mode&abi.ALLPERMS
	}
	if kq, err := file.KqueueOf(f); err == nil {
		r.Events = kq.Len()
	}
	if f.Type == file.TypeSocket {
		if sa, err := k.Socket.Getsockname(ctx, c, f); err == nil && !sa.IsZero() {
			r.Local = sa.String()
		}
		if sa, err := k.Socket.Getpeername(ctx, c, f); err == nil && !sa.IsZero() {
			r.Peer = sa.String()
		}
	}
}
