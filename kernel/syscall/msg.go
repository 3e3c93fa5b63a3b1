package syscall

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/socket"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysSendmsg is sendmsg(2), see abi.Sysargs for how its memory travels.
func sysSendmsg(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if a.A[2] > uint64(len(a.In)) {
		return abi.EINVAL
	}
	if a.A[2] > socket.MaxControl {
		return abi.EMSGSIZE
	}
	data := a.In[:len(a.In)-int(a.A[2])]
	control := a.In[len(data):]
	var to abi.Sockaddr
	if len(a.Addr) > 0 {
		if to, err = abi.ParseSockaddr(a.Addr); err != nil {
			return err
		}
	}
	ctx = named(ctx, l, to)
	var n int
	if u := local.Of(f); u != nil {
		var files []*file.File
		if files, err = internalize(ctx, l, control); err != nil {
			return err
		}
		n, err = u.Send(ctx, l.Caller(), abi.IovOf(data), to, a.Int(1), f.Nonblock(), files)
		if err != nil {
			releaseAll(ctx, files)
		}
	} else {
		n, err = k.Socket.Sendmsg(ctx, l.Caller(), f, abi.IovOf(data), to, a.Int(1), control)
	}
	if n > 0 {
		err = nil
	}
	if err != nil {
		writeSignal(l, f, err, a.Int(1))
	}
	a.R[0] = uint64(max(n, 0))
	return err
}

// internalize makes files of the descriptors in SCM_RIGHTS messages
// (unp_internalize). EINVAL for other messages, EBADF.
func internalize(ctx context.Context, l *proc.Lwp, control []byte) ([]*file.File, error) {
	ms, err := abi.ParseCmsgs(control)
	if err != nil {
		return nil, err
	}
	var files []*file.File
	for i := range ms {
		fds, err := ms[i].Rights()
		if err != nil {
			releaseAll(ctx, files)
			return nil, err
		}
		for _, fd := range fds {
			f, err := l.Proc.Fd.Get(fd)
			if err != nil {
				releaseAll(ctx, files)
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

func releaseAll(ctx context.Context, files []*file.File) {
	for _, f := range files {
		f.Release(ctx)
	}
}

// sysRecvmsg is recvmsg(2), see abi.Sysargs.
func sysRecvmsg(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if a.A[2] > uint64(len(a.Out)) {
		return abi.EINVAL
	}
	room := min(int(a.A[2]), socket.MaxControl)
	data := a.Out[:len(a.Out)-int(a.A[2])]
	flags := a.Int(1)
	var from abi.Sockaddr
	var control []byte
	var n, got int
	if u := local.Of(f); u != nil {
		r, err := u.Recv(ctx, abi.IovOf(data), flags, f.Nonblock())
		if err != nil {
			return err
		}
		n, from, got = r.N, r.From, r.Flags
		if r.Cred != nil {
			b := abi.AppendSockcred(nil, r.Cred)
			if abi.CmsgSpace(len(b)) > room {
				got |= abi.MSG_CTRUNC
			} else {
				control = abi.AppendCmsg(control, abi.SOL_SOCKET, abi.SCM_CREDS, b)
			}
		}
		if len(r.Files) > 0 {
			var all bool
			control, all = externalize(ctx, l, control, room, r.Files, flags&abi.MSG_CMSG_CLOEXEC != 0)
			if !all {
				got |= abi.MSG_CTRUNC
			}
		}
	} else {
		r, err := k.Socket.Recvmsg(ctx, l.Caller(), f, abi.IovOf(data), flags, room)
		if err != nil {
			return err
		}
		n, from, got, control = r.N, r.From, r.Flags, r.Control
	}
	a.NO = min(n, len(data))
	a.NO += copy(a.Out[a.NO:], control)
	a.R[0] = uint64(n)
	a.R[1] = uint64(len(control)) | uint64(uint32(got))<<32
	a.Addr = nil
	if !from.IsZero() {
		a.Addr = from.Marshal()
	}
	return nil
}

// externalize puts the files of a message into descriptors, as many as there
// is room for in the control buffer and in the table, and closes the rest:
// MSG_CTRUNC (unp_externalize). all reports whether there was no rest.
func externalize(ctx context.Context, l *proc.Lwp, control []byte, room int, files []*file.File, cloexec bool) (_ []byte, all bool) {
	var fds []int
	for i, f := range files {
		if len(control)+abi.CmsgSpace(4*(i+1)) > room {
			break
		}
		fd, err := l.Proc.Fd.Alloc(f, 0, cloexec)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	releaseAll(ctx, files[len(fds):])
	if len(fds) > 0 {
		control = abi.AppendRights(control, fds...)
	}
	return control, len(fds) == len(files)
}
