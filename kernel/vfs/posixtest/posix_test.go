package posixtest_test

import (
	"os"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/vfs/posixtest"
)

var worlds = []struct {
	name string
	make func(t *testing.T) posixtest.World
}{
	{"tmpfs", linuxTmpfs}, {"ext4", linuxExt4},
	{"inprocess", embedded}, {"nocache", nocache}, {"stream", overStream}, {"ring", overRing},
	{"nullfs", overNull}, {"hostfs", overHostfs}, {"fuse", overFUSE},
}

// TestPOSIX judges every file system by the whole table: two of Linux's, so that
// the table is POSIX's and not ours, and this kernel's in every way that leads to
// them. POSIX_TABLE names a file to write the count to.
func TestPOSIX(t *testing.T) {
	var names []string
	var results []posixtest.Result
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			world := w.make(t)
			names = append(names, world.Name)
			results = append(results, posixtest.Run(t, world))
		})
	}
	if at := os.Getenv("POSIX_TABLE"); at != "" {
		if err := os.WriteFile(at, []byte(posixtest.Table(names, results)), 0o644); err != nil {
			t.Error(err)
		}
	}
}
