package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/export/nbd"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var nbdVerb = &verb{
	name: "nbd", group: groupDevices, max: -1,
	synopsis: []string{"serve [--socket PATH | --listen HOST:PORT] [--ro] DISK ...", "connect [--ro] [--name nbdN] CONNECT [EXPORT]"},
	short:    "serve disks of the kernel by NBD, or attach those of another server",
	long: []string{
		"nbd serve makes each DISK an export of an NBD server, under its name, until a signal ends it (exit code 0), and writes the addresses that other programs want: nbdcopy, qemu-img, nbd-client. The server is a unix socket that only the user can use, in the directory of the kernel's socket if --socket does not say; or with --listen loopback TCP, which every local user can use. Disks that are to be served as long as the kernel runs, and faster, stand in the configuration, below exports/nbd.",
		"nbd connect attaches EXPORT of another server as nbd0, nbd1, ..., the same as dev attach nbd. CONNECT is unix:/path or tcp:HOST:PORT. The dev component opens nothing itself: it must have been granted the address in the configuration, as in components/dev/grant: [\"host.connect:unix:/run/disk.sock\"]. A server that goes away and comes back is not noticed.",
	},
	examples: []example{
		{"rumpus nbd serve --socket /tmp/d.sock disk0", "Then, elsewhere: nbdcopy 'nbd+unix:///disk0?socket=/tmp/d.sock' copy.img"},
		{"rumpus nbd connect unix:/run/disk.sock disk", "The other way."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		socket := fs.String("socket", "", "serve: the unix socket `PATH`")
		listen := fs.String("listen", "", "serve: the loopback address `HOST:PORT`; port 0 is any")
		ro := fs.Bool("ro", false, "nobody can write")
		name := fs.String("name", "", "connect: the `NAME` in /dev")
		return func(ctx context.Context, c *call, args []string) error {
			if len(args) < 2 {
				return usagef("nbd serve DISK ..., or nbd connect CONNECT [EXPORT]")
			}
			switch args[0] {
			case "serve":
				if *name != "" {
					return usagef("--name is for connect")
				}
				addr := "unix:" + filepath.Join(filepath.Dir(config.DefaultSocket(c.environ)), "nbd.sock")
				switch {
				case *socket != "" && *listen != "":
					return usagef("--socket and --listen do not go together")
				case *socket != "":
					p, err := filepath.Abs(*socket)
					if err != nil {
						return err
					}
					addr = "unix:" + p
				case *listen != "":
					addr = "tcp:" + *listen
				}
				return nbdServe(ctx, c, addr, *ro, args[1:])
			case "connect":
				if *socket != "" || *listen != "" {
					return usagef("--socket and --listen are for serve")
				}
				f := devFlags{name: *name, ro: *ro}
				d, err := f.attachment(append([]string{"nbd"}, args[1:]...))
				if err != nil {
					return err
				}
				arg, err := json.Marshal(d.arg)
				if err != nil {
					return err
				}
				k, err := c.kernel(ctx)
				if err != nil {
					return err
				}
				return f.attach(ctx, c, k, d, arg)
			}
			return usagef("there is no nbd %q, only nbd serve and nbd connect", args[0])
		}
	},
}

// nbdEnd is how long clients may take to be answered at the end.
const nbdEnd = patience / 2

// nbdServe serves until ctx ends, or the kernel.
func nbdServe(ctx context.Context, c *call, addr string, ro bool, names []string) (err error) {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	s := nbd.NewServer(nbd.Options{})
	var open []*kernelDisk
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), nbdEnd)
		defer cancel()
		s.Close(end)
		for _, d := range open {
			if cerr := d.close(end); err == nil {
				err = cerr
			}
		}
	}()
	for _, n := range names {
		d, err := openDisk(ctx, k, devNode(n), ro, gone)
		if err != nil {
			return err
		}
		open = append(open, d)
		if err := s.Add(nbd.Export{Name: devNode(n), ReadOnly: ro, Backend: d}); err != nil {
			return err
		}
	}
	l, err := nbd.Listen(addr, false)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	for _, n := range names {
		c.printf("%s\n", nbdURI(l.Addr(), devNode(n)))
	}
	if err := c.out.Flush(); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	select {
	case <-ctx.Done():
		var sig errSignal
		if errors.As(context.Cause(ctx), &sig) {
			return nil
		}
		return ctx.Err()
	case err := <-gone:
		return err
	case err := <-served:
		return err
	}
}

// nbdURI is the address of an export as libnbd and qemu write it.
func nbdURI(a net.Addr, export string) string {
	if a.Network() == "unix" {
		u := url.URL{Scheme: "nbd+unix", Path: "/" + export, RawQuery: url.Values{"socket": {a.String()}}.Encode()}
		return strings.ReplaceAll("nbd+unix://"+u.EscapedPath()+"?"+u.RawQuery, "%2F", "/")
	}
	u := url.URL{Scheme: "nbd", Host: a.String(), Path: "/" + export}
	return u.String()
}

// kernelDisk is a disk of the kernel as the NBD server wants it, by the system
// calls of a client.
type kernelDisk struct {
	k    *rumpclient.Client
	fd   int
	name string
	info nbd.Info
	gone chan<- error
}

// openDisk opens one, for reading only if it cannot be written.
func openDisk(ctx context.Context, k *rumpclient.Client, name string, ro bool, gone chan<- error) (*kernelDisk, error) {
	path := "/dev/" + name
	st, err := k.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	if st.Type != abi.VBLK {
		return nil, fmt.Errorf("%s: %w", path, abi.ENOTBLK)
	}
	d := &kernelDisk{k: k, name: name, gone: gone, fd: -1}
	if !ro {
		d.fd, err = k.Open(ctx, path, abi.O_RDWR|abi.O_CLOEXEC, 0)
	}
	if ro || errors.Is(err, abi.EROFS) {
		ro = true
		d.fd, err = k.Open(ctx, path, abi.O_RDONLY|abi.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	size := make([]byte, 8)
	if _, err := k.Ioctl(ctx, d.fd, abi.DIOCGMEDIASIZE, size); err != nil {
		k.Close(ctx, d.fd)
		return nil, named(err, path)
	}
	d.info = nbd.Info{Size: int64(binary.LittleEndian.Uint64(size)), Preferred: 4096, ReadOnly: ro, Ops: nbd.OpFlush | nbd.OpMultiConn}
	return d, nil
}

// failed passes an error on; the first by which the kernel is gone ends the
// server.
func (d *kernelDisk) failed(err error) error {
	if errors.Is(err, rumpclient.ErrGone) {
		select {
		case d.gone <- err:
		default:
		}
	}
	return err
}

func (d *kernelDisk) Info() nbd.Info { return d.info }

func (d *kernelDisk) ReadAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := d.k.Pread(ctx, d.fd, p, off)
		if err == nil && n == 0 {
			err = abi.EIO // the server looks at the size: this is no end
		}
		if err != nil {
			return d.failed(err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *kernelDisk) WriteAt(ctx context.Context, p []byte, off int64, _ bool) error {
	for len(p) > 0 {
		n, err := d.k.Pwrite(ctx, d.fd, p, off)
		if err == nil && n == 0 {
			err = abi.EIO
		}
		if err != nil {
			return d.failed(err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *kernelDisk) Flush(ctx context.Context) error {
	if d.info.ReadOnly {
		return nil
	}
	return d.failed(d.k.Fsync(ctx, d.fd))
}

func (d *kernelDisk) Trim(context.Context, int64, int64) error { return abi.EOPNOTSUPP }

func (d *kernelDisk) WriteZeroes(context.Context, int64, int64, bool, bool) error {
	return abi.EOPNOTSUPP
}

func (d *kernelDisk) Extents(_ context.Context, _, n int64, dst []nbd.Extent) ([]nbd.Extent, error) {
	return append(dst, nbd.Extent{Len: n}), nil
}

// close writes what is dirty and closes.
func (d *kernelDisk) close(ctx context.Context) error {
	err := named(d.Flush(ctx), "/dev/"+d.name)
	if cerr := d.k.Close(ctx, d.fd); err == nil {
		err = cerr
	}
	return err
}
