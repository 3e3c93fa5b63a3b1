package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the binding "stream"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cons"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
)

// TestBindings runs the three modules as the kernel reaches them, in-process
// and over the stream.
func TestBindings(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	newMods := func() []modapi.Module { return []modapi.Module{mem.New(), rnd.New(), cons.New()} }
	opt := modtest.Options{Grants: map[string]*os.File{cons.Grant: out}}
	modtest.Bindings(t, newMods, opt, func(t *testing.T, k *modtest.Kernel) {
		bg := context.Background()
		for name, nodes := range map[string]int{"mem": 3, "rnd": 2, "cons": 1} {
			n, ok := k.Chrs[name].Ops.(devops.Noder)
			if !ok || len(n.Nodes()) != nodes {
				t.Errorf("%s has other nodes than %d", name, nodes)
			}
		}
		m, r, c := k.Chrs["mem"].Ops, k.Chrs["rnd"].Ops, k.Chrs["cons"].Ops

		big := bytes.Repeat([]byte{0xa5}, 1<<20)
		if n, err := m.Read(bg, mem.UnitZero, 0, abi.IovOf(big), 0); n != len(big) || err != nil {
			t.Errorf("read of zero: %d, %v", n, err)
		}
		if !bytes.Equal(big, make([]byte, 1<<20)) {
			t.Error("zero is not all zeros")
		}
		if n, err := m.Write(bg, mem.UnitNull, 0, abi.IovOf(big), 0); n != len(big) || err != nil {
			t.Errorf("write to null: %d, %v", n, err)
		}
		if _, err := m.Write(bg, mem.UnitFull, 0, abi.IovOf(big[:1]), 0); abi.ErrnoOf(err) != abi.ENOSPC {
			t.Errorf("write to full: %v", err)
		}
		if err := m.Open(bg, 99, 0); abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("open of unit 99: %v", err)
		}
		if n, err := r.Read(bg, rnd.UnitURandom, 0, abi.IovOf(big), 0); n != len(big) || err != nil {
			t.Errorf("read of urandom: %d, %v", n, err)
		}
		if bytes.Equal(big[len(big)-16:], make([]byte, 16)) {
			t.Error("urandom ends in zeros")
		}
		if _, err := c.Ioctl(bg, 0, abi.TIOCGWINSZ, nil); abi.ErrnoOf(err) != abi.ENOTTY {
			t.Errorf("TIOCGWINSZ: %v", err)
		}

		text := "hello from " + t.Name() + "\n"
		if n, err := c.Write(bg, 0, 0, abi.IovOf([]byte(text)), 0); n != len(text) || err != nil {
			t.Fatalf("write to console: %d, %v", n, err)
		}
		deadline := time.Now().Add(60 * time.Second)
		for {
			got, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(got, []byte(text)) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the console has %q", got)
			}
		}
	})
}
