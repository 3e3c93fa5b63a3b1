package ext4

import (
	"cmp"
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// journal is the file system's journal, of package jbd2.
type journal struct{}

func (j *journal) most() int { return 1 }

func (j *journal) commit(ctx context.Context, bs []*buf, revoked map[uint64]bool) error { return nil }

func (j *journal) finish(ctx context.Context) error { return nil }

// openJournal replays the journal, in memory if the device is not to be written.
func (f *FS) openJournal(ctx context.Context) error {
	if f.s.incompat&incompatRecover != 0 {
		return abi.EOPNOTSUPP
	}
	return nil
}

// sorted are the blocks of the running transaction in order.
func (f *FS) sorted() []*buf {
	bs := make([]*buf, 0, len(f.dirty))
	for _, b := range f.dirty {
		bs = append(bs, b)
	}
	slices.SortFunc(bs, func(a, b *buf) int { return cmp.Compare(a.n, b.n) })
	return bs
}

// writeHome gives the device blocks, in their order, adjacent ones together.
func (f *FS) writeHome(ctx context.Context, bs []*buf) error {
	for i := 0; i < len(bs); {
		var iov abi.Iov
		from := i
		for ; i < len(bs) && bs[i].n == bs[from].n+uint64(i-from) && int64(i-from+1)*f.s.bs <= devops.MaxPhys; i++ {
			iov = append(iov, bs[i].data)
		}
		if err := transfer(ctx, f.dev, devops.BWrite|devops.BMeta, int64(bs[from].n)*f.s.bs, iov); err != nil {
			return err
		}
	}
	return nil
}
