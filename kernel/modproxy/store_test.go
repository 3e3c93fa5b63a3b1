package modproxy_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// keeperModule has a file-system type whose mounts do nothing but give a test
// their Store.
type keeperModule struct {
	caps vfsops.Caps
	k    modapi.Kernel

	mu     sync.Mutex
	stores map[abi.Fsid]modapi.Store
	asked  []abi.OpSeq
}

func (*keeperModule) Info() modapi.Info {
	return modapi.Info{Name: "keeper", Class: modapi.ClassVFS, Kern: abi.KernVersionCurrent, Version: "1", Caps: modapi.CapRing}
}

func (m *keeperModule) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.k, m.stores = k, map[abi.Fsid]modapi.Store{}
	return k.AttachFS("keeper", m, m.caps)
}

func (*keeperModule) Fini(context.Context) error { return nil }

func (m *keeperModule) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	s := m.k.Store(req.Fsid)
	if req.Seq > 0 { // it is read during Mount
		if v, err := s.Get(ctx, []byte("seq")); err != nil || string(v) != fmt.Sprint(req.Seq) {
			return nil, fmt.Errorf("seq %q, %w", v, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stores[req.Fsid] = s
	if m.caps == 0 {
		return keeperFS{}, nil
	}
	return &keeperCkpt{m: m}, nil
}

// keeperFS is a file system that cannot do anything.
type keeperFS struct{ vfsops.FS }

func (keeperFS) Unmount(context.Context) error { return nil }

// keeperCkpt can be checkpointed.
type keeperCkpt struct {
	keeperFS
	m *keeperModule
}

func (f *keeperCkpt) Checkpoint(_ context.Context, seq abi.OpSeq) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.asked = append(f.m.asked, seq)
	if seq == 13 {
		return abi.ENOMEM
	}
	return nil
}

// storeKernel is a kernel whose mounts have real Stores.
type storeKernel struct {
	*modtest.Kernel
	s *store.Store
	x *store.Session
}

func (k *storeKernel) Store(abi.Fsid) modapi.Store { return k.x }

// TestStore: what a component writes by upcalls is what the kernel has, and the
// other way round, in every size.
func TestStore(t *testing.T) {
	var m *keeperModule
	mods := func() []modapi.Module {
		m = &keeperModule{caps: vfsops.CapCheckpoint}
		return []modapi.Module{m}
	}
	modtest.EachBinding(t, mods, modtest.Options{}, func(t *testing.T, mk *modtest.Kernel, bound []modapi.Module) {
		ctx := t.Context()
		k := &storeKernel{Kernel: mk, s: store.New(store.Options{})}
		k.x = k.s.Open()
		if err := mk.InitWith(bound[0], k, modapi.Fresh, nil); err != nil {
			t.Fatal(err)
		}
		fs, err := mk.FSTypes["keeper"].Type.Mount(ctx, &vfsops.MountReq{Fsid: 3, Op: op})
		if err != nil {
			t.Fatal(err)
		}
		s := m.stores[3]
		var ops []modapi.StoreOp
		var want []modapi.StoreRec
		for i := range 60 {
			key := fmt.Appendf(nil, "key%03d", i)
			if i%10 == 0 {
				key = append(key, bytes.Repeat([]byte{'k'}, modapi.MaxStoreKey-len(key))...)
			}
			val := bytes.Repeat([]byte{byte(i)}, i*modapi.MaxStoreValue/59) // 0 to 64 KiB, 2 MiB in all
			ops = append(ops, modapi.StoreOp{Key: key, Value: val})
			want = append(want, modapi.StoreRec{Key: key, Value: val})
		}
		if err := s.Write(ctx, ops); err != nil {
			t.Fatal(err)
		}
		for _, r := range want {
			v, err := s.Get(ctx, r.Key)
			if err != nil || !bytes.Equal(v, r.Value) {
				t.Fatalf("%.10q: %d bytes, %v, want %d", r.Key, len(v), err, len(r.Value))
			}
		}
		scan := func(max int) (got []modapi.StoreRec, calls int) {
			for from := []byte(nil); ; calls++ {
				recs, err := s.Scan(ctx, from, nil, max)
				if err != nil {
					t.Fatal(err)
				}
				if len(recs) == 0 {
					return got, calls
				}
				got = append(got, recs...)
				from = modapi.StoreAfter(recs[len(recs)-1].Key)
			}
		}
		same := func(a, b []modapi.StoreRec) bool {
			return reflect.DeepEqual(fmt.Sprintf("%x", a), fmt.Sprintf("%x", b))
		}
		for _, max := range []int{0, 7} {
			if got, calls := scan(max); !same(got, want) || max == 7 && calls != 9 || max == 0 && (calls < 2 || calls > 4) {
				t.Errorf("scan by %d: %d records in %d calls", max, len(got), calls)
			}
		}
		if recs, err := s.Scan(ctx, []byte("key007"), []byte("key009"), 0); err != nil || len(recs) != 2 {
			t.Errorf("%d records, %v", len(recs), err)
		}
		for what, e := range map[string]struct {
			err  error
			want abi.Errno
		}{
			"missing":    {func() error { _, err := s.Get(ctx, []byte("nokey")); return err }(), abi.ENOENT},
			"no key":     {func() error { _, err := s.Get(ctx, nil); return err }(), abi.EINVAL},
			"long key":   {s.Write(ctx, []modapi.StoreOp{{Key: make([]byte, modapi.MaxStoreKey+1)}}), abi.EINVAL},
			"long value": {s.Write(ctx, []modapi.StoreOp{{Key: []byte("a"), Value: make([]byte, modapi.MaxStoreValue+1)}}), abi.E2BIG},
			"negative":   {func() error { _, err := s.Scan(ctx, nil, nil, -1); return err }(), abi.EINVAL},
			"nothing":    {s.Write(ctx, nil), 0},
		} {
			if abi.ErrnoOf(e.err) != e.want {
				t.Errorf("%s: %v, want %s", what, e.err, e.want.Name())
			}
		}
		if err := s.Write(ctx, []modapi.StoreOp{{Key: want[0].Key, Delete: true}, {Key: []byte("seq"), Value: []byte("9")}}); err != nil {
			t.Fatal(err)
		}
		c := fs.(vfsops.Checkpointer)
		if err := c.Checkpoint(ctx, 9); err != nil {
			t.Fatal(err)
		}
		if err := c.Checkpoint(ctx, 13); abi.ErrnoOf(err) != abi.ENOMEM {
			t.Errorf("%v, want ENOMEM", err)
		}
		if !reflect.DeepEqual(m.asked, []abi.OpSeq{9, 13}) {
			t.Errorf("asked for %v", m.asked)
		}
		if err := k.x.Commit(9); err != nil {
			t.Fatal(err)
		}
		if st := k.s.Stats(); st.Records != 60 || st.Pending != 0 {
			t.Errorf("%+v", st)
		}
		// Another generation: the old Store is no use any more.
		k.x = k.s.Open()
		if err := s.Write(ctx, []modapi.StoreOp{{Key: []byte("late")}}); abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("a write of the old process: %v, want ENXIO", err)
		}
		if err := fs.Unmount(ctx); err != nil {
			t.Fatal(err)
		}
		fs, err = mk.FSTypes["keeper"].Type.Mount(ctx, &vfsops.MountReq{Fsid: 3, Op: op, Seq: 9})
		if err != nil {
			t.Fatal(err)
		}
		s = m.stores[3]
		if got, _ := scan(0); len(got) != 60 {
			t.Errorf("%d records", len(got))
		}
		if err := fs.Unmount(ctx); err != nil {
			t.Fatal(err)
		}
		if k.Name() != "direct" { // there the kernel has nothing between
			if _, err := s.Get(ctx, []byte("seq")); abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("after unmount: %v, want ENXIO", err)
			}
		}
	})
}

// Name is the binding under test.
func (k *storeKernel) Name() string { return k.Kernel.Binding() }

// TestNoStore: a mount of a type that does not claim checkpoints has none.
func TestNoStore(t *testing.T) {
	var m *keeperModule
	modtest.EachBinding(t, func() []modapi.Module { m = &keeperModule{}; return []modapi.Module{m} }, modtest.Options{}, func(t *testing.T, k *modtest.Kernel, bound []modapi.Module) {
		if k.Binding() == "direct" {
			t.Skip("the kit gives a Store to everybody")
		}
		if err := k.Init(bound[0], modapi.Fresh, nil); err != nil {
			t.Fatal(err)
		}
		fs, err := k.FSTypes["keeper"].Type.Mount(t.Context(), &vfsops.MountReq{Fsid: 3, Op: op})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []abi.Fsid{3, 99} {
			s := m.k.Store(id)
			if err := s.Write(t.Context(), []modapi.StoreOp{{Key: []byte("a")}}); abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("write: %v", err)
			}
			if _, err := s.Scan(t.Context(), nil, nil, 0); abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("scan: %v", err)
			}
		}
		if err := fs.(vfsops.Checkpointer).Checkpoint(t.Context(), 1); abi.ErrnoOf(err) != abi.EOPNOTSUPP {
			t.Errorf("checkpoint: %v, want EOPNOTSUPP", err)
		}
		if vfsops.CapsOf(fs)&vfsops.HasCheckpointer != 0 {
			t.Error("it says that it can be checkpointed")
		}
	})
}

// TestStoreLies: what is no such message ends the link.
func TestStoreLies(t *testing.T) {
	batch := (&wire.StoreBatch{Ops: []modapi.StoreOp{{Key: []byte("k"), Value: []byte("v")}}}).Append(nil)
	for name, up := range map[string]func(f *fake) error{
		"key":   func(f *fake) error { return f.upWith(wire.OpStoreGet, 3, []byte("x"), nil, nil) },
		"scan":  func(f *fake) error { return f.upWith(wire.OpStoreScan, 3, []byte("x"), nil, nil) },
		"batch": func(f *fake) error { return f.upWith(wire.OpStoreWrite, 3, nil, batch[1:], nil) },
		"count": func(f *fake) error { return f.upWith(wire.OpStoreWrite, 3, nil, []byte{255, 255, 255, 255}, nil) },
		"long": func(f *fake) error {
			return f.upWith(wire.OpStoreGet, 3, (&wire.StoreKey{Key: make([]byte, modapi.MaxStoreKey+1)}).Append(nil), nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, l, _ := newFake(t, up)
			wantLie(t, l)
		})
	}
	// Of another mount it is no lie: that may just be gone.
	f, l, _ := newFake(t, nil)
	for _, err := range []error{
		f.upWith(wire.OpStoreGet, 3, (&wire.StoreKey{Key: []byte("k")}).Append(nil), nil, nil),
		f.upWith(wire.OpStoreScan, 3, (&wire.StoreScanReq{}).Append(nil), nil, nil),
		f.upWith(wire.OpStoreWrite, 3, nil, batch, nil),
	} {
		if abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("%v, want ENXIO", err)
		}
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}
