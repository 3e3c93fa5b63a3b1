package main

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cons"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/dk"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// This program is the plugins as well: the modules that are shipped, wrapped so
// that a control page can have them die at a moment of their work.

// pageProp is the property that names the file of the control page.
const pageProp = "chaos-page"

// isComponent reports whether the supervisor started this process.
func isComponent() bool {
	h := serve.Handshake()
	return os.Getenv(h.MagicCookieKey) == h.MagicCookieValue && os.Getenv(serve.EnvInstance) != ""
}

// component is what it then does.
func component() {
	f := &faulty{pid: uint32(os.Getpid())}
	switch os.Getenv(serve.EnvInstance) {
	case "net":
		serve.Main(netMod{inet.New(), f})
	case "dev":
		serve.Main(memMod{mem.New(), f}, rnd.New(), cons.New(), md.New(), dk.New(), cgd.New())
	}
	serve.Main(tmpfsMod{tmpfs.New(), f}, hostfsMod{hostfs.New(), f}, fatMod{fat.New(), f})
}

// faulty does faults in this process.
type faulty struct {
	pid  uint32
	page atomic.Pointer[page]
}

// init opens the page, and passes the first moment of a process.
func (f *faulty) init(k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	path, _ := p[pageProp].(string)
	if path == "" {
		return nil
	}
	file, err := k.Granted("host.file:" + path)
	if err != nil {
		return err
	}
	defer file.Close()
	pg, err := mapPage(file)
	if err != nil {
		return err
	}
	f.page.Store(pg)
	pg.newest.Store(uint64(f.pid))
	if r == modapi.Restart {
		f.at(mInit)
	}
	return nil
}

// at passes a moment.
func (f *faulty) at(m moment) {
	if p := f.page.Load(); p != nil && p.order.Load() != 0 {
		if k, now := p.at(m, f.pid); now {
			do(k)
		}
	}
}

// do does a fault to this process, and does not return.
func do(k kind) {
	switch k {
	case kKill:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case kStop:
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case kPanic:
		panic("as chaos has it")
	case kExit:
		os.Exit(3)
	case kAbort:
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
	case kBomb: // bounded, or others would be hit as well
		lim := syscall.Rlimit{Cur: 3 << 30, Max: 3 << 30}
		if syscall.Setrlimit(syscall.RLIMIT_AS, &lim) != nil {
			os.Exit(4)
		}
		var all [][]byte
		for {
			all = append(all, make([]byte, 64<<20))
		}
	case kLoop:
		for n := 0; ; n++ {
		}
	}
	select {} // a deadlock, and a thread may run on for a moment after a signal
}

// around passes the moments before and after a mutator.
func around[T any](f *faulty, call func() (T, error)) (T, error) {
	f.at(mReplay)
	f.at(mBefore)
	v, err := call()
	f.at(mAfter)
	return v, err
}

// hooked is a kernel whose AttachFS wraps the type.
type hooked struct {
	modapi.Kernel
	t vfsops.FSType
}

func (k hooked) AttachFS(name string, _ vfsops.FSType, c vfsops.Caps) error {
	return k.Kernel.AttachFS(name, k.t, c)
}

// mounted passes the moments of a mount.
func mounted(f *faulty, call func() (vfsops.FS, error)) (vfsops.FS, error) {
	f.at(mMount)
	fs, err := call()
	f.at(mMounted)
	return fs, err
}

type (
	tmpfsMod struct {
		*tmpfs.Module
		f *faulty
	}
	tmpfsFS struct {
		*tmpfs.FS
		f *faulty
	}
	fatMod struct {
		*fat.Module
		f *faulty
	}
	fatFS struct {
		*fat.FS
		f *faulty
	}
	hostfsMod struct {
		*hostfs.Module
		f *faulty
	}
	hostfsFS struct {
		*hostfs.FS
		f *faulty
	}
	netMod struct {
		*inet.Module
		f *faulty
	}
	memMod struct {
		modapi.Module
		f *faulty
	}
)

func (m tmpfsMod) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if err := m.f.init(k, r, p); err != nil {
		return err
	}
	return m.Module.Init(ctx, hooked{k, m}, r, p)
}

func (m tmpfsMod) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	return mounted(m.f, func() (vfsops.FS, error) {
		fs, err := m.Module.Mount(ctx, req)
		if err != nil {
			return nil, err
		}
		return tmpfsFS{fs.(*tmpfs.FS), m.f}, nil
	})
}

func (m fatMod) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if r == modapi.Restart { // others are there already
		m.f.at(mInit)
	}
	return m.Module.Init(ctx, hooked{k, m}, r, p)
}

func (m fatMod) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	return mounted(m.f, func() (vfsops.FS, error) {
		fs, err := m.Module.Mount(ctx, req)
		if err != nil {
			return nil, err
		}
		return fatFS{fs.(*fat.FS), m.f}, nil
	})
}

func (m hostfsMod) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return m.Module.Init(ctx, hooked{k, m}, r, p)
}

func (m hostfsMod) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	fs, err := m.Module.Mount(ctx, req)
	if err != nil {
		return nil, err
	}
	return hostfsFS{fs.(*hostfs.FS), m.f}, nil
}

// In net the moments are sends and receives, in dev the reads of /dev/zero.

func (m netMod) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if err := m.f.init(k, r, p); err != nil {
		return err
	}
	return m.Module.Init(ctx, netKernel{k, m.f}, r, p)
}

type netKernel struct {
	modapi.Kernel
	f *faulty
}

type domain struct {
	*inet.Domain
	f *faulty
}

func (k netKernel) AttachDomain(af int, d sockops.Domain) error {
	return k.Kernel.AttachDomain(af, domain{d.(*inet.Domain), k.f})
}

func (d domain) Send(ctx context.Context, id abi.SockID, req sockops.SendReq, src abi.Iov) (int, error) {
	d.f.at(mQuick)
	d.f.at(mBefore)
	n, err := d.Domain.Send(ctx, id, req, src)
	d.f.at(mAfter)
	return n, err
}

func (d domain) Recv(ctx context.Context, id abi.SockID, req sockops.RecvReq, dst abi.Iov) (sockops.RecvRes, error) {
	d.f.at(mRead)
	return d.Domain.Recv(ctx, id, req, dst)
}

type chrKernel struct {
	modapi.Kernel
	f *faulty
}

type chr struct {
	devops.Chr
	devops.Noder
	f *faulty
}

func (k chrKernel) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	return k.Kernel.AttachChr(name, chr{d, d.(devops.Noder), k.f})
}

func (c chr) Read(ctx context.Context, unit uint32, off int64, dst abi.Iov, flags int) (int, error) {
	c.f.at(mRead)
	c.f.at(mQuick)
	return c.Chr.Read(ctx, unit, off, dst, flags)
}

func (m memMod) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if err := m.f.init(k, r, p); err != nil {
		return err
	}
	return m.Module.Init(ctx, chrKernel{k, m.f}, r, p)
}
