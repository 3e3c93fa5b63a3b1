package dev

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Fail makes requests to block devices fail on purpose with EIO, as NetBSD's
// rumpblk does with RUMP_BLKFAIL and RUMP_BLKFAIL_SEED. With one seed the same
// requests fail in each run, as long as they come in the same order.
type Fail struct {
	N    uint32  // of FailMax requests; more are all of them
	Seed *uint32 // nil: one is made up
}

// FailMax is what Fail.N is out of (BLKFAIL_MAX).
const FailMax = 10000

// ParseFail makes a Fail from the texts of the environment: "" is none, and
// no seed. EINVAL.
func ParseFail(n, seed string) (f Fail, err error) {
	if n != "" {
		v, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			return f, fmt.Errorf("blkfail %.20q: %w", n, abi.EINVAL)
		}
		f.N = uint32(v)
	}
	if seed != "" {
		v, err := strconv.ParseUint(seed, 10, 32)
		if err != nil {
			return f, fmt.Errorf("blkfail seed %.20q: %w", seed, abi.EINVAL)
		}
		w := uint32(v)
		f.Seed = &w
	}
	return f, nil
}

// failer decides which requests fail.
type failer struct {
	n  uint32 // set once
	mu sync.Mutex
	r  *rand.Rand // protected by mu
	sd uint32
}

func (f *failer) set(o Fail) {
	f.n = min(o.N, FailMax)
	if f.n == 0 {
		return
	}
	f.sd = rand.Uint32()
	if o.Seed != nil {
		f.sd = *o.Seed
	}
	f.r = rand.New(rand.NewPCG(uint64(f.sd), FailMax))
}

// hit reports whether the next request is one that fails.
func (f *failer) hit() bool {
	if f.n == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.r.Uint32N(FailMax) < f.n
}

// Failing says how many of FailMax requests fail, and the seed that would make
// the same ones fail again.
func (s *Switch) Failing() (n, seed uint32) { return s.fail.n, s.fail.sd }
