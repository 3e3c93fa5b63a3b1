package uidinfo

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestSbuf: both buffers of a socket count or none, up to the limit, and the
// count returns to 0.
func TestSbuf(t *testing.T) {
	var tab Table
	i := tab.Find(7)
	var a, b Sbuf
	for _, tc := range []struct {
		err  error
		want error
		sum  int64
	}{
		{a.Reserve(i, 10, 20, 30), nil, 30},
		{b.Reserve(i, 10, 20, 45), abi.ENOBUFS, 30}, // the second does not fit: neither counts
		{b.Reserve(i, 10, 20, 60), nil, 60},
		{b.SetSnd(11, 60), abi.ENOBUFS, 60},
		{b.SetRcv(1, 0), nil, 41}, // less is always allowed
		{b.SetSnd(29, 60), nil, 60},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%v, want %v", tc.err, tc.want)
		}
	}
	if n := i.Counts().Sbsize; n != 60 {
		t.Errorf("%d bytes", n)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range int64(100) {
				_ = a.SetSnd(n, math.MaxInt64)
				_ = b.SetRcv(n, math.MaxInt64)
			}
			a.Release()
		})
	}
	wg.Wait()
	b.Release()
	b.Release()
	if err := b.SetSnd(5, math.MaxInt64); err != nil || i.Counts().Sbsize != 0 {
		t.Errorf("%v, %d bytes left", err, i.Counts().Sbsize)
	}
}
