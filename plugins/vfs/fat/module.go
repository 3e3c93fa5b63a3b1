package fat

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the capabilities that the type declares.
const Caps = vfsops.CapSole | vfsops.CapCasefold | vfsops.CapFixedids | vfsops.CapCheckpoint | vfsops.CapBlock

// Module is the module "msdos". It is an FSType as well.
type Module struct {
	mu     sync.Mutex
	mounts map[abi.Fsid]*FS
	k      modapi.Kernel
}

var (
	_ modapi.Module = (*Module)(nil)
	_ modapi.Stater = (*Module)(nil)
	_ vfsops.FSType = (*Module)(nil)
)

// New makes the module.
func New() *Module { return &Module{mounts: make(map[abi.Fsid]*FS)} }

// Info describes the module.
func (m *Module) Info() modapi.Info {
	return modapi.Info{Name: "msdos", Class: modapi.ClassVFS, Kern: abi.KernVersionCurrent, Version: "1.0.0", Caps: modapi.CapRing}
}

// Init attaches the type "msdos". The module takes no properties.
func (m *Module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.mu.Lock()
	m.k = k
	m.mu.Unlock()
	return k.AttachFS("msdos", m, Caps)
}

// Fini ends the module; EBUSY while something is mounted.
func (m *Module) Fini(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.mounts); n > 0 {
		return fmt.Errorf("msdos: %d mounted: %w", n, abi.EBUSY)
	}
	return nil
}

// Stat says what is mounted.
func (m *Module) Stat(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s []string
	for id, f := range m.mounts {
		f.mu.Lock()
		s = append(s, fmt.Sprintf("mount %d: FAT%d %q, %d clusters of %d bytes, %d nodes, %d dirty sectors", id, f.t.bits, f.t.label, f.t.clusters, f.t.cluster, len(f.nodes), len(f.c.dirty)))
		f.mu.Unlock()
	}
	slices.Sort(s)
	return strings.Join(append([]string{fmt.Sprintf("%d mounts", len(s))}, s...), "\n"), nil
}

// Mount reads the boot sector of req.Dev. EINVAL if that is no FAT, or for an
// option; ENXIO: no such device; EBUSY: it is in use; EEXIST: req.Fsid is.
func (m *Module) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	o, err := parseOptions(req.Options)
	if err != nil {
		return nil, fmt.Errorf("msdos: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[req.Fsid] != nil {
		return nil, fmt.Errorf("msdos: file system %d is mounted already: %w", req.Fsid, abi.EEXIST)
	}
	if req.Dev == abi.NoDev || m.k == nil {
		return nil, fmt.Errorf("msdos: %q is no block device: %w", req.Source, abi.ENOTBLK)
	}
	dev, err := m.k.Block(req.Dev, abi.NoDev)
	if err != nil {
		return nil, fmt.Errorf("msdos: %s: %w", req.Source, err)
	}
	f, err := open(ctx, dev, o, req, m.k.Store(req.Fsid), m.k.Log())
	if err != nil {
		dev.Close(ctx)
		return nil, fmt.Errorf("msdos: %s: %w", req.Source, err)
	}
	f.mod = m
	m.mounts[req.Fsid] = f
	return f, nil
}

func (m *Module) unmounted(f *FS) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[f.fsid] == f {
		delete(m.mounts, f.fsid)
	}
}

// open makes a mount of a device.
func open(ctx context.Context, dev devops.BlockIO, o options, req *vfsops.MountReq, st modapi.Store, log modapi.Logger) (*FS, error) {
	g, err := dev.Geometry(ctx)
	if err != nil {
		return nil, err
	}
	first := make([]byte, max(int64(g.Sector), minSector))
	if g.Sector > maxSector || g.Size < int64(len(first)) {
		return nil, fmt.Errorf("a device of %d bytes in sectors of %d: %w", g.Size, g.Sector, abi.EINVAL)
	}
	if err := transfer(ctx, dev, devops.BRead|devops.BMeta, 0, abi.IovOf(first)); err != nil {
		return nil, err
	}
	l, err := parseBPB(first, g.Size, g.Sector)
	if err != nil {
		return nil, err
	}
	f := &FS{fsid: req.Fsid, dev: dev, geom: g, opt: o, st: st, logger: log, nodes: map[abi.Fileid]*node{}, owners: map[uint32]abi.Fileid{}}
	f.c = newCache(dev, l.sector)
	f.t = table{layout: &l, c: f.c}
	f.ids = ids{byPlace: map[int64]abi.Fileid{}, byID: map[abi.Fileid]int64{}, changed: map[abi.Fileid]bool{}, burnt: map[abi.Fileid]abi.Gen{}, gens: map[abi.Fileid]abi.Gen{}}
	root := &node{id: rootID, gen: 1, dir: true, s: slot{attr: attrDir}}
	root.ch.reset(l.rootFirst)
	f.nodes[rootID] = root
	f.ro = req.ReadOnly || g.ReadOnly
	switch {
	case req.Seq != 0:
		if err := f.restore(ctx); err != nil {
			return nil, err
		}
	case !f.ro:
		if err := f.recoverLost(ctx); err != nil {
			return nil, err
		}
	}
	if err := f.readDir(ctx, root); err != nil {
		return nil, err
	}
	return f, nil
}

// options are the mount options after parsing.
type options struct {
	uid, gid      uint32
	mask, dirmask uint32
	gmtoff        int64
}

// parseOptions reads the mount options. EINVAL, with the option's name in the
// text, for one that is unknown or malformed.
func parseOptions(opts map[string]string) (options, error) {
	o := options{mask: 0o755, dirmask: math.MaxUint32}
	var names []string
	for name := range opts {
		names = append(names, name)
	}
	slices.Sort(names) // the first complaint does not depend on chance
	for _, name := range names {
		var err error
		num := func(base, bits int) uint32 {
			var n uint64
			n, err = strconv.ParseUint(opts[name], base, bits)
			return uint32(n)
		}
		switch name {
		case "uid":
			o.uid = num(10, 32)
		case "gid":
			o.gid = num(10, 32)
		case "mask":
			o.mask = num(8, 9)
		case "dirmask":
			o.dirmask = num(8, 9)
		case "gmtoff":
			o.gmtoff, err = strconv.ParseInt(opts[name], 10, 64)
			if o.gmtoff < -86400 || o.gmtoff > 86400 {
				err = abi.EINVAL
			}
		default:
			return o, fmt.Errorf("unknown option %q: %w", name, abi.EINVAL)
		}
		if err != nil {
			return o, fmt.Errorf("option %s=%q: %w", name, opts[name], abi.EINVAL)
		}
	}
	if o.dirmask == math.MaxUint32 {
		o.dirmask = o.mask
	}
	return o, nil
}
