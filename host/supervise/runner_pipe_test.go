package supervise

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

func TestLastWords(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""},
		{"one\ntwo\n\n  \n", "two"},
		{"one\nunfinished", "unfinished"},
		{"panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:3 +0x1d\n", "panic: boom"},
		{"a\nfatal error: out of memory\nb\n", "fatal error: out of memory"},
		{"a\nSIGABRT: abort\nPC=0x1\n\nrax 0\n", "SIGABRT: abort"},
		{"SIGNAL: none\nb\n", "b"},
		{`{"@level":"error","@message":"cannot go on","error":"no memory"}` + "\n", "cannot go on: no memory"},
		{"why\n" + `{"@level":"debug","@message":"plugin address"}` + "\n", "why"},
		{`{"@level":"warn"` + "\n", `{"@level":"warn"`},
		{"\x1b[31mred\tand\x00\xff\n", "?[31mred and??"},
		{strings.Repeat("ä", 300), strings.Repeat("ä", 100) + "..."},
		{strings.Repeat("x", 3*maxLine) + "\nend\n", "end"},
	} {
		p := &pipe{}
		for in := []byte(tc.in); len(in) > 0; in = in[min(7, len(in)):] {
			p.note(in[:min(7, len(in))])
		}
		if got := p.lastWords(); got != tc.want {
			t.Errorf("%.60q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestLineLog(t *testing.T) {
	var b bytes.Buffer
	l := &lineLog{log: hclog.New(&hclog.LoggerOptions{Output: &b, DisableTime: true}), stream: "stdout"}
	for _, s := range []string{"one\ntw", "o\n", "\xff\nrest", strings.Repeat("y", 2*maxLine)} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	if want := "[INFO]  one: stream=stdout\n[INFO]  two: stream=stdout\n[INFO]  ?: stream=stdout\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	if len(l.buf) > maxLine {
		t.Errorf("%d bytes kept of a line", len(l.buf))
	}
}

// FuzzPipe: whatever a component writes, what an error shows of it is one
// bounded line, and the memory for it is bounded.
func FuzzPipe(f *testing.F) {
	for _, s := range []string{"", "1|1|unix|/x|grpc|\n", "1|7|unix|/x", "a|b|c|d", "panic: x\n", "{\"@message\":\"m\\nn\"}\n", "\xff\xfe\x00\n\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(1, min(step, 1<<16))
		p := &pipe{}
		for in := b; len(in) > 0; in = in[min(step, len(in)):] {
			p.note(in[:min(step, len(in))])
		}
		for _, s := range []string{p.lastWords(), oneLine(string(b))} {
			if len(s) > 203 || strings.ContainsAny(s, "\n\r\x00\x1b") || !utf8.ValidString(s) {
				t.Fatalf("%q", s)
			}
		}
		if len(p.line) > maxLine || len(p.first) > maxLine || len(p.last) > maxLine || len(p.crash) > maxLine {
			t.Fatal("a line is kept beyond its bound")
		}
		line, ok := p.firstLine()
		if h := parseHandshake(line); h != nil && !ok {
			t.Fatal("a handshake out of nothing")
		}
	})
}
