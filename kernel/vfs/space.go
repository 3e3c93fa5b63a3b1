package vfs

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// boundSpace keeps a file system whose pages the kernel keeps from promising
// more than there is memory for them: a write to it answers ENOSPC at the limit
// of either. Clean pages of other file systems count as taken although they
// would be evicted for it.
func (fs *VFS) boundSpace(st *abi.Statvfs) {
	if st.Frsize == 0 {
		return
	}
	limit := fs.o.MemLimit
	total := uint64(limit) / st.Frsize
	left := uint64(fs.mem.pagesLeft()) / st.Frsize
	used := st.Blocks - min(st.Bfree, st.Blocks)
	st.Bfree, st.Bavail = min(st.Bfree, left), min(st.Bavail, left)
	st.Blocks = min(st.Blocks, max(total, used+st.Bfree))
}
