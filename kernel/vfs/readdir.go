package vfs

import (
	"context"
	"math"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The offset of an open directory is where reading goes on: 0 before ".", 1
// before "..", and from 2 on the file system's cookie plus 2.
const dirFirst = 2

// Getdents reads directory entries at the file's offset into buf, as struct
// dirent (abi.PutDirent), and moves the offset on; 0 is the end (getdents(2)).
// ENOTDIR, as POSIX has it, for what is no directory; EBADF if it is not open
// for reading; EINVAL if buf is too small for the next entry.
func (fs *VFS) Getdents(ctx context.Context, c *abi.Caller, f *file.File, buf []byte) (int, error) {
	v := vnodeOf(f)
	switch {
	case v == nil || v.typ != abi.VDIR:
		return 0, abi.ENOTDIR
	case !f.Readable() || f.Flags()&abi.O_SEARCH != 0:
		return 0, abi.EBADF
	}
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	off := f.Offset
	n, err := v.getdents(ctx, buf, &off)
	if err == nil {
		f.Offset = off
	}
	return n, err
}

func (v *Vnode) getdents(ctx context.Context, buf []byte, off *int64) (int, error) {
	if *off < 0 {
		return 0, abi.EINVAL
	}
	if err := v.err(); err != nil {
		return 0, err
	}
	done := 0
	for *off < dirFirst {
		d := abi.Dirent{Type: abi.VDIR, Name: "."}
		at := v
		if *off == 1 {
			d.Name = ".."
			if up, _ := v.m.vfs.up(v); up != nil {
				at = up
			}
		}
		d.Fileid = at.handle().File
		n := abi.PutDirent(buf[done:], &d)
		if n == 0 {
			return shortBuf(done)
		}
		done += n
		*off++
	}
	if v.unlinked.Load() {
		return done, nil
	}
	for {
		room := len(buf) - done
		if done > 0 && room < abi.DirentMaxSize || room < abi.DirentSize(1) {
			return shortBuf(done)
		}
		b, err := v.bind(ctx)
		if err != nil {
			return done, err
		}
		v.mu.RLock()
		res, err := b.fs.Readdir(ctx, vfsops.ReaddirReq{Dir: v.handle(), Cookie: uint64(*off - dirFirst), Max: max(room, 24+abi.NAME_MAX)})
		v.mu.RUnlock()
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		for i := range res.Entries {
			e := &res.Entries[i]
			if e.Cookie > math.MaxInt64-dirFirst || e.Cookie == uint64(*off-dirFirst) {
				return done, abi.EIO
			}
			n := abi.PutDirent(buf[done:], e)
			if n == 0 {
				return shortBuf(done)
			}
			done += n
			*off = int64(e.Cookie) + dirFirst
		}
		if res.EOF || len(res.Entries) == 0 {
			v.accessed()
			return done, nil
		}
	}
}

// shortBuf is the answer when the next entry does not fit.
func shortBuf(done int) (int, error) {
	if done == 0 {
		return 0, abi.EINVAL
	}
	return done, nil
}
