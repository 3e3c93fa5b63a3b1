package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// print is -print, and -print0 with end 0.
func (f *finder) print(end byte) test {
	return func(ctx context.Context, e *entry) (bool, error) {
		if f.c.json {
			return true, f.json(ctx, e)
		}
		name := e.path
		if end != 0 {
			name = f.c.show(name)
		}
		f.c.out.WriteString(name)
		f.c.out.WriteByte(end) // an error stays in out until it is flushed
		return true, nil
	}
}

// info is e as ls has it.
func (f *finder) info(ctx context.Context, e *entry) (fileInfo, error) {
	fi := fileInfo{name: e.path, st: e.st}
	var err error
	if e.typ == abi.VLNK {
		fi.target, err = f.k.Readlink(ctx, e.path)
	}
	return fi, err
}

func (f *finder) json(ctx context.Context, e *entry) error {
	fi, err := f.info(ctx, e)
	if err == nil {
		f.files = append(f.files, fi.json())
	}
	return err
}

// ls is -ls: file number, blocks, and what ls -l has, in columns of fixed width.
func (f *finder) ls(ctx context.Context, e *entry) (bool, error) {
	if f.c.json {
		return true, f.json(ctx, e)
	}
	fi, err := f.info(ctx, e)
	if err != nil {
		return false, err
	}
	v := &e.st.Vattr
	size := strconv.FormatInt(v.Size, 10)
	if v.Type == abi.VCHR || v.Type == abi.VBLK {
		size = fmt.Sprintf("%d, %d", v.Rdev.Major(), v.Rdev.Minor())
	}
	name := f.c.show(e.path)
	if fi.target != "" {
		name += " -> " + f.c.show(fi.target)
	}
	f.c.printf("%6d %6d %s %3d %-5d %-5d %9s %s %s\n", v.Fileid, (v.Bytes+abi.S_BLKSIZE-1)/abi.S_BLKSIZE,
		modeString(v.Type, v.Mode), v.Nlink, v.Uid, v.Gid, size, lsTime(v.Mtime.Time(), f.now), name)
	return true, nil
}

// remove is -delete.
func (f *finder) remove(ctx context.Context, e *entry) (bool, error) {
	if e.depth == 0 && (e.name == "." || e.name == ".." || e.name == "/") {
		return true, nil // find . -delete empties the directory
	}
	var err error
	if e.typ == abi.VDIR {
		err = f.k.Rmdir(ctx, e.path)
	} else {
		err = f.k.Unlink(ctx, e.path)
	}
	if err == nil {
		return true, nil
	}
	if !fatal(ctx, err) {
		f.c.fail(err)
		err = nil
	}
	return false, err
}

// empty is -empty.
func (f *finder) empty(ctx context.Context, e *entry) (bool, error) {
	switch e.typ {
	case abi.VREG:
		return e.st.Size == 0, nil
	case abi.VDIR:
		fd, err := f.k.Open(ctx, e.path, abi.O_RDONLY|abi.O_DIRECTORY|abi.O_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		defer f.k.Close(context.WithoutCancel(ctx), fd)
		buf := make([]byte, 8<<10)
		for {
			ds, err := f.k.Getdents(ctx, fd, buf)
			if err != nil || len(ds) == 0 {
				return err == nil, named(err, e.path)
			}
			for _, d := range ds {
				if d.Name != "." && d.Name != ".." {
					return false, nil
				}
			}
		}
	}
	return false, nil
}

// fstype is the type of the mount that e is on.
func (f *finder) fstype(ctx context.Context, e *entry) (string, error) {
	if t, ok := f.types[e.st.Dev]; ok {
		return t, nil
	}
	all, err := f.k.Getvfsstat(ctx, abi.MNT_NOWAIT)
	if err != nil {
		return "", err
	}
	for i := range all {
		f.types[all[i].Fsid] = all[i].FSType
	}
	return f.types[e.st.Dev], nil
}
