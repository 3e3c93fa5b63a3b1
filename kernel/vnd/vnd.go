// Package vnd makes files of the kernel block devices of the kernel, vnd(4): a
// disk image on a file system becomes /dev/vnd0.
//
// # The usual sequence
//
//	t := vnd.New(vnd.Options{Open: ..., Changed: ...})
//	number, err := devSwitch.AttachBlk("", "vnd", t)
//	nodes, err := devSwitch.Attach(ctx, "vnd", abi.NoDev, []byte(`{"name": "vnd0", "file": "/disk.img"}`))
//	err = devSwitch.Detach(ctx, "vnd0", false)
//
// The file is opened by the kernel, as the super-user, and stays open as long as
// the unit is there: its file system cannot be unmounted (EBUSY). It has a size
// in whole sectors, and keeps it; what is left over at its end is not used.
//
// # What a request is
//
// Reads and writes go between the buf's memory and the vnode, without a copy of
// their own; a flush is fsync; discard and zeroes punch holes where the file
// system can, and are zeroes written where it cannot. Holes stay holes until
// they are written. At most QueueDepth requests of a unit are in the file system
// at a time. A file that became shorter answers EIO where there is nothing left;
// ENOSPC is the file system's.
//
// # Numbers
//
// A unit's number is not used again while the kernel runs, whatever its name.
// So a file system that is still mounted on a unit that was detached by force
// never comes upon another file, least of all one of its own: a unit is always
// younger than the open of its file, which is younger than what the file's file
// system is mounted on. There are no circles.
//
// # Locks
//
//	Table.mu   the units; not held over calls to a file system
//
// Requests are made without locks of this package.
package vnd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// QueueDepth is how many requests of one unit are in the file system at once.
const QueueDepth = 16

// MaxUnits bounds the units that are there at a time.
const MaxUnits = 256

// MaxNumber bounds the numbers of units, those that were there included.
const MaxNumber = devops.ProbeUnit - 1

// Config is the argument of Configure, in JSON.
type Config struct {
	Name     string `json:"name"` // of the node below /dev
	File     string `json:"file"` // absolute path in the kernel
	ReadOnly bool   `json:"ro,omitempty"`
}

// File is what a unit needs of an open file (vfs.Backing).
type File interface {
	Size(ctx context.Context) (int64, error)
	ReadAt(ctx context.Context, v abi.Iov, off int64) error
	WriteAt(ctx context.Context, v abi.Iov, off int64) error
	Sync(ctx context.Context) error
	Punch(ctx context.Context, off, n int64) error
	Close(ctx context.Context) error
}

var _ File = (*vfs.Backing)(nil)

// Options configure a Table.
type Options struct {
	// Open opens a file of the kernel.
	Open func(ctx context.Context, path string, write bool) (File, error)
	// Rest is told that a unit rests on a file, before it is used, and answers
	// what to call when it does not any more. Nil: nobody is told.
	Rest func(unit uint32, f File) (release func(), err error)
}

// Table is the units of a kernel; it is the driver "vnd" of the device switch.
type Table struct {
	o Options

	mu    sync.Mutex
	units map[uint32]*unit // protected by mu
	next  uint32           // protected by mu; the lowest number never used
}

// unit is one device.
type unit struct {
	c       Config
	f       File
	geom    devops.Geom
	q       chan struct{} // a place for each request in the file system
	release func()

	opens int            // protected by Table.mu
	gone  chan struct{}  // closed when the unit is taken away, under Table.mu
	use   sync.WaitGroup // requests; added to under Table.mu while not gone
}

var (
	_ devops.Blk        = (*Table)(nil)
	_ devops.Noder      = (*Table)(nil)
	_ devops.Configurer = (*Table)(nil)
)

// New makes a table without units.
func New(o Options) *Table {
	return &Table{o: o, units: make(map[uint32]*unit)}
}

// check checks a Config. EINVAL, ENAMETOOLONG.
func (c *Config) check() error {
	switch {
	case c.Name == "" || c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/\x00"):
		return fmt.Errorf("vnd: %.80q is no name of a node: %w", c.Name, abi.EINVAL)
	case len(c.Name) > abi.NAME_MAX-1: // r before it
		return fmt.Errorf("vnd: name %.40q...: %w", c.Name, abi.ENAMETOOLONG)
	case !strings.HasPrefix(c.File, "/") || strings.ContainsRune(c.File, 0):
		return fmt.Errorf("vnd %s: %.80q is no absolute path: %w", c.Name, c.File, abi.EINVAL)
	}
	return nil
}

// Configure makes one unit from a Config. EINVAL; EEXIST: a unit has the name;
// EBUSY: the file is that of another unit; EROFS: it can only be read, which
// must be asked for; ENXIO: it has not one sector; ENOMEM: too many units; and
// what the open of the file answers.
func (t *Table) Configure(ctx context.Context, _ devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(arg))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || on != abi.NoDev {
		return devops.Units{}, fmt.Errorf("vnd: the argument is a name and a file (%v): %w", err, abi.EINVAL)
	}
	if err := c.check(); err != nil {
		return devops.Units{}, err
	}
	t.mu.Lock()
	err := t.freeLocked(c.Name)
	t.mu.Unlock()
	if err != nil {
		return devops.Units{}, err
	}
	f, err := t.o.Open(ctx, c.File, !c.ReadOnly)
	if err != nil {
		return devops.Units{}, fmt.Errorf("vnd %s: %w", c.Name, err)
	}
	n, err := t.add(ctx, c, f)
	if err != nil {
		f.Close(ctx)
		return devops.Units{}, fmt.Errorf("vnd %s: %w", c.Name, err)
	}
	return devops.Units{First: n, Count: 1}, nil
}

func (t *Table) freeLocked(name string) error {
	for _, u := range t.units {
		if u.c.Name == name || "r"+u.c.Name == name || u.c.Name == "r"+name {
			return fmt.Errorf("vnd %s: %w", name, abi.EEXIST)
		}
	}
	if len(t.units) >= MaxUnits || t.next > MaxNumber {
		return fmt.Errorf("%d units, %d since the start: %w", len(t.units), t.next, abi.ENOMEM)
	}
	return nil
}

// add makes a unit of an open file.
func (t *Table) add(ctx context.Context, c Config, f File) (uint32, error) {
	size, err := f.Size(ctx)
	if err != nil {
		return 0, err
	}
	size = size / devops.DevBsize * devops.DevBsize
	if size == 0 {
		return 0, fmt.Errorf("%s has less than one sector: %w", c.File, abi.ENXIO)
	}
	u := &unit{c: c, f: f, q: make(chan struct{}, QueueDepth), gone: make(chan struct{}), geom: devops.Geom{
		Size: size, Sector: devops.DevBsize, MaxIO: devops.MaxPhys, Optimal: abi.PageSize, ReadOnly: c.ReadOnly,
		Ops: devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes, Type: "vnd, a file of the kernel",
	}}
	t.mu.Lock()
	if err := t.freeLocked(c.Name); err != nil {
		t.mu.Unlock()
		return 0, err
	}
	n := t.next
	t.next++
	t.units[n] = u
	t.mu.Unlock()
	if t.o.Rest == nil {
		return n, nil
	}
	release, err := t.o.Rest(n, f)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		delete(t.units, n)
		return 0, err
	}
	u.release = release
	return n, nil
}

// Unconfigure takes a unit away. EBUSY: it is open, unless force: then who has
// it open gets ENXIO. ENXIO: there is none. It waits for the requests in the
// file system, as long as ctx lets it; the file is closed after the last one.
func (t *Table) Unconfigure(ctx context.Context, us devops.Units, force bool) error {
	t.mu.Lock()
	u := t.units[us.First]
	switch {
	case u == nil:
		t.mu.Unlock()
		return errNone(us.First)
	case u.opens > 0 && !force:
		t.mu.Unlock()
		return fmt.Errorf("vnd %s: open: %w", u.c.Name, abi.EBUSY)
	}
	t.takeLocked(us.First, u)
	t.mu.Unlock()
	return u.end(ctx)
}

func (t *Table) takeLocked(n uint32, u *unit) {
	delete(t.units, n)
	close(u.gone)
}

// end closes the file when the requests have ended.
func (u *unit) end(ctx context.Context) error {
	ended := make(chan error, 1)
	closing := context.WithoutCancel(ctx)
	go func() {
		u.use.Wait()
		if u.release != nil {
			u.release()
		}
		ended <- u.f.Close(closing)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("vnd %s: requests in %s are waited for: %w", u.c.Name, u.c.File, abi.ErrnoOf(ctx.Err()))
	}
}

// CloseAll takes all units away, open or not: the kernel ends.
func (t *Table) CloseAll(ctx context.Context) error {
	t.mu.Lock()
	var all []*unit
	for n, u := range t.units {
		t.takeLocked(n, u)
		all = append(all, u)
	}
	t.mu.Unlock()
	var first error
	for _, u := range all {
		if err := u.end(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Info is a unit.
type Info struct {
	Config
	Unit uint32
	Open int // how often
}

// List tells the units by name.
func (t *Table) List() []Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := make([]Info, 0, len(t.units))
	for n, u := range t.units {
		r = append(r, Info{u.c, n, u.opens})
	}
	slices.SortFunc(r, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return r
}

// Nodes is one node a unit, with the mode of NetBSD's MAKEDEV.
func (t *Table) Nodes() []devops.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := make([]devops.Node, 0, len(t.units))
	for n, u := range t.units {
		r = append(r, devops.Node{Name: u.c.Name, Unit: n, Mode: 0o640})
	}
	return r
}

func errNone(n uint32) error { return fmt.Errorf("vnd: no unit %d: %w", n, abi.ENXIO) }

// Geometry is the file's size when the unit was made.
func (t *Table) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.units[n]; u != nil {
		return u.geom, nil
	}
	return devops.Geom{}, errNone(n)
}

// Open counts who has it open. EROFS.
func (t *Table) Open(_ context.Context, n uint32, flags int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.units[n]
	switch {
	case u == nil:
		return errNone(n)
	case u.c.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY:
		return fmt.Errorf("vnd %s: %w", u.c.Name, abi.EROFS)
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

// Ioctl knows nothing: units are made by drvctl(4), not by VNDIOCSET.
func (t *Table) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// Strategy moves a buf between its data and the file.
func (t *Table) Strategy(ctx context.Context, b *devops.Buf) error {
	t.mu.Lock()
	u := t.units[b.Dev.Minor()]
	if u == nil {
		t.mu.Unlock()
		return errNone(b.Dev.Minor())
	}
	u.use.Add(1)
	t.mu.Unlock()
	defer u.use.Done()
	if err := b.Check(&u.geom); err != nil {
		return fmt.Errorf("vnd %s: %w", u.c.Name, err)
	}
	select {
	case u.q <- struct{}{}:
	default: // the way of a select with several cases is long
		select {
		case u.q <- struct{}{}:
		case <-u.gone:
			return fmt.Errorf("vnd %s: gone: %w", u.c.Name, abi.ENXIO)
		case <-ctx.Done():
			return fmt.Errorf("vnd %s: %w", u.c.Name, abi.ErrnoOf(ctx.Err()))
		}
	}
	err := u.strategy(ctx, b)
	<-u.q
	if err != nil {
		return fmt.Errorf("vnd %s: %s: %w", u.c.Name, u.c.File, err)
	}
	return nil
}

func (u *unit) strategy(ctx context.Context, b *devops.Buf) error {
	var err error
	switch b.Op() {
	case devops.BRead:
		return u.f.ReadAt(ctx, b.Data, b.Off())
	case devops.BWrite:
		err = u.f.WriteAt(ctx, b.Data, b.Off())
	case devops.BFlush:
		return u.f.Sync(ctx)
	case devops.BDiscard: // where the space cannot be given back nothing is lost
		if err = u.f.Punch(ctx, b.Off(), b.Bytes); errors.Is(err, abi.EOPNOTSUPP) {
			err = nil
		}
	case devops.BZeroes:
		if err = u.f.Punch(ctx, b.Off(), b.Bytes); errors.Is(err, abi.EOPNOTSUPP) {
			err = u.zero(ctx, b.Off(), b.Bytes)
		}
	}
	if err == nil && b.Flags&devops.BFua != 0 {
		err = u.f.Sync(ctx)
	}
	return err
}

// zero writes zeroes.
func (u *unit) zero(ctx context.Context, off, n int64) error {
	zeroes := make([]byte, min(n, devops.MaxPhys))
	for n > 0 {
		k := min(n, int64(len(zeroes)))
		if err := u.f.WriteAt(ctx, abi.IovOf(zeroes[:k]), off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}
