package main

import (
	"os"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func handlesTmpfs(*testing.T) modtest.FSUnderTest {
	return modtest.FSUnderTest{Mods: []modapi.Module{tmpfs.New()}, Type: "tmpfs"}
}

func handlesHostfs(t *testing.T) modtest.FSUnderTest {
	d, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return modtest.FSUnderTest{
		Mods: []modapi.Module{hostfs.New()}, Type: "hostfs", Source: "/data",
		Grants: map[string]*os.File{"host.dir:/data": d},
	}
}

func TestForgedHandles(t *testing.T) {
	t.Run("tmpfs", func(t *testing.T) { modtest.TestHandles(t, handlesTmpfs) })
	t.Run("hostfs", func(t *testing.T) { modtest.TestHandles(t, handlesHostfs) })
}

func FuzzTmpfsHandles(f *testing.F)  { modtest.FuzzHandles(f, handlesTmpfs) }
func FuzzHostfsHandles(f *testing.F) { modtest.FuzzHandles(f, handlesHostfs) }
