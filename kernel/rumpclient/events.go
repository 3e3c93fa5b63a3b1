package rumpclient

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Event is something that happened in the kernel, see package evlog.
type Event = evlog.Event

// eventRoom is room for a good many events, in bytes.
const eventRoom = 64 << 10

// Events answers events after number seq (0: from the oldest that is kept), the
// oldest first, not always all: ask again with the number of the last one. With
// wait it waits until there is one. If the first has not the number seq+1 those
// between are lost, as the kernel keeps the last few thousand only. last is the
// number of the newest event that there was.
func (c *Client) Events(ctx context.Context, seq uint64, wait bool) (evs []Event, last uint64, err error) {
	a := args()
	a.A[0] = seq
	if wait {
		a.A[1] = 1
	}
	a.Out = make([]byte, eventRoom)
	err = c.k.Syscall(ctx, abi.SYS_events, a)
	out, last := a.Out[:min(max(a.NO, 0), len(a.Out))], a.R[1]
	free(a)
	if err != nil {
		return nil, 0, fail(abi.SYS_events, "", err)
	}
	for line := range bytes.Lines(out) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, 0, answer(abi.SYS_events, "", err)
		}
		evs = append(evs, e)
	}
	return evs, last, nil
}
