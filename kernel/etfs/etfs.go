// Package etfs makes files and block devices of the host devices of the kernel
// (rump_etfs(3)): a disk image becomes /dev/disk0.
//
// # The usual sequence
//
//	t := etfs.New(etfs.Options{Open: hyper.OpenFile})
//	err := t.Register(ctx, etfs.Spec{Key: "/dev/disk0", Host: "disk.img", Type: etfs.Blk})
//	... the device switch calls t, which is a devops.Blk
//	err = t.Remove("/dev/disk0")
//
// # What a key names
//
// A key is an absolute path of the kernel; slashes that follow each other count
// as one. Type Blk is a block device, with its raw side (rdisk0) beside it; Chr
// has the raw side only; Reg is moved by bytes and shows no sectors. All of them
// are nodes of the device file system, so a key lies directly in /dev.
//
// # The window
//
// Of the host's file the device shows Size bytes from Offset. A file whose
// length is no multiple of the sector loses the rest: nothing reads or writes
// it. A file that becomes shorter while it is in use answers EIO where there is
// nothing left.
//
// # Hosts
//
// The file is opened when the key is registered, and locked against other
// kernels. A component never sees the path: it reaches the device through the
// kernel. Calls wait in threads for the host's disk, at most QueueDepth for one
// device, so that a disk that hangs holds up nobody else.
//
// Locks: Table.mu, a leaf; it is not held over calls to the host.
package etfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Type is how a key shows (enum rump_etfs_type).
type Type string

// The types. NetBSD has directories too; here hostfs shows those.
const (
	Reg Type = "reg"
	Blk Type = "blk"
	Chr Type = "chr"
)

// QueueDepth is how many requests of one device wait for the host at once.
const QueueDepth = 32

// MaxKeys bounds the keys of a kernel.
const MaxKeys = 1024

// DirDev is where keys lie.
const DirDev = "/dev"

// Spec is a key to register (rump_pub_etfs_register_withsize).
type Spec struct {
	Key      string // "/dev/disk0"
	Host     string // path on the host
	Type     Type   // "" = Blk
	Offset   int64  // of the first byte, a multiple of the sector
	Size     int64  // bytes; 0 = up to the end
	ReadOnly bool
	NoLock   bool // let other kernels open the file too
}

// Info is a key as it is registered.
type Info struct {
	Spec
	Node string // below /dev
	Unit uint32
	Geom devops.Geom
	Open int // how often
}

// Options configure a Table.
type Options struct {
	// Open opens on the host.
	Open func(ctx context.Context, o hyper.FileOpen) (hyper.File, error)
	// Changed is called, without locks, when the nodes are others.
	Changed func()
}

// Table is the keys of a kernel; it is the driver "etfs" of the device switch.
type Table struct {
	o Options

	mu    sync.Mutex
	units map[uint32]*unit // protected by mu
}

// unit is one key.
type unit struct {
	spec Spec
	node string
	f    hyper.File
	geom devops.Geom
	q    chan struct{} // a place for each request that waits for the host

	opens int // protected by Table.mu
	gone  atomic.Bool
}

var (
	_ devops.Blk   = (*Table)(nil)
	_ devops.Noder = (*Table)(nil)
)

// New makes a table without keys.
func New(o Options) *Table { return &Table{o: o, units: make(map[uint32]*unit)} }

// nodeOf checks a key and answers the node's name.
func nodeOf(key string) (string, error) {
	if !strings.HasPrefix(key, "/") {
		return "", fmt.Errorf("etfs key %.80q: not an absolute path: %w", key, abi.EINVAL)
	}
	if len(key) > abi.PATH_MAX {
		return "", fmt.Errorf("etfs key %.40q...: %w", key, abi.ENAMETOOLONG)
	}
	dir, name := path.Split(path.Clean(key))
	if path.Clean(dir) != DirDev || name == "" || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("etfs key %.80q: does not lie directly in %s: %w", key, DirDev, abi.EINVAL)
	}
	if len(name) > abi.NAME_MAX-1 { // r before it
		return "", fmt.Errorf("etfs key %.40q...: %w", key, abi.ENAMETOOLONG)
	}
	return name, nil
}

// Register makes a key (rump_etfs_register). EINVAL: no absolute path below
// /dev, or a window that is none; EEXIST: the key is there, or its raw side
// would be in the way of another's; EBUSY: another kernel has the file; EFTYPE:
// it is neither a regular file nor a block device; EROFS cannot come: what the
// user may not write is EACCES, and wants ReadOnly.
func (t *Table) Register(ctx context.Context, s Spec) error {
	if s.Type == "" {
		s.Type = Blk
	}
	if s.Type != Blk && s.Type != Chr && s.Type != Reg {
		return fmt.Errorf("etfs %s: type %.40q is not one of reg, blk, chr: %w", s.Key, s.Type, abi.EINVAL)
	}
	name, err := nodeOf(s.Key)
	if err != nil {
		return err
	}
	s.Key = DirDev + "/" + name
	if s.Host == "" || strings.ContainsRune(s.Host, 0) {
		return fmt.Errorf("etfs %s: no path on the host: %w", s.Key, abi.EINVAL)
	}
	if err := t.free(name); err != nil {
		return err
	}
	f, err := t.o.Open(ctx, hyper.FileOpen{Path: s.Host, ReadOnly: s.ReadOnly, NoLock: s.NoLock})
	if err != nil {
		return fmt.Errorf("etfs %s: %w", s.Key, err)
	}
	g, err := window(f, s)
	if err == nil {
		err = t.add(&unit{spec: s, node: name, f: f, geom: g, q: make(chan struct{}, QueueDepth)})
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("etfs %s: %w", s.Key, err)
	}
	if t.o.Changed != nil {
		t.o.Changed()
	}
	return nil
}

func (t *Table) free(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.freeLocked(name)
}

func (t *Table) freeLocked(name string) error {
	for _, u := range t.units {
		if u.node == name || "r"+u.node == name || u.node == "r"+name {
			return fmt.Errorf("etfs key %s/%s: %w", DirDev, name, abi.EEXIST)
		}
	}
	return nil
}

func (t *Table) add(u *unit) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.freeLocked(u.node); err != nil {
		return err
	}
	if len(t.units) >= MaxKeys {
		return fmt.Errorf("%d keys: %w", len(t.units), abi.ENOMEM)
	}
	n := uint32(0)
	for t.units[n] != nil {
		n++
	}
	t.units[n] = u
	return nil
}

// window checks what a spec shows of a file.
func window(f hyper.File, s Spec) (devops.Geom, error) {
	in, err := f.Info()
	if err != nil {
		return devops.Geom{}, err
	}
	sec := int64(in.Sector)
	if sec < devops.DevBsize || sec > 64<<10 || sec&(sec-1) != 0 {
		return devops.Geom{}, fmt.Errorf("sectors of %d bytes on the host: %w", sec, abi.EFTYPE)
	}
	switch {
	case s.Offset < 0 || s.Size < 0:
		return devops.Geom{}, fmt.Errorf("offset %d, size %d: %w", s.Offset, s.Size, abi.EINVAL)
	case s.Offset%sec != 0 || s.Size%sec != 0:
		return devops.Geom{}, fmt.Errorf("offset %d, size %d: not whole sectors of %d bytes: %w", s.Offset, s.Size, sec, abi.EINVAL)
	case s.Offset > in.Size || s.Size > in.Size-s.Offset:
		return devops.Geom{}, fmt.Errorf("offset %d, size %d: reaches behind the %d bytes of %s: %w", s.Offset, s.Size, in.Size, s.Host, abi.EINVAL)
	}
	size := s.Size
	if size == 0 {
		size = (in.Size - s.Offset) / sec * sec
	}
	typ := "etfs, a file of the host"
	if in.Block {
		typ = "etfs, a block device of the host"
	}
	return devops.Geom{
		Size: size, Sector: uint32(sec), MaxIO: devops.MaxPhys, ReadOnly: s.ReadOnly || in.ReadOnly,
		Ops: devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes, Type: typ,
	}, nil
}

// Remove takes a key away (rump_etfs_remove). ENOENT: there is none; EBUSY: the
// device is open.
func (t *Table) Remove(key string) error {
	name, err := nodeOf(key)
	if err != nil {
		return err
	}
	t.mu.Lock()
	var u *unit
	for n, x := range t.units {
		if x.node != name {
			continue
		}
		if x.opens > 0 {
			t.mu.Unlock()
			return fmt.Errorf("etfs key %s: open: %w", key, abi.EBUSY)
		}
		u = x
		u.gone.Store(true)
		delete(t.units, n)
	}
	t.mu.Unlock()
	if u == nil {
		return fmt.Errorf("etfs key %s: %w", key, abi.ENOENT)
	}
	err = u.f.Close()
	if t.o.Changed != nil {
		t.o.Changed()
	}
	return err
}

// CloseAll takes all keys away, open or not: the kernel ends.
func (t *Table) CloseAll() {
	t.mu.Lock()
	all := t.units
	t.units = make(map[uint32]*unit)
	t.mu.Unlock()
	for _, u := range all {
		u.gone.Store(true)
		u.f.Close()
	}
}

// List tells the keys by name.
func (t *Table) List() []Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := make([]Info, 0, len(t.units))
	for n, u := range t.units {
		r = append(r, Info{Spec: u.spec, Node: u.node, Unit: n, Geom: u.geom, Open: u.opens})
	}
	slices.SortFunc(r, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return r
}

// File is the host's file behind a node of /dev, for who writes an image by its
// own rules (the redo file beside it). The Table keeps it.
func (t *Table) File(n uint32) (hyper.File, Spec, error) {
	u, err := t.unit(n)
	if err != nil {
		return nil, Spec{}, err
	}
	return u.f, u.spec, nil
}

// Nodes is one node a key, for the super-user.
func (t *Table) Nodes() []devops.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := make([]devops.Node, 0, len(t.units))
	for n, u := range t.units {
		r = append(r, devops.Node{Name: u.node, Unit: n, Mode: 0o640})
	}
	return r
}

// Shows says how a key shows (dev.Shower).
func (t *Table) Shows(n uint32) (raw, file bool, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.units[n]
	if u == nil {
		return false, false, 0
	}
	return u.spec.Type == Chr, u.spec.Type == Reg, u.geom.Size
}

func (t *Table) unit(n uint32) (*unit, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.units[n]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("etfs: no unit %d: %w", n, abi.ENXIO)
}

// Geometry is the window.
func (t *Table) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	u, err := t.unit(n)
	if err != nil {
		return devops.Geom{}, err
	}
	return u.geom, nil
}

// Open counts who has it open. EROFS.
func (t *Table) Open(_ context.Context, n uint32, flags int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.units[n]
	switch {
	case u == nil:
		return fmt.Errorf("etfs: no unit %d: %w", n, abi.ENXIO)
	case u.geom.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY:
		return fmt.Errorf("etfs %s: %w", u.spec.Key, abi.EROFS)
	}
	u.opens++
	return nil
}

// Close is the way back.
func (t *Table) Close(_ context.Context, n uint32, _ int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.units[n]; u != nil && u.opens > 0 {
		u.opens--
	}
	return nil
}

// Ioctl knows nothing.
func (t *Table) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// Strategy moves a buf between its data and the host's file.
func (t *Table) Strategy(ctx context.Context, b *devops.Buf) error {
	u, err := t.unit(b.Dev.Minor())
	if err != nil {
		return err
	}
	select {
	case u.q <- struct{}{}:
	default: // the way of a select with two cases is long
		select {
		case u.q <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("etfs %s: %w", u.spec.Key, abi.ETIMEDOUT)
		}
	}
	err = u.strategy(b)
	<-u.q
	if err != nil && u.gone.Load() {
		err = fmt.Errorf("gone: %w", abi.ENXIO)
	}
	if err != nil {
		return fmt.Errorf("etfs %s: %w", u.spec.Key, err)
	}
	return nil
}

// check holds a buf against the device.
func (u *unit) check(b *devops.Buf) error {
	sec := int64(u.geom.Sector)
	op := b.Flags & devops.BOpMask
	data := op == devops.BRead || op == devops.BWrite
	switch {
	case op == devops.BFlush:
		return nil
	case op != devops.BRead && u.geom.ReadOnly:
		return abi.EROFS
	case b.Blkno < 0 || b.Bytes < 0 || data && b.Bytes != int64(b.Data.Len()):
		return fmt.Errorf("a request of %d bytes with %d at block %d: %w", b.Bytes, b.Data.Len(), b.Blkno, abi.EINVAL)
	case b.Blkno > u.geom.Size/devops.DevBsize || b.Bytes > u.geom.Size-b.Blkno*devops.DevBsize:
		return fmt.Errorf("%d bytes at block %d reach behind the end at block %d: %w", b.Bytes, b.Blkno, u.geom.Size/devops.DevBsize, abi.EINVAL)
	case b.Blkno*devops.DevBsize%sec != 0 || b.Bytes%sec != 0:
		return fmt.Errorf("%d bytes at block %d: not whole sectors of %d bytes: %w", b.Bytes, b.Blkno, sec, abi.EINVAL)
	}
	return nil
}

func (u *unit) strategy(b *devops.Buf) error {
	if err := u.check(b); err != nil {
		return err
	}
	off := u.spec.Offset + b.Blkno*devops.DevBsize
	durable := b.Flags&devops.BFua != 0
	switch b.Flags & devops.BOpMask {
	case devops.BRead:
		n, err := u.f.ReadAt(b.Data, off)
		if err == nil && int64(n) < b.Bytes {
			err = fmt.Errorf("%s ends %d bytes too early, it was made shorter: %w", u.spec.Host, b.Bytes-int64(n), abi.EIO)
		}
		return err
	case devops.BWrite:
		_, err := u.f.WriteAt(b.Data, off, durable)
		return err
	case devops.BFlush:
		return u.f.Sync()
	case devops.BDiscard:
		if b.Bytes == 0 {
			return nil
		}
		return u.f.Discard(off, b.Bytes)
	case devops.BZeroes:
		return u.zero(off, b.Bytes, durable)
	}
	return fmt.Errorf("flags %#x: %w", uint32(b.Flags), abi.EINVAL)
}

// zero writes zeroes where the host has no better way.
func (u *unit) zero(off, n int64, durable bool) error {
	if n == 0 {
		return nil
	}
	err := u.f.Zero(off, n)
	if errors.Is(err, abi.EOPNOTSUPP) {
		zeroes := make([]byte, min(n, devops.MaxPhys))
		for err = nil; n > 0 && err == nil; {
			k := min(n, int64(len(zeroes)))
			_, err = u.f.WriteAt(abi.IovOf(zeroes[:k]), off, false)
			off, n = off+k, n-k
		}
	}
	if err == nil && durable {
		err = u.f.Sync()
	}
	return err
}

// Config is a Spec as Configure gets it.
type Config struct {
	Name     string `json:"name"` // below /dev
	Host     string `json:"host"`
	Type     Type   `json:"type,omitempty"`
	Offset   int64  `json:"offset,omitempty"`
	Size     int64  `json:"size,omitempty"`
	ReadOnly bool   `json:"ro,omitempty"`
	NoLock   bool   `json:"nolock,omitempty"`
}

var _ devops.Configurer = (*Table)(nil)

// Configure is Register, by a Config in JSON.
func (t *Table) Configure(ctx context.Context, _ devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(arg))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || on != abi.NoDev {
		return devops.Units{}, fmt.Errorf("etfs: the argument is a name and a path on the host (%v): %w", err, abi.EINVAL)
	}
	key := DirDev + "/" + c.Name
	if err := t.Register(ctx, Spec{Key: key, Host: c.Host, Type: c.Type, Offset: c.Offset, Size: c.Size, ReadOnly: c.ReadOnly, NoLock: c.NoLock}); err != nil {
		return devops.Units{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, u := range t.units {
		if u.node == c.Name {
			return devops.Units{First: n, Count: 1}, nil
		}
	}
	return devops.Units{}, fmt.Errorf("etfs %s: taken away meanwhile: %w", key, abi.ENXIO)
}

// Unconfigure is Remove. By force, who has it open gets ENXIO.
func (t *Table) Unconfigure(_ context.Context, us devops.Units, force bool) error {
	u, err := t.unit(us.First)
	if err != nil {
		return err
	}
	if force {
		t.mu.Lock()
		u.opens = 0
		t.mu.Unlock()
	}
	return t.Remove(u.spec.Key)
}
