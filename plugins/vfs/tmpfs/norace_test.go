//go:build !race

package tmpfs

const raceEnabled = false
