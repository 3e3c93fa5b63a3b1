package syscall

import (
	"context"
	"encoding/json"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxEvents is how many events one call looks at.
const maxEvents = 256

// sysEvents reads the events after number A[0] (events), the oldest first, as
// JSON, one object a line, as many as have room; with A[1] it waits until there
// is one. R = {bytes, number of the newest event that there is}. EINVAL: the
// first has no room.
func sysEvents(ctx context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	if k.Events == nil {
		return abi.ENOSYS
	}
	after := a.A[0]
	if a.A[1] != 0 {
		if err := k.Events.Wait(ctx, after); err != nil {
			return err
		}
	}
	evs := k.Events.After(after, maxEvents)
	a.R[1] = k.Events.Last()
	a.NO = 0
	for _, e := range evs {
		b, err := line(e)
		if err != nil {
			return err
		}
		if a.NO+len(b) > len(a.Out) {
			if a.NO == 0 {
				return abi.EINVAL
			}
			break
		}
		a.NO += copy(a.Out[a.NO:], b)
	}
	a.R[0] = uint64(a.NO)
	return nil
}

func line(e evlog.Event) ([]byte, error) {
	b, err := json.Marshal(e)
	return append(b, '\n'), err
}
