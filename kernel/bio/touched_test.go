package bio_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestTouched: what a process used since the last Drop, as of the checkpoint.
func TestTouched(t *testing.T) {
	r := newRig(t, wlog.NewMem(4<<20, 512), bio.Options{})
	l := r.layered(bio.LayerOptions{})
	io := l.IO()
	one := func(fl devops.BufFlags, blkno int64, c byte) {
		data := bytes.Repeat([]byte{c}, 4096)
		r.strategy(io, &devops.Buf{Flags: fl, Blkno: blkno, Bytes: 4096, Data: abi.IovOf(data)})
	}
	one(devops.BWrite, 0, 'a')
	one(devops.BWrite|devops.BMeta, 64, 'b')
	l.Checkpoint(1, 1)
	one(devops.BWrite, 0, 'x')
	one(devops.BRead, 128, 0)
	if _, err := l.Touched(t.Context(), 8192); !errors.Is(err, abi.E2BIG) {
		t.Fatalf("over the limit: %v", err)
	}
	got, err := l.Touched(t.Context(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	find := func(off int64) *bio.TouchedBlock {
		for i := range got {
			if b := &got[i]; b.Off <= off && off < b.Off+int64(len(b.Data)) {
				return b
			}
		}
		return nil
	}
	for _, x := range []struct {
		off  int64
		c    byte
		meta bool
	}{{0, 'a', false}, {64 * 512, 'b', true}, {128 * 512, 0, false}} {
		b := find(x.off)
		if b == nil || b.Data[x.off-b.Off] != x.c || b.Meta != x.meta {
			t.Errorf("at %d: %+v", x.off, b)
		}
	}
	if find(1<<20) != nil {
		t.Error("a block that nobody used")
	}
	if again, err := l.Touched(t.Context(), 1<<20); err != nil || len(again) != 0 {
		t.Errorf("after a Drop: %d blocks, %v", len(again), err)
	}
}
