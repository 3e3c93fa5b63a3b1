//go:build race

package ring

import "sync/atomic"

// raceEnabled says that the race detector is there.
const raceEnabled = true

// order stands for the shared words, which the race detector does not follow
// from one mapping to the other when both ends live in one process. As with
// the system calls of package syscall, everything before a publication is
// ordered before everything after a later take.
var order atomic.Uint32

func released() { order.Add(1) }
func acquired() { order.Load() }
