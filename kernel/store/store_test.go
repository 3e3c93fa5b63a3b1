package store_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

var ctx = context.Background()

func is(t interface {
	Helper()
	Fatalf(string, ...any)
}, what string, err error, want abi.Errno) {
	t.Helper()
	if abi.ErrnoOf(err) != want {
		t.Fatalf("%s: %v, want %s", what, err, want.Name())
	}
}

// all is every record of a Store, by Scans of a few.
func all(t *rapid.T, s modapi.Store, max int) []modapi.StoreRec {
	var r []modapi.StoreRec
	var from []byte
	for {
		recs, err := s.Scan(ctx, from, nil, max)
		is(t, "scan", err, 0)
		if len(recs) == 0 {
			return r
		}
		r = append(r, recs...)
		if from = modapi.StoreAfter(recs[len(recs)-1].Key); len(from) == 0 {
			return r
		}
	}
}

// memory counts what a store takes, up to a limit.
type memory struct {
	used, limit int64
}

func (m *memory) account(n int64) error {
	if n > 0 && m.limit > 0 && m.used+n > m.limit {
		return abi.ENOMEM
	}
	m.used += n
	return nil
}

// TestModel: it is the simple Store of the kit, whatever is written, committed
// and dropped.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := &memory{}
		s, m := store.New(store.Options{Account: mem.account}), modtest.NewStore()
		x, y := s.Open(), m.Store()
		wide := rapid.IntRange(1, 400).Draw(t, "keys")
		key := func() []byte {
			n := rapid.IntRange(0, wide).Draw(t, "key")
			return []byte(fmt.Sprint("k", n))
		}
		seq := abi.OpSeq(0)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				var ops []modapi.StoreOp
				for range rapid.IntRange(1, 60).Draw(t, "n") {
					o := modapi.StoreOp{Key: key(), Delete: rapid.IntRange(0, 3).Draw(t, "delete") == 0}
					if !o.Delete {
						o.Value = bytes.Repeat([]byte{byte(seq)}, rapid.IntRange(0, 9).Draw(t, "len"))
					}
					ops = append(ops, o)
				}
				is(t, "write", x.Write(ctx, ops), 0)
				is(t, "write", y.Write(ctx, ops), 0)
				for _, o := range ops {
					clear(o.Key)
					clear(o.Value)
				}
			},
			"get": func(t *rapid.T) {
				k := key()
				a, e := x.Get(ctx, k)
				b, f := y.Get(ctx, k)
				if !bytes.Equal(a, b) || abi.ErrnoOf(e) != abi.ErrnoOf(f) {
					t.Fatalf("%s is %q, %v, not %q, %v", k, a, e, b, f)
				}
				for i := range a {
					a[i] = '!' // it is the caller's
				}
			},
			"scan": func(t *rapid.T) {
				from, to, max := key(), key(), rapid.IntRange(0, 20).Draw(t, "max")
				a, e := x.Scan(ctx, from, to, max)
				b, f := y.Scan(ctx, from, to, max)
				if !reflect.DeepEqual(a, b) || e != nil || f != nil {
					t.Fatalf("%s to %s, %d: %q %v, not %q %v", from, to, max, a, e, b, f)
				}
			},
			"commit": func(t *rapid.T) {
				seq++
				is(t, "commit", x.Commit(seq), 0)
				m.Commit(seq)
			},
			"die": func(t *rapid.T) {
				old := x
				if rapid.Bool().Draw(t, "drop first") {
					s.Drop()
				}
				x = s.Open()
				m.Reopen()
				y = m.Store()
				is(t, "write by the dead", old.Write(ctx, []modapi.StoreOp{{Key: []byte("k1")}}), abi.ENXIO)
				_, err := old.Get(ctx, []byte("k1"))
				is(t, "get by the dead", err, abi.ENXIO)
				_, err = old.Scan(ctx, nil, nil, 0)
				is(t, "scan by the dead", err, abi.ENXIO)
				is(t, "commit for the dead", old.Commit(seq+1), abi.ENXIO)
				if s.Seq() != seq {
					t.Fatalf("seq %d, want %d", s.Seq(), seq)
				}
				if st := s.Stats(); st.Pending != 0 || st.Records != len(m.Records()) {
					t.Fatalf("%+v, want %d records", st, len(m.Records()))
				}
			},
			"": func(t *rapid.T) {
				if st := s.Stats(); st.Bytes != mem.used {
					t.Fatalf("%d bytes, counted %d", st.Bytes, mem.used)
				}
			},
		})
		if a, b := all(t, x, 7), all(t, y, 100); !reflect.DeepEqual(a, b) {
			t.Fatalf("%q, not %q", a, b)
		}
		is(t, "commit", x.Commit(seq+1), 0)
		m.Commit(seq + 1)
		var want int64
		for k, v := range m.Records() {
			want += 64 + int64(len(k)+len(v))
		}
		if mem.used != want {
			t.Fatalf("%d bytes counted, want %d", mem.used, want)
		}
		var keys []string
		s.Each(func(k string, _ []byte) bool { keys = append(keys, k); return true })
		if !slices.Equal(keys, slices.Sorted(maps.Keys(m.Records()))) {
			t.Fatalf("%q", keys)
		}
		s.Close()
		if mem.used != 0 {
			t.Fatalf("%d bytes after Close", mem.used)
		}
		is(t, "get after Close", func() error { _, err := x.Get(ctx, []byte("k")); return err }(), abi.ENXIO)
		is(t, "open after Close", s.Open().Write(ctx, nil), abi.ENXIO)
	})
}

// TestLimits: what is too large or too much is refused, and changes nothing.
func TestLimits(t *testing.T) {
	mem := &memory{limit: 1 << 20}
	s := store.New(store.Options{Account: mem.account})
	x := s.Open()
	big := bytes.Repeat([]byte("k"), modapi.MaxStoreKey+1)
	w := func(ops ...modapi.StoreOp) error { return x.Write(ctx, ops) }
	ok := modapi.StoreOp{Key: []byte("a"), Value: []byte("b")}
	is(t, "no key", w(ok, modapi.StoreOp{}), abi.EINVAL)
	is(t, "long key", w(ok, modapi.StoreOp{Key: big}), abi.EINVAL)
	is(t, "long value", w(ok, modapi.StoreOp{Key: big[1:], Value: make([]byte, modapi.MaxStoreValue+1)}), abi.E2BIG)
	_, err := x.Get(ctx, nil)
	is(t, "get without key", err, abi.EINVAL)
	_, err = x.Scan(ctx, big, nil, 0)
	is(t, "scan from a long key", err, abi.EINVAL)
	_, err = x.Scan(ctx, nil, big, 0)
	is(t, "scan to a long key", err, abi.EINVAL)
	_, err = x.Scan(ctx, nil, nil, -1)
	is(t, "scan of -1", err, abi.EINVAL)
	if st := s.Stats(); st != (store.Stats{}) || mem.used != 0 {
		t.Fatalf("%+v, %d bytes", st, mem.used)
	}
	var n int
	for err == nil || n == 0 {
		err = w(modapi.StoreOp{Key: fmt.Append(nil, n), Value: make([]byte, modapi.MaxStoreValue)})
		n++
		if n > 100 {
			t.Fatal("there is no limit")
		}
	}
	is(t, "memory", err, abi.ENOMEM)
	if st := s.Stats(); st.Records != n-1 || st.Bytes > mem.limit {
		t.Fatalf("%d written, %+v", n-1, st)
	}
	recs, err := x.Scan(ctx, nil, nil, 0)
	is(t, "scan", err, 0)
	if size := len(recs) * (modapi.MaxStoreValue + 8); size > modapi.MaxStoreScan || len(recs) < n/2 {
		t.Fatalf("%d records, %d bytes", len(recs), size)
	}
	is(t, "commit 0", x.Commit(0), abi.EINVAL)
	is(t, "commit", x.Commit(5), 0)
	is(t, "commit of less", x.Commit(4), abi.EINVAL)
	is(t, "commit of the same", x.Commit(5), 0)
	if s.Seq() != 5 || s.Ckpt() != 2 {
		t.Fatalf("seq %d, checkpoint %d", s.Seq(), s.Ckpt())
	}
}

// TestAfter: the key behind a key, which is the smallest there is.
func TestAfter(t *testing.T) {
	long := func(last ...byte) []byte {
		k := bytes.Repeat([]byte("k"), modapi.MaxStoreKey)
		copy(k[len(k)-len(last):], last)
		return k
	}
	for _, tc := range []struct{ key, want []byte }{
		{[]byte("a"), []byte("a\x00")},
		{long('a'), long('b')},
		{long('a', 0xff), append(long()[:modapi.MaxStoreKey-2], 'b')},
		{bytes.Repeat([]byte{0xff}, modapi.MaxStoreKey), nil},
	} {
		if got := modapi.StoreAfter(tc.key); !bytes.Equal(got, tc.want) || got != nil && bytes.Compare(got, tc.key) <= 0 {
			t.Errorf("after ...%q comes ...%q", tc.key[max(0, len(tc.key)-4):], got[max(0, len(got)-4):])
		}
	}
}

// TestParallel is for the race detector: readers, writers, commits and deaths
// at the same time.
func TestParallel(t *testing.T) {
	s := store.New(store.Options{})
	var wg sync.WaitGroup
	s.Open()
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 300 {
				if g == 0 && i%50 == 0 {
					s.Drop()
				}
				x := s.Open()
				x.Write(ctx, []modapi.StoreOp{{Key: fmt.Append(nil, i), Value: []byte("v")}, {Key: fmt.Append(nil, i-1), Delete: true}})
				x.Scan(ctx, nil, nil, 10)
				x.Get(ctx, fmt.Append(nil, i))
				x.Commit(s.Seq() + 1)
				s.Stats()
			}
		}()
	}
	wg.Wait()
	if s.Seq() == 0 {
		t.Error("nothing was ever committed")
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	for _, n := range []int{1000, 1000000} {
		b.Run(fmt.Sprint("records=", n), func(b *testing.B) {
			s := store.New(store.Options{})
			x := s.Open()
			val := make([]byte, 60)
			op := func(i int) modapi.StoreOp {
				return modapi.StoreOp{Key: fmt.Appendf(nil, "n%08d", i), Value: val}
			}
			for i := range n {
				x.Write(ctx, []modapi.StoreOp{op(i)})
			}
			x.Commit(1)
			ops := make([]modapi.StoreOp, 1000)
			for i := range ops {
				ops[i] = op(i * 997 % n)
			}
			b.ResetTimer()
			for i := range b.N {
				x.Write(ctx, ops)
				x.Commit(abi.OpSeq(i + 2))
			}
		})
	}
}
