package local

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// rightsRatio bounds the files in flight to a share of kern.maxfiles
// (unp_rights_ratio).
const rightsRatio = 2

// launch counts the files of a message that is about to be sent, or refuses:
// EAGAIN if too many are in flight, EOPNOTSUPP for a kqueue, which belongs to
// its process.
func (d *Domain) launch(files []*file.File) error {
	for _, f := range files {
		if f.Type == file.TypeKqueue {
			return fmt.Errorf("a kqueue cannot be sent: %w", abi.EOPNOTSUPP)
		}
	}
	if n := int64(len(files)); d.rights.Add(n) > d.o.Files.Max.Load()/rightsRatio {
		d.rights.Add(-n)
		return fmt.Errorf("too many files in flight: %w", abi.EAGAIN)
	}
	return nil
}

// flyLocked notes that to has got a message with files.
func (d *Domain) flyLocked(to *Socket, c *control) {
	d.holders[to]++
	for _, f := range c.files {
		f.Launch()
		if Of(f) != nil {
			d.inflight[f] = struct{}{}
		}
	}
}

// landLocked notes that a message with files has left s: its references are
// the caller's.
func (d *Domain) landLocked(s *Socket, c *control) {
	if d.holders[s]--; d.holders[s] <= 0 {
		delete(d.holders, s)
	}
	for _, f := range c.files {
		f.Land()
	}
	for _, f := range c.files {
		if Of(f) != nil && !f.InFlight() {
			delete(d.inflight, f)
		}
	}
	d.rights.Add(-int64(len(c.files)))
}

// strip takes all files out of the messages that s has, and with all set the
// messages too.
func (s *Socket) strip(all bool) []*file.File {
	s.d.flightMu.Lock()
	defer s.d.flightMu.Unlock()
	return s.stripLocked(all)
}

// stripLocked is strip. Preconditions: flightMu is held.
func (s *Socket) stripLocked(all bool) []*file.File {
	var files []*file.File
	s.rcv.mu.Lock()
	defer s.rcv.mu.Unlock()
	for _, c := range s.rcv.controlsLocked() {
		if len(c.files) > 0 {
			s.d.landLocked(s, c)
			files = append(files, c.files...)
			c.files = nil
		}
	}
	if all {
		s.rcv.clearLocked()
	}
	return files
}

func release(ctx context.Context, files []*file.File) {
	for _, f := range files {
		f.Release(ctx)
	}
}

// collect closes the files in messages of sockets that nobody can reach
// (unp_gc): those to which only messages refer, and these only lie in sockets
// of the same kind. Sockets in the queue of a listener are reached through it.
func (d *Domain) collect() {
	d.flightMu.Lock()
	lost := map[*file.File]struct{}{} // sockets that may be out of reach
	for f := range d.inflight {
		if f.Orphan() {
			lost[f] = struct{}{}
		}
	}
	if len(lost) == 0 {
		d.flightMu.Unlock()
		return
	}
	byOwner := map[*file.File][]*Socket{}
	var work []*Socket // sockets within reach
	for s := range d.holders {
		f := s.owner.Load()
		if _, ok := lost[f]; ok {
			byOwner[f] = append(byOwner[f], s)
		} else {
			work = append(work, s)
		}
	}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		s.rcv.mu.Lock()
		for _, c := range s.rcv.controlsLocked() {
			for _, f := range c.files {
				if _, ok := lost[f]; ok {
					delete(lost, f)
					work = append(work, byOwner[f]...)
				}
			}
		}
		s.rcv.mu.Unlock()
	}
	var files []*file.File
	for f := range lost {
		for _, s := range byOwner[f] {
			files = append(files, s.stripLocked(false)...)
		}
	}
	d.flightMu.Unlock()
	for range files {
		d.collected.Inc()
	}
	release(context.Background(), files)
}
