package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/etfs"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cons"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// transportEnv forces the stream when it is "stream".
const transportEnv = "RUMPUS_TRANSPORT"

// granted is hostfs bound in-process, with a grant of its own.
type granted struct {
	*hostfs.Module
	dir string
}

// Init gives the module a kernel that grants the directory.
func (g granted) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return g.Module.Init(ctx, grantKernel{k, g.dir}, r, p)
}

type grantKernel struct {
	modapi.Kernel
	dir string
}

func (k grantKernel) Granted(name string) (*os.File, error) {
	if name != "host.dir:"+k.dir {
		return nil, abi.ENOENT
	}
	fd, err := unix.Open(k.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), k.dir), nil
}

// component is what this program does when the supervisor started it.
func component() {
	switch os.Getenv(serve.EnvInstance) {
	case "net":
		serve.Main(inet.New())
	case "dev":
		serve.Main(mem.New(), md.New())
	}
	serve.Main(tmpfs.New(), hostfs.New())
}

// isComponent reports whether the supervisor started this process.
func isComponent() bool {
	h := serve.Handshake()
	return os.Getenv(h.MagicCookieKey) == h.MagicCookieValue && os.Getenv(serve.EnvInstance) != ""
}

// rumpKernel is a kernel in this process with its mounts and files.
type rumpKernel struct {
	k      *kernel.Kernel
	sup    *supervise.Supervisor
	client *rumpclient.Client
	socket string
	stop   func()

	mu   sync.Mutex
	pids []int // protected by mu until Boot returns; of the component processes
}

type hypercalls struct {
	hyper.Base
	k *rumpKernel
}

func (h hypercalls) Load(ctx context.Context, s hyper.PluginSpec) (hyper.Plugin, error) {
	p, err := h.k.sup.Load(ctx, s)
	if err == nil && p.Pid() > 0 {
		h.k.mu.Lock()
		h.k.pids = append(h.k.pids, p.Pid())
		h.k.mu.Unlock()
	}
	return p, err
}

// bootKernel boots a kernel, with its modules in this process or in processes
// of their own, over the transport, and mounts: tmpfs on
// /, tmpfs with nocache on /x, hostfs over grantDir on /host. With a socket it serves remote
// clients there.
func bootKernel(procs bool, transport, grantDir, socket string) (_ *rumpKernel, err error) {
	if transport != "" {
		os.Setenv(transportEnv, transport)
		defer os.Unsetenv(transportEnv)
	}
	r := &rumpKernel{}
	img, err := makeDisk(grantDir)
	if err != nil {
		return nil, err
	}
	disk, err := json.Marshal(etfs.Config{Name: "disk0", Host: img})
	if err != nil {
		return nil, err
	}
	props := modapi.Props{"md": map[string]any{"md0": diskBytes}}
	o := kernel.Options{Hostname: "bench", MemLimit: 256 << 20, Devices: []kernel.Device{{Driver: "etfs", Arg: disk}}}
	if procs {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		pol := supervise.DefaultPolicy
		pol.Grants = []string{"host.dir:" + grantDir + ":rw"}
		r.sup = supervise.NewSupervisor(func(string) (string, error) { return exe, nil },
			map[string]supervise.Policy{"vfs": pol}, hclog.New(&hclog.LoggerOptions{Name: "bench", Level: hclog.Error}))
		r.sup.Evcnt = func(group, name string) *modapi.Counter { return r.k.Evcnt.Attach(group, name) }
		o.Hyper = hypercalls{k: r}
		for name, class := range map[string]modapi.Class{"vfs": modapi.ClassVFS, "net": modapi.ClassNet, "dev": modapi.ClassDriver} {
			c := kernel.Component{Name: name, Plugin: name, Class: class, Essential: true}
			if name == "dev" {
				c.Props = props
			}
			o.Components = append(o.Components, c)
		}
		o.Watch = func(k *kernel.Kernel, i *module.Instance) { r.sup.Watch(k.Mod, i) }
	} else {
		o.Modules = []modapi.Module{tmpfs.New(), granted{hostfs.New(), grantDir}, inet.New(), mem.New(), md.New()}
		o.Props = map[string]modapi.Props{"md": props}
	}
	r.k = kernel.New(o)
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := r.k.Boot(bg); err != nil {
		return nil, err
	}
	if r.client, err = r.k.Client("bench"); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		typ, dir, source string
		opts             map[string]string
	}{
		{"tmpfs", "/x", "", map[string]string{"nocache": ""}},
		{"hostfs", "/host", grantDir, nil},
	} {
		if err := r.client.Mkdir(bg, m.dir, 0o755); err != nil {
			return nil, err
		}
		if err := r.client.Mount(bg, m.typ, m.dir, 0, m.source, m.opts); err != nil {
			return nil, err
		}
	}
	if err := populate(r.client, hitDir, crossDir, hostDir, manyDir); err != nil {
		return nil, err
	}
	if socket != "" {
		err = r.listen(socket)
	}
	return r, err
}

// bootBare boots a kernel with its modules in this process, and a root file
// system.
func bootBare() (*kernel.Kernel, error) {
	k := kernel.New(kernel.Options{Hostname: "bench", MemLimit: 64 << 20,
		Modules: []modapi.Module{tmpfs.New(), inet.New(), mem.New(), rnd.New(), cons.New()}})
	return k, k.Boot(bg)
}

// listen serves remote clients.
func (r *rumpKernel) listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sysproxy.Serve(ctx, l, sysproxy.Options{Evcnt: r.k.Evcnt.Attach, NewProc: func(_ context.Context, p sysproxy.Peer) (sysproxy.Proc, error) {
			return r.k.NewProc(p.Name, abi.Root)
		}})
	}()
	r.socket, r.stop = path, func() { cancel(); <-done; os.Remove(path) }
	return nil
}

// rings reports whether calls to components went over rings.
func (r *rumpKernel) rings() bool {
	for _, e := range r.k.Evcnt.Rows() {
		if e.Group == "ring" && e.Name == "calls" && e.Count > 0 {
			return true
		}
	}
	return false
}

func (r *rumpKernel) close() {
	if r.stop != nil {
		r.stop()
	}
	if r.client != nil {
		r.client.Exit()
	}
	r.k.Reboot(bg, 0)
	if r.sup != nil {
		r.sup.Close()
	}
}

// workDir makes a directory for files, on /dev/shm if the machine has that,
// and for sockets.
func workDir() (dir string, shm bool, err error) {
	base := "/dev/shm"
	var st unix.Statfs_t
	if unix.Statfs(base, &st) == nil && st.Type == unix.TMPFS_MAGIC && unix.Access(base, unix.W_OK) == nil {
		shm = true
	} else {
		base = os.TempDir()
	}
	if dir, err = os.MkdirTemp(base, "rumpus-bench-"); err != nil {
		return "", false, err
	}
	if err = os.Chmod(dir, 0o711); err == nil { // a component may have another uid
		err = os.Mkdir(filepath.Join(dir, "host"), 0o777)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", false, fmt.Errorf("work directory: %w", err)
	}
	return dir, shm, nil
}
