package uidinfo

import (
	"fmt"
	"math"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Sbuf is what the two buffers of a socket count for in the record of who made
// it (so_uidinfo with the sb_hiwats). The zero value counts for nobody.
type Sbuf struct {
	mu       sync.Mutex
	info     *Info
	snd, rcv int64
}

// Reserve counts both buffers for a user (soreserve). ENOBUFS above max
// (RLIMIT_SBSIZE), with nothing counted.
func (b *Sbuf) Reserve(info *Info, snd, rcv, max int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.info = info
	if err := b.setLocked(&b.snd, snd, max); err != nil {
		return err
	}
	if err := b.setLocked(&b.rcv, rcv, max); err != nil {
		_ = b.setLocked(&b.snd, 0, math.MaxInt64)
		return err
	}
	return nil
}

func (b *Sbuf) setLocked(hiwat *int64, to, max int64) error {
	if b.info == nil {
		return nil
	}
	if b.info.Chgsbsize(hiwat, to, max) != nil {
		return fmt.Errorf("socket buffers of uid %d would be more than %d bytes: %w", b.info.UID, max, abi.ENOBUFS)
	}
	return nil
}

// SetSnd and SetRcv change the size of one buffer (sbreserve). ENOBUFS.
func (b *Sbuf) SetSnd(to, max int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.setLocked(&b.snd, to, max)
}

// SetRcv is SetSnd for the other buffer.
func (b *Sbuf) SetRcv(to, max int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.setLocked(&b.rcv, to, max)
}

// Sizes are the sizes that count now, and for whom; nil for nobody.
func (b *Sbuf) Sizes() (info *Info, snd, rcv int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info, b.snd, b.rcv
}

// Release takes both out of the count, for good (sbrelease). Calling it again
// does nothing.
func (b *Sbuf) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.setLocked(&b.snd, 0, math.MaxInt64)
	_ = b.setLocked(&b.rcv, 0, math.MaxInt64)
	b.info = nil
}
