package evcnt

import "testing"

// TestAttachDetach: attach, count, list and detach, by type.
func TestAttachDetach(t *testing.T) {
	s := New()
	c := s.AttachType(Intr, "softint", "net")
	s.AttachType(Trap, "cpu0", "fault").Add(3)
	s.Attach("vfs", "lookups")
	c.Inc()
	if s.AttachType(Misc, "softint", "net") != c {
		t.Error("a second counter of the same name")
	}
	want := []Row{{"cpu0", "fault", 3, "trap"}, {"softint", "net", 1, "intr"}, {"vfs", "lookups", 0, "misc"}}
	rows := s.Rows()
	if len(rows) != len(want) {
		t.Fatalf("rows %+v", rows)
	}
	for i := range want {
		if rows[i] != want[i] {
			t.Errorf("%+v, want %+v", rows[i], want[i])
		}
	}
	s.Detach("softint", "net")
	c.Inc()
	if len(s.Rows()) != 2 {
		t.Errorf("rows %+v", s.Rows())
	}
	if n := s.Attach("softint", "net"); n == c || n.Load() != 0 {
		t.Error("a new counter goes on where the old one was")
	}
}
