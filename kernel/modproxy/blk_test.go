package modproxy_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// upWith is up with a payload, of a given object.
func (f *fake) upWith(op wire.Op, object uint64, args, payload []byte, res interface{ Parse([]byte) error }) error {
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op, k.Header.Object = op, object
	k.Args = append(k.Args, args...)
	k.SetPayload(payload)
	if op == wire.OpBlockRead {
		k.Scratch(512)
	}
	if err := f.c.Call(context.Background(), k); err != nil {
		return err
	}
	if res != nil {
		return res.Parse(k.Reply)
	}
	return nil
}

func nodesArg(names ...string) []byte {
	var m wire.NodesMsg
	for i, n := range names {
		m.Nodes = append(m.Nodes, devops.Node{Name: n, Unit: uint32(i), Mode: 0o7640})
	}
	return m.Append(nil)
}

// attachDisk attaches a driver "disk" with units d0 and d1.
func attachDisk(f *fake) error {
	var res wire.NumRes
	err := f.upWith(wire.OpAttachBlk, 0, (&wire.AttachBlkReq{Name: "disk", HasNodes: true}).Append(nil), nodesArg("d0", "d1"), &res)
	f.dev = abi.Dev(res.N)
	return err
}

func geomArgs(g devops.Geom) []byte { return (&wire.GeomMsg{Geom: g}).Append(nil) }

// TestBlkLies: what a driver may not answer.
func TestBlkLies(t *testing.T) {
	good := devops.Geom{Size: 1 << 20, Sector: 512}
	geometry := func(ctx context.Context, b devops.Blk, _ abi.Dev) error { _, err := b.Geometry(ctx, 0); return err }
	read := func(ctx context.Context, b devops.Blk, dev abi.Dev) error {
		return b.Strategy(ctx, &devops.Buf{Dev: dev, Bytes: 512, Flags: devops.BRead, Data: abi.IovOf(make([]byte, 512))})
	}
	for _, tc := range []struct {
		name    string
		args    []byte
		payload []byte
		call    func(ctx context.Context, b devops.Blk, dev abi.Dev) error
		ok      bool
	}{
		{"geometry", geomArgs(good), nil, geometry, true},
		{"sector", geomArgs(devops.Geom{Size: 1 << 20, Sector: 500}), nil, geometry, false},
		{"no sector", geomArgs(devops.Geom{Size: 1 << 20}), nil, geometry, false},
		{"size", geomArgs(devops.Geom{Size: 1<<20 + 1, Sector: 512}), nil, geometry, false},
		{"negative", geomArgs(devops.Geom{Size: -512, Sector: 512}), nil, geometry, false},
		{"most", geomArgs(devops.Geom{Size: 1 << 20, Sector: 512, MaxIO: 2 << 20}), nil, geometry, false},
		{"garbage", []byte("x"), nil, geometry, false},
		{"read", nil, make([]byte, 512), read, true},
		{"short read", nil, make([]byte, 511), read, false},
		{"no read", nil, nil, read, false},
		{"long read", nil, make([]byte, 513), read, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, l, k := newFake(t, attachDisk)
			f.reply = func(r *stream.Request) {
				r.Header.ReplyLen = wire.MaxPayload
				r.Reply(0, tc.args, abi.IovOf(tc.payload))
			}
			err := tc.call(t.Context(), k.Blks["disk"].Ops, k.Blks["disk"].Dev)
			if tc.ok {
				if err != nil || l.Err() != nil {
					t.Errorf("%v, %v", err, l.Err())
				}
				return
			}
			if abi.ErrnoOf(err) != abi.EIO {
				t.Errorf("%v, want EIO", err)
			}
			wantLie(t, l)
		})
	}
}

// TestBlkUpcallLies: what a component may not say of disks.
func TestBlkUpcallLies(t *testing.T) {
	buf := func(op devops.BufFlags, n int64) []byte { return (&wire.BufReq{Bytes: n, Flags: op}).Append(nil) }
	open := func(f *fake) uint64 {
		var res wire.NumRes
		if err := f.upWith(wire.OpBlockOpen, 0, (&wire.BlockOpenReq{Dev: abi.Makedev(9, 0), User: abi.NoDev}).Append(nil), nil, &res); err != nil {
			t.Error(err)
		}
		return uint64(res.N)
	}
	for name, up := range map[string]func(f *fake) error{
		"name": func(f *fake) error {
			return f.upWith(wire.OpAttachBlk, 0, (&wire.AttachBlkReq{Name: "a/b"}).Append(nil), nodesArg(), nil)
		},
		"node": func(f *fake) error {
			return f.upWith(wire.OpAttachBlk, 0, (&wire.AttachBlkReq{Name: "x", HasNodes: true}).Append(nil), nodesArg(".."), nil)
		},
		"nodes are garbage": func(f *fake) error {
			return f.upWith(wire.OpAttachBlk, 0, (&wire.AttachBlkReq{Name: "x", HasNodes: true}).Append(nil), []byte("x"), nil)
		},
		"attach garbage": func(f *fake) error { return f.upWith(wire.OpAttachBlk, 0, nil, nil, nil) },
		"changed device": func(f *fake) error {
			return f.upWith(wire.OpBlkChanged, 0, (&wire.NumReq{N: int64(abi.Makedev(77, 0))}).Append(nil), nodesArg("a"), nil)
		},
		"changed garbage": func(f *fake) error { return f.upWith(wire.OpBlkChanged, 0, nil, nil, nil) },
		"open garbage":    func(f *fake) error { return f.upWith(wire.OpBlockOpen, 0, []byte("x"), nil, nil) },
		"handle":          func(f *fake) error { return f.upWith(wire.OpBlockGeometry, 1, nil, nil, nil) },
		"handle 0":        func(f *fake) error { return f.upWith(wire.OpBlockClose, 0, nil, nil, nil) },
		"buf garbage":     func(f *fake) error { return f.upWith(wire.OpBlockRead, open(f), nil, nil, nil) },
		"read writes":     func(f *fake) error { return f.upWith(wire.OpBlockRead, open(f), buf(devops.BWrite, 512), nil, nil) },
		"read length":     func(f *fake) error { return f.upWith(wire.OpBlockRead, open(f), buf(devops.BRead, 1024), nil, nil) },
		"read negative":   func(f *fake) error { return f.upWith(wire.OpBlockRead, open(f), buf(devops.BRead, -512), nil, nil) },
		"write length": func(f *fake) error {
			return f.upWith(wire.OpBlockWrite, open(f), buf(devops.BWrite, 1024), make([]byte, 512), nil)
		},
		"control reads": func(f *fake) error { return f.upWith(wire.OpBlockControl, open(f), buf(devops.BRead, 512), nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			f, l, k := newFake(t, nil)
			k.SetDisk(abi.Makedev(9, 0), modtest.NewRAM(1<<20, 512))
			m := l.Modules()[0]
			m.Fini(t.Context())
			f.init = up
			k.Init(m, modapi.Fresh, nil)
			wantLie(t, l)
		})
	}
}

// TestBlkModes: bits of a mode that no node has are taken away, and changes of
// the nodes arrive.
func TestBlkModes(t *testing.T) {
	f, l, k := newFake(t, attachDisk)
	if n := k.Blks["disk"].Nodes; len(n) != 2 || n[1].Name != "d1" || n[1].Mode != 0o640 {
		t.Errorf("nodes %+v", n)
	}
	change := func(names ...string) {
		t.Helper()
		if err := f.upWith(wire.OpBlkChanged, 0, (&wire.NumReq{N: int64(f.dev)}).Append(nil), nodesArg(names...), nil); err != nil {
			t.Fatal(err)
		}
	}
	change("d0", "d5", "d7")
	if n := k.Blks["disk"].Nodes; len(n) != 3 || n[1].Name != "d5" {
		t.Errorf("nodes %+v", n)
	}
	change()
	if n := k.Blks["disk"].Nodes; len(n) != 0 {
		t.Errorf("nodes %+v", n)
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}

// TestBlkDead: the end of the link is an error that says so, and what the
// component had open is closed.
func TestBlkDead(t *testing.T) {
	dev := abi.Makedev(9, 0)
	s := &script{name: "disky"}
	var io devops.BlockIO
	s.init = func(k modapi.Kernel, _ modapi.Props) (err error) {
		if _, err = k.AttachBlk("disk", passer{}); err != nil {
			return err
		}
		io, err = k.Block(dev, abi.NoDev)
		return err
	}
	for _, open := range map[string]func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link{
		"stream": modproxytest.Open, "ring": modproxytest.OpenRing,
	} {
		l := open(t, dispatch.New([]modapi.Module{s}, dispatch.Options{}), nil)
		k := modtest.NewKernel(t, nil)
		ram := modtest.NewRAM(1<<20, 512)
		k.SetDisk(dev, ram)
		if err := k.Init(l.Modules()[0], modapi.Fresh, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Block(dev, abi.NoDev); abi.ErrnoOf(err) != abi.EBUSY {
			t.Errorf("open twice: %v", err)
		}
		p := bytes.Repeat([]byte{7}, 1<<20)
		if err := io.Strategy(t.Context(), &devops.Buf{Bytes: 1 << 20, Flags: devops.BWrite, Data: abi.IovOf(p)}); err != nil || !bytes.Equal(ram.Bytes(), p) {
			t.Errorf("write: %v", err)
		}
		q := make([]byte, 1<<20)
		if err := io.Strategy(t.Context(), &devops.Buf{Bytes: 1 << 20, Flags: devops.BRead, Data: abi.Iov{q[:5], q[5:]}}); err != nil || !bytes.Equal(q, p) {
			t.Errorf("read: %v", err)
		}
		ram.Fail(abi.ENOSPC)
		if err := io.Strategy(t.Context(), &devops.Buf{Flags: devops.BFlush}); abi.ErrnoOf(err) != abi.ENOSPC {
			t.Errorf("flush of a full disk: %v", err)
		}
		l.Close()
		var dead *stream.Dead
		if _, err := k.Blks["disk"].Ops.Geometry(t.Context(), 0); !errors.As(err, &dead) || abi.ErrnoOf(err) != abi.EIO {
			t.Errorf("geometry: %v", err)
		}
		b := &devops.Buf{Dev: k.Blks["disk"].Dev, Bytes: 512, Flags: devops.BWrite, Data: abi.IovOf(p[:512])}
		if err := k.Blks["disk"].Ops.Strategy(t.Context(), b); !errors.As(err, &dead) {
			t.Errorf("strategy: %v", err)
		}
		if again, err := k.Block(dev, abi.NoDev); err != nil {
			t.Errorf("what a dead component had open: %v", err)
		} else {
			again.Close(t.Context())
		}
	}
}

// passer is a driver that does nothing.
type passer struct{}

func (passer) Geometry(context.Context, uint32) (devops.Geom, error) {
	return devops.Geom{Size: 1 << 20, Sector: 512}, nil
}
func (passer) Open(context.Context, uint32, int) error                       { return nil }
func (passer) Close(context.Context, uint32, int) error                      { return nil }
func (passer) Strategy(context.Context, *devops.Buf) error                   { return nil }
func (passer) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) { return nil, abi.ENOTTY }
