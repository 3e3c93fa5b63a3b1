package evcnt

import (
	"fmt"
	"strings"
	"testing"
)

func TestAttach(t *testing.T) {
	s := New()
	s.Attach("vfs", "lookups").Add(3)
	s.Attach("vfs", "lookups").Inc()
	s.Attach("net", strings.Repeat("x", 300)).Inc()
	rows := s.Rows()
	if len(rows) != 2 || rows[1] != (Row{"vfs", "lookups", 4, "misc"}) || len(rows[0].Name) != 255 {
		t.Errorf("rows %+v", rows)
	}
}

func TestBound(t *testing.T) {
	s := New()
	for i := range Max + 100 {
		s.Attach("g", fmt.Sprint(i)).Inc()
	}
	rows := s.Rows()
	if len(rows) != Max+1 || rows[0] != (Row{"evcnt", "overflow", 100, "misc"}) {
		t.Errorf("%d rows, first %+v", len(rows), rows[0])
	}
}
