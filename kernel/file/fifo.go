package file

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// OpenFifo opens a fifo (fifo_open): the pipe of all who have it open is kept
// in *slot, which mu protects, and is nil while nobody has.
//
// Opening for reading waits for a writer, opening for writing for a reader;
// with O_NONBLOCK the reader does not wait and the writer gets ENXIO; opening
// for both never waits. An open that somebody came to meet succeeds even if he
// has closed since. EINTR.
func (ps *Pipes) OpenFifo(ctx context.Context, mu sync.Locker, slot *any, flags int) (Ops, any, error) {
	mode := flags & abi.O_ACCMODE
	e := &pipeEnd{fifo: true, r: mode != abi.O_WRONLY, w: mode != abi.O_RDONLY}
	nonblock := flags&abi.O_NONBLOCK != 0
	mu.Lock()
	p, _ := (*slot).(*pipe)
	if p == nil {
		p = ps.newPipe()
	}
	p.mu.Lock()
	if e.w && !e.r && nonblock && p.readers == 0 {
		p.mu.Unlock()
		mu.Unlock()
		return nil, nil, abi.ENXIO
	}
	*slot = p
	e.p, e.seen = p, p.wopened
	met := p.ropened
	if e.r {
		p.readers++
		p.ropened++
	}
	if e.w {
		p.writers++
		p.wopened++
	}
	if e.r && e.w {
		p.both++
	}
	if p.writers > 0 {
		e.seen-- // its end is still to come
	}
	wait := (e.r && p.writers == 0 && p.n == 0 || e.w && p.readers == 0) && !nonblock
	wopened := p.wopened
	p.mu.Unlock()
	mu.Unlock()
	e.drop = func() {
		mu.Lock()
		defer mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		if *slot == p && p.readers == 0 && p.writers == 0 {
			*slot = nil
		}
	}
	p.rsel.Notify()
	p.wsel.Notify()
	if !wait {
		return pipeOps{}, e, nil
	}
	sel := &p.rsel
	if e.w {
		sel = &p.wsel
	}
	err := sel.Wait(ctx, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if e.r && p.wopened == wopened && p.n == 0 || e.w && p.ropened == met {
			return abi.EAGAIN
		}
		return nil
	})
	if err != nil {
		e.close()
		return nil, nil, err
	}
	return pipeOps{}, e, nil
}
