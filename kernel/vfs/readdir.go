package vfs

import (
	"context"
	"errors"
	"fmt"
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
	n, err := v.getdents(v.m.asking(ctx, c), buf, &off)
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
			return shortBuf(done, false)
		}
		done += n
		*off++
	}
	if v.unlinked.Load() {
		return done, nil
	}
	n, err := v.entries(ctx, buf[done:], off, done > 0)
	if err != nil && done > 0 && !errors.Is(err, errCookie) {
		err = nil // the next call meets it
	}
	return done + n, err
}

// entries reads from cookie *off - dirFirst on. some: there are records before
// it, so that none at all is no error.
func (v *Vnode) entries(ctx context.Context, buf []byte, off *int64, some bool) (done int, err error) {
	fs, asked := v.m.vfs, false
	for {
		var l *dirList
		cookie := uint64(*off - dirFirst)
		if v.m.names() {
			if l = v.list.Load(); l != nil {
				n, next, end := l.read(buf[done:], cookie)
				done, cookie, *off = done+n, next, int64(next)+dirFirst
				if !l.hot.Load() {
					l.hot.Store(true)
				}
				if end != listMore && !asked {
					fs.cnt.dirHits.Inc()
				}
				switch end {
				case listFull:
					return shortBuf(done, some)
				case listEOF:
					v.accessed()
					return done, nil
				}
			}
		}
		room := len(buf) - done
		if (done > 0 || some) && room < abi.DirentMaxSize || room < abi.DirentSize(1) {
			return shortBuf(done, some)
		}
		asked = true
		end, err := v.askEntries(ctx, l, cookie, buf[done:], &done, off)
		switch {
		case err != nil:
			if done > 0 && !errors.Is(err, errCookie) {
				return done, nil
			}
			return 0, err
		case end == listFull:
			return shortBuf(done, some)
		case end == listEOF:
			v.accessed()
			return done, nil
		}
	}
}

// askEntries asks the file system for the entries behind cookie, and keeps the
// answer if it makes v's listing l longer.
func (v *Vnode) askEntries(ctx context.Context, l *dirList, cookie uint64, buf []byte, done *int, off *int64) (listEnd, error) {
	b, err := v.bind(ctx)
	if err != nil {
		return listEOF, err
	}
	fs, keep := v.m.vfs, v.m.names() && b.sole() && l.grows(cookie)
	want := max(len(buf), 24+abi.NAME_MAX)
	if keep {
		want = max(want, fs.lists.block())
	}
	if v.m.names() {
		fs.cnt.dirMisses.Inc()
	}
	v.mu.RLock()
	res, err := b.fs.Readdir(ctx, vfsops.ReaddirReq{Dir: v.handle(), Cookie: cookie, Max: want})
	if err == nil && keep {
		if blk := encodeBlock(cookie, &res); blk != nil {
			fs.lists.put(v, b, l, blk)
			v.mu.RUnlock()
			n, next, all := blk.read(buf, cookie)
			*done, *off = *done+n, int64(next)+dirFirst
			switch {
			case !all:
				return listFull, nil
			case blk.eof:
				return listEOF, nil
			}
			return listMore, nil
		}
	}
	v.mu.RUnlock()
	if err != nil {
		return listEOF, err
	}
	for i := range res.Entries {
		e := &res.Entries[i]
		if e.Cookie > maxCookie || e.Cookie == uint64(*off-dirFirst) {
			return listEOF, errCookie
		}
		n := abi.PutDirent(buf, e)
		if n == 0 {
			return listFull, nil
		}
		buf = buf[n:]
		*done += n
		*off = int64(e.Cookie) + dirFirst
	}
	if res.EOF || len(res.Entries) == 0 {
		return listEOF, nil
	}
	return listMore, nil
}

// errCookie is the answer to a file system that leads nowhere.
var errCookie = fmt.Errorf("impossible directory cookie: %w", abi.EIO)

// maxCookie is the largest cookie that an offset can hold.
const maxCookie = math.MaxInt64 - dirFirst

// shortBuf is the answer when the next entry does not fit. some: there are
// records before the done bytes.
func shortBuf(done int, some bool) (int, error) {
	if done == 0 && !some {
		return 0, abi.EINVAL
	}
	return done, nil
}
