package modtest_test

import (
	"testing"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// The kit runs on a file system that we believe in.
func TestFSKit(t *testing.T) {
	modtest.TestFS(t, func(t *testing.T) modtest.FSUnderTest {
		return modtest.FSUnderTest{Mods: []modapi.Module{tmpfs.New()}, Type: "tmpfs"}
	})
}
