package vfs

import (
	"sync/atomic"
	"unsafe"
)

// memory is the account of what the caches of one VFS take, under one limit.
// File pages may take all that the others leave; names, vnodes and directory
// listings have a share each at most (memShare), for what a page holds cannot
// always be had again and what they hold can. What is in use cannot be refused
// and counts all the same: open files can make vnodes take more than their
// share. Pages then get less, but half of the limit always.
type memory struct {
	limit int64 // bytes
	used  atomic.Int64
	by    [memKinds]atomic.Int64
}

type memKind int

const (
	memPages memKind = iota
	memNames
	memVnodes
	memLists
	memBlocks
	memStore
	memKinds
)

// memBlocksLeast is which part of the limit blocks of devices get whatever the
// others take; half of it is the most.
const memBlocksLeast = 16

// memStoreLeast is which part of the limit the Stores of file systems get
// whatever the others take; half of it is the most.
const memStoreLeast = 8

// memShare is which part of the limit names, vnodes and listings may have each.
const memShare = 8

// Bytes that one vnode and one name take: the structures, their place in the
// tables, and what the allocator rounds up.
const (
	vnodeBytes = int64(unsafe.Sizeof(Vnode{})) + 128
	nameBytes  = int64(unsafe.Sizeof(nameEntry{})) + 32
)

// share is what names, vnodes and listings may have each, in bytes.
func (m *memory) share() int64 { return m.limit / memShare }

// take counts n bytes (negative: gives them back) without asking.
func (m *memory) take(k memKind, n int64) {
	m.used.Add(n)
	m.by[k].Add(n)
}

// try counts n bytes if neither the limit nor the share of k is reached. Pages
// get half of the limit whatever the others take.
func (m *memory) try(k memKind, n int64) bool {
	all, own := m.used.Add(n), m.by[k].Add(n)
	switch k {
	case memPages:
		if all <= m.limit || own <= max(m.limit/2, pageSize) {
			return true
		}
	case memBlocks:
		if all <= m.limit && own <= m.limit/2 || own <= m.limit/memBlocksLeast {
			return true
		}
	case memStore:
		if all <= m.limit && own <= m.limit/2 || own <= m.limit/memStoreLeast {
			return true
		}
	default:
		if all <= m.limit && own <= m.share() {
			return true
		}
	}
	m.take(k, -n)
	return false
}

// pagesLeft is what pages could still take, in bytes: listings go for them.
func (m *memory) pagesLeft() int64 {
	own := m.by[memPages].Load()
	return max(m.limit-m.used.Load()+m.by[memLists].Load(), max(m.limit/2, pageSize)-own, 0)
}

// Memory is what the caches of a VFS take, in bytes (the gauges
// pagecache_bytes, namecache_bytes, vfs_vnode_bytes and vfs_dir_bytes, and the
// sysctl nodes below vfs.memory).
type Memory struct {
	Limit    int64 // kernel/memlimit: what all of them may take together
	Pages    int64 // contents of files
	Names    int64 // at most an eighth of Limit
	Vnodes   int64 // the same, but for those in use
	Listings int64 // of directories; the same
	Blocks   int64 // of devices, and layers over them; at most half of Limit
	Stores   int64 // what file systems keep over a death of their process; the same
}

// Memory answers what the caches take.
func (fs *VFS) Memory() Memory {
	m := fs.mem
	return Memory{Limit: m.limit, Pages: m.by[memPages].Load(), Names: m.by[memNames].Load(),
		Vnodes: m.by[memVnodes].Load(), Listings: m.by[memLists].Load(), Blocks: m.by[memBlocks].Load(), Stores: m.by[memStore].Load()}
}

// Used is the sum.
func (m Memory) Used() int64 { return m.Pages + m.Names + m.Vnodes + m.Listings + m.Blocks + m.Stores }

// BlockMemory is the account of cached blocks of devices (bio.Memory). They may
// have half of the limit while the others leave it, and a sixteenth always.
type BlockMemory struct{ m *memory }

// BlockMemory answers the account.
func (fs *VFS) BlockMemory() BlockMemory { return BlockMemory{fs.mem} }

// Try counts n bytes if the limit allows it.
func (b BlockMemory) Try(n int64) bool { return b.m.try(memBlocks, n) }

// Take counts n bytes without asking; negative gives them back.
func (b BlockMemory) Take(n int64) { b.m.take(memBlocks, n) }

// Share is what blocks may come to, in bytes.
func (b BlockMemory) Share() int64 { return b.m.limit / 2 }
