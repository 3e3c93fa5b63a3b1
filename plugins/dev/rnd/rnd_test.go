package rnd

import (
	"bytes"
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

var bg = context.Background()

// kern is a kernel that takes one character device.
type kern struct {
	modapi.Kernel
	name string
	d    devops.Chr
	err  error
}

func (k *kern) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	k.name, k.d = name, d
	return abi.Makedev(13, 0), k.err
}

func attach(t *testing.T) devops.Chr {
	t.Helper()
	k, m := &kern{}, New()
	i := m.Info()
	if err := i.Check(); err != nil || i.Class != modapi.ClassDriver {
		t.Fatalf("info %+v: %v", i, err)
	}
	if err := m.Init(bg, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	if k.name != "rnd" {
		t.Fatalf("attached as %q", k.name)
	}
	if err := m.Fini(bg); err != nil {
		t.Fatal(err)
	}
	return k.d
}

func TestInitFails(t *testing.T) {
	if err := New().Init(bg, &kern{err: abi.EEXIST}, modapi.Fresh, nil); abi.ErrnoOf(err) != abi.EEXIST {
		t.Errorf("init: %v", err)
	}
}

func TestDevices(t *testing.T) {
	d := attach(t)
	for _, n := range d.(devops.Noder).Nodes() {
		t.Run(n.Name, func(t *testing.T) {
			want := map[string]devops.Node{
				"random":  {Name: "random", Unit: 0, Mode: 0o444},
				"urandom": {Name: "urandom", Unit: 1, Mode: 0o644},
			}[n.Name]
			if n != want {
				t.Errorf("node %+v", n)
			}
			if err := d.Open(bg, n.Unit, abi.O_RDWR); err != nil {
				t.Fatal(err)
			}
			// Every area is filled, to its end, with something new.
			a, b := make([]byte, 16), make([]byte, chunk+16)
			m, err := d.Read(bg, n.Unit, 0, abi.Iov{a, nil, b}, 0)
			if m != len(a)+len(b) || err != nil {
				t.Fatalf("read %d, %v", m, err)
			}
			for _, p := range [][]byte{a, b[:16], b[chunk:]} {
				if bytes.Equal(p, make([]byte, 16)) {
					t.Error("16 zeros")
				}
			}
			if bytes.Equal(a, b[:16]) || bytes.Equal(b[:16], b[chunk:]) {
				t.Error("the same again")
			}
			if m, err := d.Write(bg, n.Unit, 0, abi.IovOf(a), 0); m != 16 || err != nil {
				t.Errorf("write %d, %v", m, err)
			}
			if ev, err := d.Poll(bg, n.Unit); ev != abi.POLLIN|abi.POLLRDNORM|abi.POLLOUT || err != nil {
				t.Errorf("poll %v, %v", ev, err)
			}
			if _, err := d.Ioctl(bg, n.Unit, abi.FIOASYNC, make([]byte, 4)); err != nil {
				t.Errorf("FIOASYNC: %v", err)
			}
			if _, err := d.Ioctl(bg, n.Unit, abi.TIOCGWINSZ, nil); abi.ErrnoOf(err) != abi.ENOTTY {
				t.Errorf("TIOCGWINSZ: %v", err)
			}
			if err := d.Close(bg, n.Unit, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGivenUp has the caller give up: nothing, or what there was.
func TestGivenUp(t *testing.T) {
	d := attach(t)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	n, err := d.Read(ctx, UnitRandom, 0, abi.IovOf(make([]byte, 8)), 0)
	if n != 0 || abi.ErrnoOf(err) != abi.EINTR {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestNoUnit(t *testing.T) {
	d := attach(t)
	for _, u := range []uint32{2, 1 << 31} {
		_, rerr := d.Read(bg, u, 0, abi.IovOf(make([]byte, 1)), 0)
		_, werr := d.Write(bg, u, 0, abi.IovOf(make([]byte, 1)), 0)
		_, ierr := d.Ioctl(bg, u, abi.FIONBIO, nil)
		_, perr := d.Poll(bg, u)
		for i, err := range []error{d.Open(bg, u, 0), rerr, werr, ierr, perr} {
			if abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("unit %d, call %d: %v", u, i, err)
			}
		}
	}
}
