package uidinfo

import (
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestUidinfo: counts by user, limits, and back to 0.
func TestUidinfo(t *testing.T) {
	var tb Table
	i := tb.Find(7)
	if tb.Find(7) != i || tb.Find(8) == i {
		t.Error("one record a user")
	}
	for n, c := range map[string]func(diff int, max int64) error{"proc": i.Chgproccnt, "lwp": i.Chglwpcnt, "lock": i.Chglockcnt} {
		if err := c(2, 3); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		if err := c(2, 3); err != abi.EAGAIN {
			t.Errorf("%s above the limit: %v", n, err)
		}
		if err := c(1, 3); err != nil {
			t.Errorf("%s up to the limit: %v", n, err)
		}
		if err := c(-3, 0); err != nil {
			t.Errorf("%s: less is always allowed: %v", n, err)
		}
	}
	var hiwat int64
	if err := i.Chgsbsize(&hiwat, 100, 150); err != nil || hiwat != 100 {
		t.Errorf("%d %v", hiwat, err)
	}
	if err := i.Chgsbsize(&hiwat, 151, 150); err != abi.EAGAIN || hiwat != 100 {
		t.Errorf("%d %v", hiwat, err)
	}
	if err := i.Chgsbsize(&hiwat, 0, 0); err != nil {
		t.Error(err)
	}
	if c := i.Counts(); c != (Counts{}) {
		t.Errorf("left %+v", c)
	}
}

// TestConcurrent: nothing is lost, and the limit holds.
func TestConcurrent(t *testing.T) {
	var tb Table
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 200 {
				i := tb.Find(1)
				if i.Chgproccnt(1, 20) == nil {
					if n := i.Counts().Procs; n > 20 {
						t.Errorf("%d processes", n)
					}
					_ = i.Chgproccnt(-1, 0)
				}
			}
		})
	}
	wg.Wait()
	if c := tb.Find(1).Counts(); c != (Counts{}) {
		t.Errorf("left %+v", c)
	}
}
