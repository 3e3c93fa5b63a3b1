package main

import (
	"context"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// lie is a way in which a kernel could be wrong, played between the checkers and
// a kernel that is right. The checkers have to notice each.
type lie int

const (
	lieLost    lie = 1 + iota // a change is acknowledged and not made
	lieDoubled                // an append is made twice
	lieTrimmed                // at a death the last changes are gone: a name comes back
	lieRefused                // a call is answered EIO although nothing is wrong
	lieStale                  // a read answers what was there before
)

// liar lies each so many-th time.
type liar struct {
	lie   lie
	every int64
	n     atomic.Int64
	told  atomic.Int64 // how often it has
}

// syscall makes a call, or does as if.
func (l *liar) syscall(ctx context.Context, k rumpclient.Caller, num int, a *abi.Sysargs) error {
	now := func(nums ...int) bool {
		for _, n := range nums {
			if n == num {
				if l.n.Add(1)%l.every == 0 {
					l.told.Add(1)
					return true
				}
			}
		}
		return false
	}
	switch l.lie {
	case lieLost:
		if now(abi.SYS_unlink, abi.SYS_rename, abi.SYS_fchmod, abi.SYS_chmod, abi.SYS_truncate) {
			return nil
		}
	case lieDoubled:
		if now(abi.SYS_write) {
			b := *a
			if err := k.Syscall(ctx, num, &b); err != nil {
				return err
			}
		}
	case lieTrimmed:
		if now(abi.SYS_unlink) { // done, and undone by a recovery that lacks the entry
			if err := k.Syscall(ctx, num, a); err != nil {
				return err
			}
			b := abi.Sysargs{Path: a.Path}
			b.SetInt(0, abi.O_CREAT|abi.O_WRONLY)
			b.SetInt(1, 0o640)
			if k.Syscall(ctx, abi.SYS_open, &b) == nil {
				c := abi.Sysargs{}
				c.A[0] = b.R[0]
				k.Syscall(ctx, abi.SYS_close, &c)
			}
			return nil
		}
	case lieRefused:
		if now(abi.SYS_mkdir, abi.SYS_rename) {
			return abi.EIO
		}
	case lieStale:
		if now(abi.SYS_pread) {
			err := k.Syscall(ctx, num, a)
			if err == nil && a.NO > 0 {
				a.Out[a.NO-1] ^= 1
			}
			return err
		}
	}
	return k.Syscall(ctx, num, a)
}
