package vfs

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// space corrects what a file system whose pages the kernel keeps says of its
// space. What was reserved for pages that are not there yet is free. And it must
// not promise more than there is memory for pages: a write answers ENOSPC at
// the limit of either. Clean pages of other file systems count as taken
// although they would be evicted for it.
func (m *Mount) space(st *abi.Statvfs) {
	if st.Frsize == 0 {
		return
	}
	m.resMu.Lock()
	spare := uint64(max(m.res.granted-m.res.used, 0)) * pageSize / st.Frsize
	m.resMu.Unlock()
	st.Bfree, st.Bavail = min(st.Bfree+spare, st.Blocks), min(st.Bavail+spare, st.Blocks)
	left := uint64(m.vfs.mem.pagesLeft()) / st.Frsize
	used := st.Blocks - st.Bfree
	st.Bfree, st.Bavail = min(st.Bfree, left), min(st.Bavail, left)
	st.Blocks = min(st.Blocks, used+st.Bfree)
}
