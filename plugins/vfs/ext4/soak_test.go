package ext4

import (
	"os"
	"strconv"
	"testing"
)

// TestSoak is more of the random work and of the power cuts: as many seeds as
// RUMPUS_SOAK says.
func TestSoak(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("RUMPUS_SOAK"))
	if err != nil || n < 1 {
		t.Skip("RUMPUS_SOAK is not a number of seeds")
	}
	for i := range n {
		seed := uint64(1000 + i)
		l := layouts[i%len(layouts)]
		t.Run(l.name+"/"+strconv.Itoa(int(seed)), func(t *testing.T) {
			t.Parallel()
			random(t, mkfs(t, l.size, l.args...), seed, 3000)
			if l.journal {
				crash(t, mkfs(t, 12<<20, append(append([]string{}, l.args...), "-J", "size=4", "-N", "2048")...), seed, 300, 20)
			}
		})
	}
}
