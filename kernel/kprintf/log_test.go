package kprintf

import (
	"strings"
	"testing"
	"time"
)

// TestLog: priorities are in /dev/klog's text and the host's log, not in
// dmesg's; they go with the lines that are overwritten.
func TestLog(t *testing.T) {
	var sunk []string
	now := time.Unix(0, 0)
	m := New(func() time.Time { return now }, nil, func(level, msg string, _ []any) { sunk = append(sunk, level+" "+msg) })
	woken := 0
	m.OnWrite(func() { woken++ })
	m.Printf("plain")
	m.Log(LogWarning, "two\nlines %d", 2)
	m.Log(99, "low")
	const stamp = "[    0.000000] "
	b, next := m.ReadLog(0)
	if want := stamp + "plain\n<4>" + stamp + "two\n<4>" + stamp + "lines 2\n<7>" + stamp + "low\n"; string(b) != want {
		t.Errorf("klog %q, want %q", b, want)
	}
	if d, _ := m.Read(0); strings.Contains(string(d), "<") {
		t.Errorf("dmesg %q", d)
	}
	if strings.Join(sunk, ",") != "warn two\nlines 2,debug low" || woken != 3 {
		t.Errorf("log %q, woken %d", sunk, woken)
	}
	m.Log(LogErr, "next")
	if b, next = m.ReadLog(next); string(b) != "<3>"+stamp+"next\n" || next != m.End() {
		t.Errorf("from a position on: %q", b)
	}
	for range 2000 {
		m.Log(LogInfo, "%s", strings.Repeat("x", 50))
	}
	m.Log(LogEmerg, "%s", strings.Repeat("y", 2*Size))
	if len(m.pris) > Size/20 {
		t.Errorf("%d priorities are kept", len(m.pris))
	}
	m.Log(LogErr, "end")
	if b, _ := m.ReadLog(next); !strings.HasSuffix(string(b), "<3>"+stamp+"end\n") {
		t.Errorf("at the end %q", b[max(0, len(b)-40):])
	}
}
