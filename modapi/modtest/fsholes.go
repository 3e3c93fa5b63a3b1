package modtest

import (
	"bytes"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// put stores data at off, by whichever way the file system has.
func (f *fsT) put(h abi.Handle, off int64, data []byte, size int64) {
	f.Helper()
	if f.has(vfsops.HasPager) {
		f.must("write pages", f.fs.(vfsops.Pager).WritePages(f.ctx, f.op(), h, off, abi.IovOf(data), size))
		return
	}
	f.write(h, off, false, data)
}

// Data and holes are found; a hole has nothing but zeros.
func ruleHoles(f *fsT) {
	f.need(vfsops.HasHoleSeeker | vfsops.HasCreator)
	if !f.has(vfsops.HasPager) && !f.has(vfsops.HasWriter) {
		f.Skip("it stores nothing")
	}
	s := f.fs.(vfsops.HoleSeeker)
	seek := func(h abi.Handle, off int64, whence int) int64 {
		f.Helper()
		to, err := s.Seek(f.ctx, h, off, whence)
		f.must("seek", err)
		return to
	}
	e := f.create(f.root.Handle, "f")
	for _, whence := range []int{abi.SEEK_DATA, abi.SEEK_HOLE} {
		_, err := s.Seek(f.ctx, e.Handle, 0, whence)
		if abi.ErrnoOf(err) == abi.EOPNOTSUPP {
			f.Skip("it does not know of this file")
		}
		f.want("seek in an empty file", err, abi.ENXIO)
	}
	const page, from, to, size = abi.PageSize, 1 << 20, 1<<20 + 1<<16, 2<<20 + 5*abi.PageSize
	data := bytes.Repeat([]byte("d"), to-from)
	f.put(e.Handle, from, data, to)
	f.put(e.Handle, size-page, data[:page], size)
	for _, off := range []int64{0, page, from - 1, from, from + 1, to - 1, to, size - page, size - 1} {
		d, h := seek(e.Handle, off, abi.SEEK_DATA), seek(e.Handle, off, abi.SEEK_HOLE)
		in := off >= from && off < to || off >= size-page
		switch {
		case d < off || d >= size || in && d != off || off <= from && d > from || d > size-page && !in:
			f.Errorf("data after %d: %d", off, d)
		case h < off || h > size || in && off < to && h < to || off >= size-page && h != size:
			f.Errorf("hole after %d: %d", off, h)
		case d == off && h == off || d != off && h != off:
			f.Errorf("%d is data at %d and hole at %d", off, d, h)
		}
	}
	for _, off := range []int64{-1, size, size + 1, 1 << 40} {
		for _, whence := range []int{abi.SEEK_DATA, abi.SEEK_HOLE} {
			_, err := s.Seek(f.ctx, e.Handle, off, whence)
			f.want("seek behind the end", err, abi.ENXIO)
		}
	}
	_, err := s.Seek(f.ctx, e.Handle, 0, abi.SEEK_SET)
	f.want("seek from the start", err, abi.EINVAL)
}
