package fuse

import (
	"os"
	"testing"
)

func TestBasics(t *testing.T) {
	r := newRig(t, Options{})
	r.ok(os.WriteFile(r.p("a"), []byte("hello"), 0o644))
	b, err := os.ReadFile(r.p("a"))
	r.ok(err)
	if string(b) != "hello" {
		t.Fatalf("read %q", b)
	}
	got, err := r.c.ReadFile(r.ctx, "/a")
	r.ok(err)
	if string(got) != "hello" {
		t.Fatalf("the kernel has %q", got)
	}
	r.ok(os.Mkdir(r.p("d"), 0o755))
	r.ok(os.Symlink("a", r.p("l")))
	r.ok(os.Link(r.p("a"), r.p("d/b")))
	r.ok(os.Rename(r.p("d/b"), r.p("c")))
	es, err := os.ReadDir(r.dir)
	r.ok(err)
	if len(es) != 5 {
		t.Fatalf("entries %v, wanted a c d dev l", es)
	}
	r.ok(os.RemoveAll(r.p("d")))
}
