package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/export/nbd"
	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// How long the end may take: for clients of exports to be answered, and for what
// is dirty to be written, as the kernel itself has for unmounting.
const (
	exportEnd = 2 * time.Second
	closeTime = 10 * time.Second
)

// exports are the NBD servers of the configuration, one for each address, and
// the mounts in the host's tree.
type exports struct {
	fuse    *fuseMounts
	servers map[string]*nbd.Server
	devices []*bio.Handle
	served  sync.WaitGroup
}

// startExports opens the devices of exports/nbd and serves them. All of it is
// ended by close, also after an error.
func (h *host) startExports(ctx context.Context) (*exports, error) {
	x := &exports{servers: map[string]*nbd.Server{}, fuse: &fuseMounts{h: h}}
	for i := range h.cfg.Exports.NBD {
		e := &h.cfg.Exports.NBD[i]
		if err := h.export(ctx, x, e); err != nil {
			return x, fmt.Errorf("exports/nbd/%d: %w", i, err)
		}
	}
	for addr, s := range x.servers {
		l, err := nbd.Listen(addr, false)
		if err != nil {
			return x, err
		}
		x.served.Go(func() {
			if err := s.Serve(l); err != nil {
				h.log.Error("no more clients are taken", "export", addr, "error", err)
			}
		})
	}
	return x, h.startFuse(ctx, x.fuse)
}

// export opens one device and adds it to the server of its address.
func (h *host) export(ctx context.Context, x *exports, e *config.NBD) error {
	path := e.Device
	if path[0] != '/' {
		path = "/dev/" + path
	}
	c, err := h.k.Client("nbd")
	if err != nil {
		return err
	}
	defer c.Exit()
	st, err := c.Stat(ctx, path)
	if err != nil {
		return err
	}
	if st.Type != abi.VBLK {
		return fmt.Errorf("%s: %w", path, abi.ENOTBLK)
	}
	flags := abi.O_RDWR
	if e.RO {
		flags = abi.O_RDONLY
	}
	d, err := h.k.Bio.Open(ctx, st.Rdev, flags)
	if errors.Is(err, abi.EROFS) && !e.RO {
		d, err = h.k.Bio.Open(ctx, st.Rdev, abi.O_RDONLY)
		flags = abi.O_RDONLY
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	x.devices = append(x.devices, d)
	s := x.servers[e.Address()]
	if s == nil {
		s = nbd.NewServer(nbd.Options{Log: h.log.Named("nbd"), Evcnt: h.k.Evcnt.Attach})
		x.servers[e.Address()] = s
	}
	g, _ := d.Geometry(ctx)
	return s.Add(nbd.Export{Name: e.ExportName(), Description: g.Type, ReadOnly: e.RO, Backend: bioBackend{d, g, flags == abi.O_RDONLY}})
}

// close ends the servers, then the opens of the devices, which writes what is
// dirty: all at the same time, and for closeTime.
func (x *exports) close() error {
	unmounted := x.fuse.close()
	ctx, cancel := context.WithTimeout(context.Background(), exportEnd)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range x.servers {
		all.Go(func() { s.Close(ctx) })
	}
	all.Wait()
	x.served.Wait()
	ctx, cancel = context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	errs := make([]error, len(x.devices))
	for i, d := range x.devices {
		all.Go(func() { errs[i] = d.Close(ctx) })
	}
	all.Wait()
	x.devices = nil
	return errors.Join(append(errs, unmounted)...)
}

// closeExports is close, and says what went wrong.
func (h *host) closeExports(x *exports) {
	if err := x.close(); err != nil {
		h.log.Error("an export could not be written", "error", err)
	}
}

// bioBackend is a block device of the kernel, through the cache of its blocks,
// as the NBD server wants it. Every client and every program in the kernel sees
// the same cache, so that a flush is for all.
type bioBackend struct {
	d  *bio.Handle
	g  devops.Geom
	ro bool
}

var (
	_ nbd.Backend   = bioBackend{}
	_ nbd.TryReader = bioBackend{}
	_ nbd.TryWriter = bioBackend{}
)

func (b bioBackend) Info() nbd.Info {
	i := nbd.Info{Size: b.g.Size, Preferred: 4096, ReadOnly: b.ro || b.g.ReadOnly, Ops: nbd.OpFlush | nbd.OpFUA | nbd.OpCache | nbd.OpMultiConn}
	if b.g.Ops&devops.BDiscard != 0 {
		i.Ops |= nbd.OpTrim
	}
	if b.g.Ops&devops.BZeroes != 0 {
		i.Ops |= nbd.OpZeroes | nbd.OpFastZeroes
	}
	if o := b.g.Optimal; o > 4096 && o&(o-1) == 0 {
		i.Preferred = o
	}
	return i
}

func (b bioBackend) ReadAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := b.d.ReadAt(ctx, p, off)
		if err == nil && n == 0 {
			err = abi.EIO // the server looks at the size: this is no end
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (b bioBackend) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	_, err := b.d.WriteAt(ctx, p, off, fua)
	return err
}

func (b bioBackend) Flush(ctx context.Context) error {
	if b.ro {
		return nil
	}
	return b.d.Flush(ctx)
}

func (b bioBackend) Trim(ctx context.Context, off, n int64) error { return b.d.Discard(ctx, off, n) }

// WriteZeroes never makes holes that were not asked for, if it can be told: a
// device that has zeroes decides that itself, so that without punch it is left
// to writing.
func (b bioBackend) WriteZeroes(ctx context.Context, off, n int64, fua, punch bool) error {
	if !punch {
		return abi.EOPNOTSUPP
	}
	return b.d.Zeroes(ctx, off, n, fua)
}

func (b bioBackend) Extents(_ context.Context, _, n int64, dst []nbd.Extent) ([]nbd.Extent, error) {
	return append(dst, nbd.Extent{Len: n}), nil
}

func (b bioBackend) TryRead(p []byte, off int64) bool  { return b.d.TryReadAt(p, off) }
func (b bioBackend) TryWrite(p []byte, off int64) bool { return b.d.TryWriteAt(p, off) }
