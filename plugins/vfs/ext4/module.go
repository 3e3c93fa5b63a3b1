package ext4

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the capabilities that the types declare. Those with a journal have
// vfsops.CapJournalled as well: what they write keeps its order on the way to the
// device. "ext2" has not, so that the kernel sees to it that a crash of the host
// leaves all of a checkpoint or nothing.
const Caps = vfsops.CapSole | vfsops.CapXattr | vfsops.CapFixedids | vfsops.CapCheckpoint | vfsops.CapBlock

// Types are the names of the file system: one driver is behind all of them.
var Types = []string{"ext4", "ext3", "ext2"}

// Module is the module "ext4". It is an FSType as well.
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
	return modapi.Info{Name: "ext4", Class: modapi.ClassVFS, Kern: abi.KernVersionCurrent, Version: "1.0.0", Caps: modapi.CapRing}
}

// Init attaches the types. The module takes no properties.
func (m *Module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.mu.Lock()
	m.k = k
	m.mu.Unlock()
	for _, name := range Types {
		caps := Caps
		if name != "ext2" {
			caps |= vfsops.CapJournalled
		}
		if err := k.AttachFS(name, m, caps); err != nil {
			return err
		}
	}
	return nil
}

// Fini ends the module; EBUSY while something is mounted.
func (m *Module) Fini(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.mounts); n > 0 {
		return fmt.Errorf("ext4: %d mounted: %w", n, abi.EBUSY)
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
		s = append(s, fmt.Sprintf("mount %d: %q, %d blocks of %d bytes, %d nodes, %d blocks cached, %d dirty", id, f.s.label, f.s.blocks, f.s.bs, len(f.nodes), len(f.c.blks), len(f.dirty)))
		f.mu.Unlock()
	}
	slices.Sort(s)
	return strings.Join(append([]string{fmt.Sprintf("%d mounts", len(s))}, s...), "\n"), nil
}

// Mount reads the superblock of req.Dev. EINVAL if there is none, for features
// that are not known, or for an option; ENXIO: no such device; EBUSY: it is in
// use; EEXIST: req.Fsid is. What can only be read is, and the log says why.
func (m *Module) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	o, err := parseOptions(req.Options)
	if err != nil {
		return nil, fmt.Errorf("ext4: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[req.Fsid] != nil {
		return nil, fmt.Errorf("ext4: file system %d is mounted already: %w", req.Fsid, abi.EEXIST)
	}
	if req.Dev == abi.NoDev || m.k == nil {
		return nil, fmt.Errorf("ext4: %q is no block device: %w", req.Source, abi.ENOTBLK)
	}
	dev, err := m.k.Block(req.Dev, abi.NoDev)
	if err != nil {
		return nil, fmt.Errorf("ext4: %s: %w", req.Source, err)
	}
	f, err := open(ctx, dev, o, req, m.k.Store(req.Fsid), m.k.Log())
	if err != nil {
		dev.Close(ctx)
		return nil, fmt.Errorf("ext4: %s: %w", req.Source, err)
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

// readSuper reads and checks the superblock of a device.
func readSuper(ctx context.Context, dev devops.BlockIO, g devops.Geom) (*super, error) {
	sector := max(int64(g.Sector), devops.DevBsize)
	from := superAt / sector * sector
	buf := make([]byte, (superAt+superLen-from+sector-1)/sector*sector)
	if g.Size < from+int64(len(buf)) {
		return nil, fmt.Errorf("a device of %d bytes: %w", g.Size, abi.EINVAL)
	}
	if err := transfer(ctx, dev, devops.BRead|devops.BMeta, from, abi.IovOf(buf)); err != nil {
		return nil, err
	}
	s, err := parseSuper(buf[superAt-from:], g.Size)
	if err == nil && (int64(g.Sector) > s.bs || s.bs > maxBlockSize) {
		err = fmt.Errorf("blocks of %d bytes on sectors of %d: %w", s.bs, g.Sector, abi.EINVAL)
	}
	return s, err
}

// open makes a mount of a device.
func open(ctx context.Context, dev devops.BlockIO, o options, req *vfsops.MountReq, st modapi.Store, log modapi.Logger) (*FS, error) {
	g, err := dev.Geometry(ctx)
	if err != nil {
		return nil, err
	}
	s, err := readSuper(ctx, dev, g)
	if err != nil {
		return nil, err
	}
	why, err := s.gate()
	if err != nil {
		return nil, err
	}
	f := &FS{
		fsid: req.Fsid, dev: dev, geom: g, opt: o, st: st, logger: log, s: s, c: newCache(dev, s.bs),
		nodes: map[uint32]*node{}, groupOK: map[uint32]bool{}, dirtyGroups: map[uint32]bool{}, dirty: map[uint64]*buf{},
		pend: map[uint32][]byte{}, revoked: map[uint64]bool{}, pinsChanged: map[uint32]bool{},
	}
	if !o.errorsSet {
		f.opt.remountRO = s.errors == 2 || s.errors == 3
	}
	if s.compat&compatHasJournal == 0 && req.Type != "ext2" && !req.ReadOnly {
		f.log("it has no journal: mounted as ext2, a crash of the host would do it no harm", "type", req.Type)
	}
	if s.bs > abi.PageSize {
		why = fmt.Sprintf("blocks of %d bytes", s.bs)
	}
	f.readOnly = req.ReadOnly || g.ReadOnly || why != ""
	if why != "" && !req.ReadOnly {
		f.log("it can only be read", "because of", why)
	}
	if err := f.start(ctx, req); err != nil {
		return nil, err
	}
	return f, nil
}

// options are the mount options after parsing.
type options struct {
	remountRO bool
	errorsSet bool
}

// parseOptions reads the mount options. EINVAL, with the option's name in the
// text, for one that is unknown or malformed.
func parseOptions(opts map[string]string) (options, error) {
	var o options
	var names []string
	for name := range opts {
		names = append(names, name)
	}
	slices.Sort(names) // the first complaint does not depend on chance
	for _, name := range names {
		v := opts[name]
		switch {
		case name == "errors" && (v == "continue" || v == "remount-ro"):
			o.remountRO, o.errorsSet = v == "remount-ro", true
		case name == "errors":
			return o, fmt.Errorf("option %s=%q: %w", name, v, abi.EINVAL)
		default:
			return o, fmt.Errorf("unknown option %q: %w", name, abi.EINVAL)
		}
	}
	return o, nil
}
