package fat

import (
	"context"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// space is what the kernel was granted for files that become longer
// (vfsops.Reserver), in bytes. Protected by FS.mu.
type space struct {
	held  int64 // clusters that are free, but not for others
	taken int64 // clusters that files have taken of it, which the kernel gives back
}

// avail is how many clusters are free for anybody.
func (f *FS) avail() uint32 {
	held := (f.space.held + f.t.cluster - 1) / f.t.cluster
	return uint32(max(int64(f.t.nfree)-held, 0))
}

// Reserve grants free clusters for pages that WritePages will bring, or takes
// them back.
func (f *FS) Reserve(ctx context.Context, pages int64) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pages < 0 {
		n := min(-max(pages, -math.MaxInt64/abi.PageSize), f.space.held+f.space.taken) * abi.PageSize
		k := min(n, f.space.taken)
		f.space.taken -= k
		f.space.held = max(0, f.space.held-(n-k))
		return pages, nil
	}
	if f.broken != nil || f.ro {
		return 0, abi.ENOSPC
	}
	if err := f.t.load(ctx); err != nil {
		return 0, err
	}
	// The last of the clusters can be less than a page.
	free := int64(f.avail()) * f.t.cluster
	got := min(pages, (free+abi.PageSize-1)/abi.PageSize)
	if got == 0 && pages > 0 {
		return 0, abi.ENOSPC
	}
	n := min(got*abi.PageSize, free)
	f.space.held += n
	f.space.taken += got*abi.PageSize - n
	return got, nil
}

// take notes that WritePages has made a file longer by some clusters.
func (f *FS) take(clusters uint32) {
	n := min(int64(clusters)*f.t.cluster, f.space.held)
	f.space.held -= n
	f.space.taken += n
}
