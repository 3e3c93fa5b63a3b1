package modtest

import (
	"bytes"
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// patience is how long something that must not wait may take.
const patience = 5 * time.Second

// ChrUnderTest is a character device driver for TestChr.
type ChrUnderTest struct {
	Mods    []modapi.Module
	Grants  map[string]*os.File
	Props   map[string]modapi.Props
	Driver  string   // as attached
	Units   []uint32 // that can be opened
	BadUnit uint32   // that cannot
}

// TestChr checks the rules of devops.Chr in every binding.
func TestChr(t *testing.T, newChr func(t *testing.T) ChrUnderTest) {
	eachBinding(t, func(t *testing.T, b Binding) {
		ut := newChr(t)
		k := load(t, b, ut.Mods, ut.Grants, ut.Props)
		at, ok := k.Chrs[ut.Driver]
		if !ok {
			t.Fatalf("no driver %q was attached", ut.Driver)
		}
		t.Run("nodes", func(t *testing.T) { chrNodes(t, at.Ops, ut) })
		t.Run("bad-unit", func(t *testing.T) {
			err := at.Ops.Open(t.Context(), ut.BadUnit, abi.O_RDWR)
			if abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("open of unit %d: %v, want ENXIO", ut.BadUnit, err)
			}
		})
		for _, u := range ut.Units {
			chrUnit(t, at.Ops, u)
		}
	})
}

// chrNodes checks what is named for devfs.
func chrNodes(t *testing.T, d devops.Chr, ut ChrUnderTest) {
	n, ok := d.(devops.Noder)
	if !ok {
		return
	}
	units := map[uint32]bool{}
	for _, u := range ut.Units {
		units[u] = true
	}
	seen := map[string]bool{}
	for _, n := range n.Nodes() {
		if n.Name == "" || len(n.Name) > 31 || bytes.ContainsAny([]byte(n.Name), "/ \x00") || seen[n.Name] || n.Mode&^0o777 != 0 {
			t.Errorf("node %+v", n)
		}
		seen[n.Name] = true
		if !units[n.Unit] {
			t.Errorf("node %s is unit %d, which cannot be opened", n.Name, n.Unit)
		}
	}
}

func chrUnit(t *testing.T, d devops.Chr, unit uint32) {
	ctx := context.WithoutCancel(t.Context())
	for range 2 { // every open counts
		if err := d.Open(ctx, unit, abi.O_RDWR); err != nil {
			t.Fatalf("open of unit %d: %v", unit, err)
		}
	}
	within(t, "Read", func(ctx context.Context) {
		buf := bytes.Repeat([]byte{0xa5}, 100)
		n, err := d.Read(ctx, unit, 0, abi.Iov{buf[:7], nil, buf[7:]}, abi.O_NONBLOCK)
		if n < 0 || n > 100 || err != nil && n != 0 {
			t.Errorf("unit %d: read of 100 bytes: %d, %v", unit, n, err)
		}
		if n, err := d.Read(ctx, unit, 0, abi.Iov{}, abi.O_NONBLOCK); n != 0 {
			t.Errorf("unit %d: read of nothing: %d, %v", unit, n, err)
		}
	})
	within(t, "Poll", func(ctx context.Context) {
		ev, err := d.Poll(ctx, unit)
		if err != nil || ev < 0 {
			t.Errorf("unit %d: poll: %v, %v", unit, ev, err)
		}
		if ev&abi.POLLIN != 0 {
			if _, err := d.Read(ctx, unit, 0, abi.IovOf(make([]byte, 1)), abi.O_NONBLOCK); abi.ErrnoOf(err) == abi.EAGAIN {
				t.Errorf("unit %d: POLLIN, but a read answers EAGAIN", unit)
			}
		}
	})
	within(t, "Ioctl", func(ctx context.Context) {
		_, err := d.Ioctl(ctx, unit, 0x20007f7f, nil)
		if abi.ErrnoOf(err) != abi.ENOTTY {
			t.Errorf("unit %d: unknown ioctl: %v, want ENOTTY", unit, err)
		}
	})
	within(t, "reading at once", func(ctx context.Context) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				buf := make([]byte, 1000)
				for range 10 {
					d.Read(ctx, unit, 0, abi.IovOf(buf), abi.O_NONBLOCK)
				}
			}()
		}
		wg.Wait()
	})
	for range 2 {
		if err := d.Close(ctx, unit, abi.O_RDWR); err != nil {
			t.Errorf("close of unit %d: %v", unit, err)
		}
	}
}
