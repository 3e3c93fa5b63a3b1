//go:build race

package tmpfs

const raceEnabled = true
