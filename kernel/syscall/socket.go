package syscall

import (
	"context"
	"encoding/binary"
	"encoding/json"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sock finds the socket of the descriptor in A[0]. ENOTSOCK.
func sock(ctx context.Context, l *proc.Lwp, a *abi.Sysargs) (*file.File, error) {
	f, err := get(l, a, 0)
	if err != nil {
		return nil, err
	}
	if f.Type != file.TypeSocket {
		f.Release(ctx)
		return nil, abi.ENOTSOCK
	}
	return f, nil
}

func sysSocket(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := k.Socket.Socket(ctx, l.Caller(), a.Int(0), a.Int(1), a.Int(2))
	if err != nil {
		return err
	}
	return install(ctx, l, a, f, a.Int(1)&abi.SOCK_CLOEXEC != 0)
}

func sysSocketpair(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, g, err := k.Socket.Socketpair(ctx, l.Caller(), a.Int(0), a.Int(1), a.Int(2))
	if err != nil {
		return err
	}
	return installPair(ctx, l, a, f, g, a.Int(1)&abi.SOCK_CLOEXEC != 0)
}

func sysBind(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return withAddr(ctx, l, a, k.Socket.Bind)
}

func sysConnect(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return withAddr(ctx, l, a, k.Socket.Connect)
}

func withAddr(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, fn func(context.Context, *abi.Caller, *file.File, abi.Sockaddr) error) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	sa, err := abi.ParseSockaddr(a.Addr)
	if err != nil {
		return err
	}
	return fn(named(ctx, l, sa), l.Caller(), f, sa)
}

// named is a context in which an AF_LOCAL address can be looked up: from the
// lwp's working directory.
func named(ctx context.Context, l *proc.Lwp, sa abi.Sockaddr) context.Context {
	if sa.Family == abi.AF_LOCAL {
		return proc.With(ctx, l)
	}
	return ctx
}

func sysListen(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	return k.Socket.Listen(ctx, l.Caller(), f, a.Int(1))
}

// sysAccept is accept(2): the new socket is non-blocking if the listener is.
func sysAccept(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	flags := 0
	if f.Nonblock() {
		flags = abi.SOCK_NONBLOCK
	}
	return accept(ctx, k, l, a, f, flags)
}

// sysPaccept is paccept(2): A = {fd, flags}; In is a sigset_t to wait with, or
// empty. Nothing is inherited.
func sysPaccept(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	unmask, err := tailSigset(ctx, l, a, len(a.In) > 0)
	if err != nil {
		return err
	}
	defer unmask()
	return accept(ctx, k, l, a, f, a.Int(1))
}

func accept(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs, f *file.File, flags int) error {
	n, sa, err := k.Socket.Accept(ctx, l.Caller(), f, flags)
	if err != nil {
		return err
	}
	a.Addr = sa.Marshal()
	return install(ctx, l, a, n, flags&abi.SOCK_CLOEXEC != 0)
}

// sysSendto is sendto(2): A = {fd, flags}, Addr may be empty.
func sysSendto(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	var to abi.Sockaddr
	if len(a.Addr) > 0 {
		if to, err = abi.ParseSockaddr(a.Addr); err != nil {
			return err
		}
	}
	n, err := k.Socket.Sendto(named(ctx, l, to), l.Caller(), f, a.In, to, a.Int(1))
	if n > 0 {
		err = nil
	}
	if err != nil {
		writeSignal(l, f, err, a.Int(1))
	}
	a.R[0] = uint64(max(n, 0))
	return err
}

// sysRecvfrom is recvfrom(2): A = {fd, flags}; Addr is the sender's.
func sysRecvfrom(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	n, from, err := k.Socket.Recvfrom(ctx, l.Caller(), f, a.Out, a.Int(1))
	if err != nil {
		return err
	}
	a.R[0] = uint64(n)
	a.NO = min(n, len(a.Out)) // MSG_TRUNC answers the full length
	a.Addr = nil
	if !from.IsZero() {
		a.Addr = from.Marshal()
	}
	return nil
}

func sysShutdown(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	return k.Socket.Shutdown(ctx, l.Caller(), f, a.Int(1))
}

func sysSetsockopt(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if err := k.Socket.Setsockopt(ctx, l.Caller(), f, a.Int(1), a.Int(2), a.In); err != nil {
		return err
	}
	if a.Int(1) == abi.SOL_SOCKET && a.Int(2) == abi.SO_NOSIGPIPE {
		f.SetNosigpipe(binary.LittleEndian.Uint32(a.In) != 0)
	}
	return nil
}

func sysGetsockopt(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	v, err := k.Socket.Getsockopt(ctx, l.Caller(), f, a.Int(1), a.Int(2))
	if err != nil {
		return err
	}
	a.NO = copy(a.Out, v)
	return nil
}

func sysGetsockname(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return sockname(ctx, l, a, k.Socket.Getsockname)
}

func sysGetpeername(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return sockname(ctx, l, a, k.Socket.Getpeername)
}

func sockname(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, fn func(context.Context, *abi.Caller, *file.File) (abi.Sockaddr, error)) error {
	f, err := sock(ctx, l, a)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	sa, err := fn(ctx, l.Caller(), f)
	if err != nil {
		return err
	}
	a.Addr = sa.Marshal()
	return nil
}

// ifRow is an interface as sysIfstat lists it.
type ifRow struct {
	Name       string   `json:"name"`
	Class      string   `json:"class"`
	Flags      []string `json:"flags"`
	MTU        uint32   `json:"mtu"`
	Addrs      []string `json:"addrs"`
	InPackets  uint64   `json:"in_packets"`
	InBytes    uint64   `json:"in_bytes"`
	InErrors   uint64   `json:"in_errors"`
	InDrops    uint64   `json:"in_drops"`
	OutPackets uint64   `json:"out_packets"`
	OutBytes   uint64   `json:"out_bytes"`
	OutErrors  uint64   `json:"out_errors"`
}

var ifFlagNames = []struct {
	bit  uint32
	name string
}{
	{abi.IFF_UP, "UP"}, {abi.IFF_BROADCAST, "BROADCAST"}, {abi.IFF_LOOPBACK, "LOOPBACK"},
	{abi.IFF_POINTOPOINT, "POINTOPOINT"}, {abi.IFF_RUNNING, "RUNNING"}, {abi.IFF_MULTICAST, "MULTICAST"},
}

// sysIfstat lists the interfaces as a JSON array.
func sysIfstat(ctx context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	rows := []ifRow{}
	for _, i := range k.Socket.Ifs(ctx) {
		r := ifRow{Name: i.Name, Class: i.Class, Flags: []string{}, MTU: i.MTU, Addrs: []string{},
			InPackets: i.Stats.InPackets, InBytes: i.Stats.InBytes, InErrors: i.Stats.InErrors, InDrops: i.Stats.InDrops,
			OutPackets: i.Stats.OutPackets, OutBytes: i.Stats.OutBytes, OutErrors: i.Stats.OutErrors}
		if i.Stats.MTU != 0 {
			r.MTU = i.Stats.MTU
		}
		for _, f := range ifFlagNames {
			if i.Flags&f.bit != 0 {
				r.Flags = append(r.Flags, f.name)
			}
		}
		for _, p := range i.Addrs {
			r.Addrs = append(r.Addrs, p.String())
		}
		rows = append(rows, r)
	}
	b, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return answer(a, b)
}
