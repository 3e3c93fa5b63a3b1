package syscall

import (
	"fmt"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// minPeriod is the shortest period of a timer: a tick of NetBSD at hz 1000.
const minPeriod = time.Millisecond

// timerEvent is EVFILT_TIMER. Data counts how often it expired since it was
// fetched last.
type timerEvent struct {
	now func() time.Time

	mu  sync.Mutex
	t   *time.Timer // protected by mu
	gen int         // protected by mu; which setting of the timer is valid
}

// newTimer checks what is asked for. EINVAL for a negative time or an unknown
// unit; EOPNOTSUPP in a kernel without threads, whose callouts never fire.
func (k *Kernel) newTimer(ev *abi.Kevent) (event.Source, error) {
	if _, _, err := period(k.Now, ev.Fflags, ev.Data); err != nil {
		return nil, err
	}
	if k.NoThreads {
		return nil, fmt.Errorf("timer event: threads not available: %w", abi.EOPNOTSUPP)
	}
	return &timerEvent{now: k.Now}, nil
}

// period is the time to the first expiration and between them; 0: no more.
func period(now func() time.Time, fflags uint32, data int64) (first, every time.Duration, err error) {
	unit := time.Millisecond
	switch fflags &^ abi.NOTE_ABSTIME {
	case abi.NOTE_MSECONDS:
	case abi.NOTE_SECONDS:
		unit = time.Second
	case abi.NOTE_USECONDS:
		unit = time.Microsecond
	case abi.NOTE_NSECONDS:
		unit = time.Nanosecond
	default:
		return 0, 0, abi.EINVAL
	}
	if data < 0 {
		return 0, 0, abi.EINVAL
	}
	if fflags&abi.NOTE_ABSTIME != 0 {
		per := int64(time.Second / unit)
		at := time.Unix(data/per, data%per*int64(unit))
		return max(0, min(at.Sub(now()), maxWait)), 0, nil
	}
	if data > int64(maxWait/unit) {
		return maxWait, maxWait, nil
	}
	d := max(time.Duration(data)*unit, minPeriod)
	return d, d, nil
}

// Attach sets the timer.
func (s *timerEvent) Attach(k *event.Knote) error {
	fflags, data := k.Asked()
	return s.set(k, fflags, data)
}

// Touch sets it anew.
func (s *timerEvent) Touch(k *event.Knote, ev *abi.Kevent) error {
	if ev.Flags&abi.EV_ADD == 0 {
		return nil
	}
	return s.set(k, ev.Fflags, ev.Data)
}

func (s *timerEvent) set(k *event.Knote, fflags uint32, data int64) error {
	first, every, err := period(s.now, fflags, data)
	if err != nil {
		return err
	}
	k.Update(func(n *event.Happened) { n.Data, n.Active = 0, false })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.t != nil {
		s.t.Stop()
	}
	s.gen++
	gen := s.gen
	start := time.Now()
	var fired int64
	s.t = time.AfterFunc(first, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gen != gen {
			return
		}
		due := int64(1)
		if every > 0 { // those that a slow machine missed count as well
			due = max(1, int64(time.Since(start)/every)-fired)
			fired += due
		}
		once := every == 0
		k.Update(func(n *event.Happened) {
			if n.Flags&abi.EV_ONESHOT != 0 {
				once, due = true, 1
			}
			n.Data += due
			n.Active = true
			if once {
				n.Flags |= abi.EV_ONESHOT
			}
		})
		if !once {
			s.t.Reset(time.Until(start.Add(time.Duration(fired+1) * every)))
		}
	})
	return nil
}

// Detach stops the timer.
func (s *timerEvent) Detach(*event.Knote) {
	s.mu.Lock()
	s.gen++
	if s.t != nil {
		s.t.Stop()
	}
	s.mu.Unlock()
}
