package kprintf

import (
	"strings"
	"testing"
	"time"
)

func TestRingKeepsWholeLastLines(t *testing.T) {
	now := time.Unix(100, 0)
	m := New(func() time.Time { return now }, nil, nil)
	for i := range 3000 {
		m.Printf("line %d", i)
	}
	b, end := m.Read(0)
	s := string(b)
	if len(s) > Size || len(s) < Size-64 {
		t.Errorf("buffer holds %d bytes", len(s))
	}
	if !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "line 2999\n") {
		t.Errorf("first %q, last %q", s[:30], s[len(s)-30:])
	}
	m.Printf("more\nthan \x1b one\n")
	b, _ = m.Read(end)
	if got, want := string(b), "[    0.000000] more\n[    0.000000] than ? one\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoggerSink(t *testing.T) {
	var got []string
	m := New(time.Now, nil, func(level, msg string, kv []any) { got = append(got, level+" "+msg) })
	l := m.Logger("tmpfs")
	l.Debug("quiet")
	l.Warn("full", "pages", 3)
	if strings.Join(got, "|") != "debug tmpfs: quiet|warn tmpfs: full" {
		t.Errorf("sink got %q", got)
	}
	b, _ := m.Read(0)
	if s := string(b); strings.Contains(s, "quiet") || !strings.Contains(s, "tmpfs: WARN: full pages=3") {
		t.Errorf("buffer %q", s)
	}
}
