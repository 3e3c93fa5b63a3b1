package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// slicer is a driver that makes two units, NAMEa and NAMEb, of whatever NAME it
// is told; its contents lie in host memory, which survives the process.
type slicer struct {
	disk *[4 << 10]byte
	told *[]string // of all processes

	mu    sync.Mutex
	names map[uint32]string // protected by mu
}

func (d *slicer) Nodes() []devops.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	var r []devops.Node
	for u, n := range d.names {
		r = append(r, devops.Node{Name: n, Unit: u, Mode: 0o600})
	}
	return r
}

func (d *slicer) Configure(_ context.Context, u devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.told = append(*d.told, fmt.Sprintf("%s on %v, %d units before", arg, on, u.Count))
	if strings.Contains(string(arg), "!") {
		return u, fmt.Errorf("no %q: %w", arg, abi.EINVAL)
	}
	if u.Count == 0 {
		u = devops.Units{First: uint32(len(d.names)), Count: 2}
	}
	d.names[u.First], d.names[u.First+1] = string(arg)+"a", string(arg)+"b"
	return u, nil
}

func (d *slicer) Unconfigure(_ context.Context, u devops.Units, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, u.First)
	delete(d.names, u.First+1)
	return nil
}

func (d *slicer) Geometry(_ context.Context, unit uint32) (devops.Geom, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[unit] == "" {
		return devops.Geom{}, abi.ENXIO
	}
	return devops.Geom{Size: int64(len(d.disk)), Sector: 512}, nil
}
func (d *slicer) Open(ctx context.Context, unit uint32, _ int) error {
	_, err := d.Geometry(ctx, unit)
	return err
}
func (d *slicer) Close(context.Context, uint32, int) error { return nil }
func (d *slicer) Strategy(ctx context.Context, b *devops.Buf) error {
	if _, err := d.Geometry(ctx, b.Dev.Minor()); err != nil {
		return err
	}
	if b.Op() == devops.BWrite {
		copy(d.disk[b.Off():], b.Data[0])
	} else {
		copy(b.Data[0], d.disk[b.Off():])
	}
	return nil
}
func (d *slicer) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// TestAttachSurvives: units made while the kernel runs are there after a restart
// of their driver, for who has them open too, and are gone after Detach.
func TestAttachSurvives(t *testing.T) {
	ctx := context.Background()
	s := New(Options{})
	s.SetAvailable(true)
	disk, told := new([4 << 10]byte), new([]string)
	up := func() {
		t.Helper()
		if _, err := s.AttachBlk("inst", "slicer", &slicer{disk: disk, told: told, names: map[uint32]string{}}); err != nil {
			t.Fatal(err)
		}
		s.InstanceUp("inst")
	}
	nodes := func() (r []string) {
		for _, n := range s.Nodes() {
			if n.Blk {
				r = append(r, n.Name)
			}
		}
		return r
	}
	up()
	on := abi.Makedev(7, 3)
	for _, name := range []string{"x", "y"} {
		got, err := s.Attach(ctx, "slicer", on, []byte(name))
		if err != nil || !slices.Equal(got, []string{name + "a", name + "b"}) {
			t.Fatal(got, err)
		}
	}
	if _, err := s.Attach(ctx, "slicer", abi.NoDev, []byte("no!")); !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), `no "no!"`) {
		t.Error(err)
	}
	if _, err := s.Attach(ctx, "none", abi.NoDev, nil); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	if _, err := s.Attach(ctx, "slicer", abi.NoDev, make([]byte, devops.MaxConfigure+1)); !errors.Is(err, abi.E2BIG) {
		t.Error(err)
	}
	node, ok := s.Lookup("yb")
	if !ok {
		t.Fatal("no yb")
	}
	h, err := s.OpenBlk(ctx, node.Dev, abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	sector := bytes.Repeat([]byte("yb"), 256)
	if err := h.Do(ctx, &devops.Buf{Flags: devops.BWrite, Bytes: 512, Data: abi.IovOf(sector)}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ioctl(ctx, devops.DIOCCONFIGURE, devops.AppendConfigure(nil, devops.Units{}, 0, []byte("z"))); !errors.Is(err, abi.ENOTTY) {
		t.Errorf("configured by a program: %v", err)
	}

	all := []string{"xa", "xb", "ya", "yb"}
	for range 3 {
		*told = nil
		s.InstanceDown("inst")
		if got := nodes(); !slices.Equal(got, all) {
			t.Errorf("nodes while it is down: %v", got)
		}
		up()
		if got := nodes(); !slices.Equal(got, all) {
			t.Errorf("nodes after a restart: %v", got)
		}
		p := make([]byte, 512)
		if err := h.Do(ctx, &devops.Buf{Flags: devops.BRead, Bytes: 512, Data: abi.IovOf(p)}); err != nil || !bytes.Equal(p, sector) {
			t.Fatal(err)
		}
		if want := []string{fmt.Sprintf("y on %v, 2 units before", on)}; !slices.Equal(*told, want) {
			t.Errorf("told %q, want %q: what nobody uses waits", *told, want)
		}
	}

	if err := s.Detach(ctx, "ya", false); !errors.Is(err, abi.EBUSY) {
		t.Errorf("detach of what is open: %v", err)
	}
	if err := s.Detach(ctx, "xa", false); err != nil { // of which the process was not told again
		t.Error(err)
	}
	if got := nodes(); !slices.Equal(got, all[2:]) {
		t.Error(got)
	}
	if err := s.Detach(ctx, "ya", true); err != nil {
		t.Error(err)
	}
	if err := h.Do(ctx, &devops.Buf{Flags: devops.BRead, Bytes: 512, Data: abi.IovOf(make([]byte, 512))}); !errors.Is(err, abi.ENXIO) {
		t.Errorf("after a forced detach: %v", err)
	}
	h.Close(ctx)
	if err := s.Detach(ctx, "ya", false); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	if got := nodes(); len(got) != 0 {
		t.Error(got)
	}
}
