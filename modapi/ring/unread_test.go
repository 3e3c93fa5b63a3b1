//go:build linux

package ring

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/stream"
)

// TestUnread: what the peer has said is seen before anybody has looked at it: a
// request in the ring, and the answer to a parked call.
func TestUnread(t *testing.T) {
	a, _ := both(t, echo, stream.Options{})
	if a.Unread() {
		t.Error("nobody has said anything")
	}
	late := a.srv.h.entry(5) // not the next one, so that nobody takes it
	late.Store(1)
	if !a.Unread() {
		t.Error("there is a request")
	}
	late.Store(0)
	const slot = 70
	put(a.parked[:], slot)
	a.mine[slot].gen.Store(3)
	for state, want := range map[uint32]bool{submitted: false, taken | waitBell: false, complete: true, complete | waitBell: true} {
		a.out.slot(slot).Store(3<<genShift | state)
		if a.Unread() != want {
			t.Errorf("state %d: unread %v", state, !want)
		}
	}
	a.out.slot(slot).Store(4<<genShift | complete)
	if a.Unread() {
		t.Error("the answer to an earlier call")
	}
	drop(a.parked[:], slot)
}
