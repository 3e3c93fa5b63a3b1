package mem

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
	return abi.Makedev(12, 0), k.err
}

func attach(t testing.TB) devops.Chr {
	t.Helper()
	k, m := &kern{}, New()
	i := m.Info()
	if err := i.Check(); err != nil || i.Class != modapi.ClassDriver {
		t.Fatalf("info %+v: %v", i, err)
	}
	if err := m.Init(bg, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	if k.name != "mem" {
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
	for _, c := range []struct {
		name  string
		unit  uint32
		n     int // bytes that a read of 10 gets
		write abi.Errno
	}{
		{"null", 2, 0, 0},
		{"zero", 12, 10, 0},
		{"full", 11, 10, abi.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := d.Open(bg, c.unit, abi.O_RDWR); err != nil {
				t.Fatal(err)
			}
			b := []byte("0123456789abc")
			n, err := d.Read(bg, c.unit, 99, abi.Iov{b[:3], nil, b[3:10]}, 0)
			if n != c.n || err != nil {
				t.Errorf("read %d, %v", n, err)
			}
			want := append(make([]byte, c.n), "0123456789abc"[c.n:]...)
			if !bytes.Equal(b, want) {
				t.Errorf("read left %q, want %q", b, want)
			}
			n, err = d.Write(bg, c.unit, 0, abi.Iov{b[:3], b[3:10]}, 0)
			if e := abi.ErrnoOf(err); e != c.write || e == 0 && n != 10 {
				t.Errorf("write %d, %v", n, err)
			}
			if n, err := d.Write(bg, c.unit, 0, nil, 0); n != 0 || err != nil {
				t.Errorf("write of nothing %d, %v", n, err)
			}
			if ev, err := d.Poll(bg, c.unit); ev != abi.POLLIN|abi.POLLRDNORM|abi.POLLOUT || err != nil {
				t.Errorf("poll %v, %v", ev, err)
			}
			if _, err := d.Ioctl(bg, c.unit, abi.FIONBIO, make([]byte, 4)); err != nil {
				t.Errorf("FIONBIO: %v", err)
			}
			if _, err := d.Ioctl(bg, c.unit, abi.TIOCGETA, nil); abi.ErrnoOf(err) != abi.ENOTTY {
				t.Errorf("TIOCGETA: %v", err)
			}
			if err := d.Close(bg, c.unit, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoUnit(t *testing.T) {
	d := attach(t)
	for _, u := range []uint32{0, 1, 3, 13, 1 << 31} {
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

func TestNodes(t *testing.T) {
	d := attach(t)
	want := map[string]devops.Node{
		"null": {Name: "null", Unit: 2, Mode: 0o666},
		"zero": {Name: "zero", Unit: 12, Mode: 0o666},
		"full": {Name: "full", Unit: 11, Mode: 0o666},
	}
	nodes := d.(devops.Noder).Nodes()
	if len(nodes) != len(want) {
		t.Errorf("%d nodes", len(nodes))
	}
	for _, n := range nodes {
		if want[n.Name] != n {
			t.Errorf("node %+v", n)
		}
	}
}

func BenchmarkZero(b *testing.B) {
	d := attach(b)
	v := abi.IovOf(make([]byte, 1<<20))
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := d.Read(bg, UnitZero, 0, v, 0); err != nil {
			b.Fatal(err)
		}
	}
}
