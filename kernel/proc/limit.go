package proc

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Rlimit is struct rlimit: a soft limit, which counts, and the hard limit up to
// which it can be raised.
type Rlimit struct{ Cur, Max int64 }

// Limits are a process's limits by abi.RLIMIT_*.
type Limits [abi.RLIM_NLIMITS]Rlimit

// MaxNofile bounds RLIMIT_NOFILE: a descriptor table does not grow beyond it,
// whoever asks.
const MaxNofile = 65536

// limits0 are those of proc0, which are the seed's: soft limits on file size,
// descriptors and socket buffers are infinite, and all others 0, the hard ones
// too, because the seed never sets them. Nothing of proc0's is limited by them.
func limits0() Limits {
	var l Limits
	for _, i := range []int{abi.RLIMIT_FSIZE, abi.RLIMIT_NOFILE, abi.RLIMIT_SBSIZE} {
		l[i].Cur = abi.RLIM_INFINITY
	}
	return l
}

// limitsNew are those of a process that is nobody's child. The seed lets all
// processes share proc0's, which read as if nothing were allowed; here they are
// what is enforced: nothing but descriptors, and what the process itself sets.
func limitsNew() Limits {
	var l Limits
	for i := range l {
		l[i] = Rlimit{abi.RLIM_INFINITY, abi.RLIM_INFINITY}
	}
	l[abi.RLIMIT_NOFILE] = Rlimit{DefaultNofile, MaxNofile}
	return l
}

// Rlimit answers a limit (getrlimit(2)). EINVAL for an unknown one.
func (p *Proc) Rlimit(which int) (Rlimit, error) {
	if which < 0 || which >= abi.RLIM_NLIMITS {
		return Rlimit{}, abi.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits[which], nil
}

// SetRlimit changes one (setrlimit(2)); mayRaise is asked if the hard limit is
// to rise. EINVAL for an unknown or negative one or a soft one above the hard.
func (p *Proc) SetRlimit(which int, l Rlimit, mayRaise func() error) error {
	if which < 0 || which >= abi.RLIM_NLIMITS || l.Cur < 0 || l.Max < 0 || l.Cur > l.Max {
		return abi.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.Max > p.limits[which].Max {
		if err := mayRaise(); err != nil {
			return err
		}
	}
	if which == abi.RLIMIT_NOFILE { // once it is allowed, as dosetrlimit does
		l.Cur, l.Max = min(l.Cur, MaxNofile), min(l.Max, MaxNofile)
	}
	p.limits[which] = l
	p.applyLocked(which)
	return nil
}

// applyLocked makes a limit count. Preconditions: p.mu is held.
func (p *Proc) applyLocked(which int) {
	cur := p.limits[which].Cur
	switch which {
	case abi.RLIMIT_NOFILE:
		p.Fd.SetMax(int(min(cur, MaxNofile)))
	case abi.RLIMIT_FSIZE:
		n := uint64(0)
		if cur != abi.RLIM_INFINITY {
			n = uint64(cur) + 1
		}
		p.fsize.Store(n)
	}
}
