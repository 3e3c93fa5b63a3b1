package posixtest_test

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/vfs/posixtest"
)

// TestRacingRenames moves a tree about, by several processes at a time.
func TestRacingRenames(t *testing.T) {
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			world := w.make(t)
			for seed := range uint64(2) {
				posixtest.RaceRenames(t, world, seed, 4, 60)
			}
			posixtest.RaceReplace(t, world, 3, 30)
		})
	}
}
