package iostat

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestIostat: bytes, transfers, seeks and busy time move as they should, and
// overlapping transfers are busy once.
func TestIostat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		st, err := s.Alloc(Disk, "disk0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Alloc(Disk, "disk0"); abi.ErrnoOf(err) != abi.EEXIST {
			t.Errorf("twice: %v", err)
		}
		time.Sleep(time.Second)
		st.Busy()
		time.Sleep(time.Second)
		st.Busy()
		time.Sleep(time.Second)
		st.Unbusy(100, true)
		time.Sleep(time.Second)
		st.Unbusy(7, false)
		time.Sleep(time.Second)
		st.Busy()
		st.Unbusy(0, true)
		st.Seek()
		want := Row{Name: "disk0", Reads: 1, RBytes: 100, Writes: 1, WBytes: 7, Seeks: 1, BusyNs: 3e9, UptimeNs: 5e9}
		if got := s.Find("disk0").Row(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, err := s.Alloc(Chr, "a"); err != nil || s.Names() != "a disk0" {
			t.Errorf("names %q, %v", s.Names(), err)
		}
		s.Free(st)
		s.Free(nil)
		if s.Names() != "a" || s.Find("disk0") != nil {
			t.Errorf("names %q", s.Names())
		}
		var none *Stats
		none.Busy()
		none.Unbusy(1, true)
		none.Seek()
	})
}
