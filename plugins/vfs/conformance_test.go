package main

import (
	"os"
	"testing"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the stream as a binding
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestConformTmpfs(t *testing.T) {
	modtest.TestFS(t, func(*testing.T) modtest.FSUnderTest {
		return modtest.FSUnderTest{
			Mods: []modapi.Module{tmpfs.New()}, Type: "tmpfs",
			Options: map[string]string{"size": "16m", "nodes": "100k"},
		}
	})
}

func TestConformHostfs(t *testing.T) {
	modtest.TestFS(t, func(t *testing.T) modtest.FSUnderTest {
		d, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return modtest.FSUnderTest{
			Mods: []modapi.Module{hostfs.New()}, Type: "hostfs", Source: "/data",
			Grants: map[string]*os.File{"host.dir:/data": d},
		}
	})
}
