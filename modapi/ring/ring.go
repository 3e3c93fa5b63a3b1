package ring

import (
	"os"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
)

// EnvTransport is the environment variable that keeps a process off rings if
// it says "stream", for tests and diagnosis.
const EnvTransport = "RUMPUS_TRANSPORT"

// Enabled reports whether rings are to be used here: they are supported and
// not forbidden. It looks at the environment each time, so that one process can
// have both, as benchmarks do.
func Enabled() bool {
	return os.Getenv(EnvTransport) != "stream" && Supported()
}

// Counters are what happens on rings. Several may share one.
type Counters struct {
	Calls   *modapi.Counter // by the ring
	Full    *modapi.Counter // that went by the stream for want of room
	Parked  *modapi.Counter // that were not complete soon
	Wakeups *modapi.Counter // of the peer
	Lies    *modapi.Counter // of the peer
	Rescued *modapi.Counter // complete without a ring of the bell
	Batches *modapi.Counter // of several calls with one bell
	Notes   *modapi.Counter // one-way frames by the ring, either way
	Late    *modapi.Counter // calls that nobody had taken after 5 ms
}

// NewCounters makes counters of the group "ring" by attach, which may answer
// the same ones again; nil: they are seen by nobody else.
func NewCounters(attach func(group, name string) *modapi.Counter) *Counters {
	c := func(name string) *modapi.Counter {
		if attach == nil {
			return new(modapi.Counter)
		}
		return attach("ring", name)
	}
	return &Counters{Calls: c("calls"), Full: c("full"), Parked: c("parked"), Wakeups: c("wakeups"), Lies: c("lies"), Rescued: c("rescued"),
		Batches: c("batches"), Notes: c("notes"), Late: c("late")}
}

// Options of an End.
type Options struct {
	// Second says that this is the second side, the one that was handed the
	// memory. The first side's calls go by the first half.
	Second bool
	// Serve has the peer's calls served.
	Serve bool
	// Own copies the payload of requests before they are served, as for a
	// handler that believes what it has read.
	Own bool
	// Workers bounds the requests served at a time (as many as fit in the
	// ring).
	Workers int
	// Counters count; nil: nowhere.
	Counters *Counters

	nap time.Duration // for tests: instead of maxSleep
}

// discard counts where nobody looks.
var discard = NewCounters(nil)
