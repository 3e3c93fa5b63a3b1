package wlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// sample is a log with a record of each kind.
func sample(t testing.TB) (*wlog.Log, *wlog.Mem) {
	m := wlog.NewMemOf(bytes.Repeat([]byte{7}, 8<<10), 512)
	r := wlog.Record(m)
	ctx := t.Context()
	do := func(fl devops.BufFlags, blk, n int64, b byte) {
		buf := &devops.Buf{Flags: fl, Blkno: blk, Bytes: n, ID: abi.BufID(100*blk + int64(fl) + int64(b))}
		if fl&(devops.BWrite|devops.BRead) != 0 {
			buf.Data = abi.IovOf(bytes.Repeat([]byte{b}, int(n)))
		}
		if err := r.Strategy(ctx, buf); err != nil {
			t.Fatal(err)
		}
	}
	do(devops.BWrite, 0, 1024, 1)
	do(devops.BRead, 0, 1024, 1)
	do(devops.BWrite|devops.BFua, 4, 512, 2)
	do(devops.BFlush, 0, 0, 0)
	do(devops.BDiscard, 8, 512, 0)
	do(devops.BZeroes, 9, 512, 0)
	s := r.Redo()
	w, _ := s.Create(ctx)
	_, _ = w.Write([]byte("redo"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	r.Mark([]byte("promise"))
	do(devops.BWrite, 1, 512, 3)
	return r.Log(), m
}

func TestRecord(t *testing.T) {
	l, m := sample(t)
	var kinds []wlog.Kind
	for i, r := range l.Recs {
		kinds = append(kinds, r.Kind)
		if r.Seq != uint64(i+1) {
			t.Errorf("record %d has seq %d", i, r.Seq)
		}
	}
	if want := []wlog.Kind{wlog.Write, wlog.Write, wlog.Flush, wlog.Discard, wlog.Zeroes, wlog.RedoPut, wlog.RedoRemove, wlog.Mark, wlog.Write}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
	if l.Recs[1].Flags != wlog.FUA || l.Recs[2].Off != 2 {
		t.Errorf("%+v", l.Recs[1:3])
	}
	var last *wlog.Crash
	seen := map[string]bool{}
	err := l.CutPower(wlog.Cuts{Seed: 1}, func(c *wlog.Crash) error {
		seen[fmt.Sprint(c.Prefix, c.Image[0], c.Image[512], c.Redo != nil, len(c.Marks))] = true
		if c.Prefix >= 3 && (c.Image[0] != 1 || c.Image[4*512] != 2) {
			return errors.New("what a flush covered is gone")
		}
		if c.What == "all writes there" {
			last = c
		}
		return nil
	})
	if err != nil || !bytes.Equal(last.Image, m.Image()) {
		t.Errorf("%v; all of it is not what the device has", err)
	}
	for _, want := range []string{"0 7 7 false 0", "1 1 1 false 0", "1 7 7 false 0", "6 1 1 true 0", "7 1 1 false 0", "8 1 1 false 1", "9 1 3 false 1", "9 1 1 false 1"} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
	if err := l.CutPower(wlog.Cuts{}, func(c *wlog.Crash) error { return abi.EIO }); !errors.Is(err, abi.EIO) {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	l, _ := sample(t)
	var b bytes.Buffer
	n, err := l.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatal(n, err)
	}
	f := b.Bytes()
	got, err := wlog.ReadLog(bytes.NewReader(f))
	if err != nil || got.Sector != l.Sector || !bytes.Equal(got.Base, l.Base) || len(got.Recs) != len(l.Recs) {
		t.Fatal(err)
	}
	for i, r := range got.Recs {
		w := l.Recs[i]
		if r.Kind != w.Kind || r.Off != w.Off || r.Length != w.Length || r.Flags != w.Flags || !bytes.Equal(r.Data, w.Data) {
			t.Errorf("record %d: %+v, want %+v", i, r, w)
		}
	}
	for n := 0; n < len(f); n += 7 {
		if _, err := wlog.ReadLog(bytes.NewReader(f[:n])); !errors.Is(err, abi.EINVAL) {
			t.Fatalf("%d of %d bytes: %v", n, len(f), err)
		}
		if n >= 32 && n < 32+len(l.Base) {
			continue // the base has no checksum
		}
		bad := bytes.Clone(f)
		bad[n] ^= 1
		if _, err := wlog.ReadLog(bytes.NewReader(bad)); !errors.Is(err, abi.EINVAL) {
			t.Fatalf("byte %d is wrong: %v", n, err)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	l, _ := sample(f)
	var b bytes.Buffer
	_, _ = l.WriteTo(&b)
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:200])
	f.Fuzz(func(t *testing.T, p []byte) {
		l, err := wlog.ReadLog(bytes.NewReader(p))
		if err != nil {
			return
		}
		if len(l.Recs) > 16 || len(l.Base) > 64<<10 {
			return
		}
		_ = l.CutPower(wlog.Cuts{}, func(*wlog.Crash) error { return nil })
	})
}
