package nbd

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	exportnbd "github.com/rumpus-kernel/rumpus/host/export/nbd"
	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the bindings "stream" and "ring"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/grant"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

// memBackend is a device of memory for our own server.
type memBackend struct{ b []byte }

func (m memBackend) Info() exportnbd.Info {
	return exportnbd.Info{Size: int64(len(m.b)), Block: 512, Ops: exportnbd.OpFlush | exportnbd.OpFUA | exportnbd.OpTrim | exportnbd.OpZeroes | exportnbd.OpMultiConn | exportnbd.OpPrompt}
}
func (m memBackend) ReadAt(_ context.Context, p []byte, off int64) error {
	copy(p, m.b[off:])
	return nil
}
func (m memBackend) WriteAt(_ context.Context, p []byte, off int64, _ bool) error {
	copy(m.b[off:], p)
	return nil
}
func (m memBackend) Flush(context.Context) error                { return nil }
func (m memBackend) Trim(_ context.Context, off, n int64) error { clear(m.b[off : off+n]); return nil }
func (m memBackend) WriteZeroes(_ context.Context, off, n int64, _, _ bool) error {
	clear(m.b[off : off+n])
	return nil
}
func (m memBackend) Extents(context.Context, int64, int64, []exportnbd.Extent) ([]exportnbd.Extent, error) {
	return nil, abi.EOPNOTSUPP
}

// ours makes our own server of memory disks "a" and "b", and a grant of
// connections to it.
func ours(t *testing.T) (*exportnbd.Server, map[string]*os.File, dialFunc) {
	t.Helper()
	s := exportnbd.NewServer(exportnbd.Options{})
	for _, name := range []string{"a", "b"} {
		if err := s.Add(exportnbd.Export{Name: name, Backend: memBackend{make([]byte, 4<<20)}}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := exportnbd.Listen("tcp:127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	b, err := grant.Broker(func(ctx context.Context) (*os.File, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, abi.ECONNREFUSED
		}
		defer c.Close()
		return c.(*net.TCPConn).File()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
		<-done
		b.Close()
	})
	return s, map[string]*os.File{testGrant: b}, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

const testGrant = grant.Connect + "tcp:test"

func propsOf(units map[string]any) map[string]modapi.Props {
	return map[string]modapi.Props{"nbd": {"nbd": units}}
}

// TestConformance: the driver follows the rules of block devices, in-process and
// beyond a process boundary, on connections that a grant gives.
func TestConformance(t *testing.T) {
	modtest.TestBlk(t, func(t *testing.T) modtest.BlkUnderTest {
		_, grants, _ := ours(t)
		return modtest.BlkUnderTest{
			Mods: []modapi.Module{New()}, Grants: grants, Driver: "nbd", Units: []uint32{0}, BadUnit: 7,
			Props: propsOf(map[string]any{"nbd0": map[string]any{"connect": testGrant, "export": "a"}}),
		}
	})
}

// TestConfigure makes units while the driver runs, and takes them away.
func TestConfigure(t *testing.T) {
	_, grants, _ := ours(t)
	modtest.Bindings(t, func() []modapi.Module { return []modapi.Module{New()} }, modtest.Options{Grants: grants}, func(t *testing.T, k *modtest.Kernel) {
		d := k.Blks["nbd"].Ops
		ctx := t.Context()
		conf := func(m map[string]any) (devops.Units, error) {
			arg, _ := json.Marshal(m)
			return devops.Configure(ctx, d, devops.Units{}, abi.NoDev, arg)
		}
		for unit := range uint32(2) {
			u, err := conf(map[string]any{"connect": testGrant, "export": "b"})
			if err != nil || u != (devops.Units{First: unit, Count: 1}) {
				t.Fatalf("%+v, %v", u, err)
			}
		}
		if u, err := conf(map[string]any{"connect": testGrant, "unit": 9}); err != nil || u.First != 9 {
			t.Errorf("%+v, %v", u, err)
		}
		if g, err := d.Geometry(ctx, 9); err != nil || g.Size != 4<<20 {
			t.Errorf("%+v, %v", g, err)
		}
		for want, m := range map[abi.Errno]map[string]any{
			abi.EEXIST: {"connect": testGrant, "unit": 9},
			abi.EINVAL: {"connect": testGrant, "unit": 1.5},
			abi.ENOENT: {"connect": testGrant, "export": "none"},
		} {
			if _, err := conf(m); abi.ErrnoOf(err) != want {
				t.Errorf("%v: %v", m, err)
			}
		}
		if err := devops.Unconfigure(ctx, d, devops.Units{First: 9, Count: 1}, false); err != nil {
			t.Error(err)
		}
		if _, err := d.Geometry(ctx, 9); abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("it is there still: %v", err)
		}
		if err := devops.Unconfigure(ctx, d, devops.Units{First: 9, Count: 1}, false); abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("twice: %v", err)
		}
	})
}

// TestNoGrant: a unit whose grant is not there is an error of the load.
func TestNoGrant(t *testing.T) {
	k := modtest.NewKernel(t, nil)
	p := propsOf(map[string]any{"nbd0": map[string]any{"connect": "host.connect:unix:/x"}})["nbd"]
	if err := New().Init(t.Context(), k, modapi.Fresh, p); !errors.Is(err, abi.ENOENT) {
		t.Error(err)
	}
}
