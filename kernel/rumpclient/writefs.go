package rumpclient

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// WriteFS is an io/fs.FS that can also be written: what package os can do with
// files, by names of io/fs, that is without a "/" in front and without "." and
// "..". Client.FS has it, and so has what fs.Sub makes of that:
//
//	sub, err := fs.Sub(c.FS(), "src")
//	err = sub.(rumpclient.WriteFS).WriteFile("a", data, 0o644)
//
// Every error is a *fs.PathError, for which errors.Is knows fs.ErrNotExist and
// its like as well as the kernel's number:
//
//	fs.ErrInvalid (EINVAL)          a name that is none, or "." where it would
//	                                be made, renamed or removed
//	fs.ErrNotExist (ENOENT)         it, or a directory above, is not there
//	fs.ErrExist (EEXIST, ENOTEMPTY) it is there already, or not empty
//	fs.ErrPermission (EPERM, EACCES)
//	fs.ErrClosed (EBADF)            the file is closed, or not open for that
//
// and EROFS, ENOSPC, EXDEV, ENOTDIR, EISDIR and the others that the system calls
// have. Permissions of what is made are less the umask of the client.
//
// The calls wait without a limit. Any number of goroutines may use a WriteFS.
type WriteFS interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadFileFS
	fs.ReadLinkFS // and Lstat
	fs.SubFS

	// Create is OpenFile for reading and writing; the file is made, with 0666,
	// or emptied.
	Create(name string) (WriteFile, error)
	// OpenFile is os.OpenFile: flag is of os.O_RDONLY, O_WRONLY and O_RDWR one,
	// and any of O_APPEND, O_CREATE, O_EXCL, O_SYNC and O_TRUNC.
	OpenFile(name string, flag int, perm fs.FileMode) (WriteFile, error)
	// WriteFile writes a whole file, which is made or emptied first.
	WriteFile(name string, data []byte, perm fs.FileMode) error
	// Mkdir makes a directory; MkdirAll those above it too, and is content with
	// one that is there.
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	// Remove removes a file or an empty directory; RemoveAll also all that is
	// below it, and is content if there is nothing.
	Remove(name string) error
	RemoveAll(name string) error
	// Rename replaces what is at newname.
	Rename(oldname, newname string) error
	// Symlink makes newname a symbolic link with text target, which is not
	// looked at: it is a path of the kernel, seen from where the link is.
	Symlink(target, newname string) error
	// Link makes newname a further name of oldname, which is not followed.
	Link(oldname, newname string) error
	// Chmod sets permissions, set-id bits and the sticky bit. It follows a
	// symbolic link, as Chown, Chtimes and Truncate do.
	Chmod(name string, mode fs.FileMode) error
	// Chown sets the owner; -1 leaves an id as it is.
	Chown(name string, uid, gid int) error
	// Chtimes sets the times, to the nanosecond; the zero time leaves one as it
	// is.
	Chtimes(name string, atime, mtime time.Time) error
	// Truncate changes the size of a file.
	Truncate(name string, size int64) error
}

// WriteFile is an open file of a WriteFS, and what its Open gives.
type WriteFile interface {
	fs.ReadDirFile
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Seeker
	// Truncate changes the size, Sync makes the contents durable, Chmod sets
	// the permissions.
	Truncate(size int64) error
	Sync() error
	Chmod(mode fs.FileMode) error
}

// openFlags are the flags of package os with the kernel's. (os.O_RDONLY,
// O_WRONLY and O_RDWR are 0, 1 and 2 on both sides.)
var openFlags = [...]struct{ os, kernel int }{
	{os.O_APPEND, abi.O_APPEND}, {os.O_CREATE, abi.O_CREAT}, {os.O_EXCL, abi.O_EXCL}, {os.O_SYNC, abi.O_SYNC}, {os.O_TRUNC, abi.O_TRUNC},
}

// kernelMode are the permissions of io/fs as the kernel has them.
func kernelMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= abi.S_ISUID
	}
	if m&fs.ModeSetgid != 0 {
		mode |= abi.S_ISGID
	}
	if m&fs.ModeSticky != 0 {
		mode |= abi.S_ISVTX
	}
	return mode
}

func (f clientFS) Create(name string) (WriteFile, error) {
	return f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (f clientFS) OpenFile(name string, flag int, perm fs.FileMode) (WriteFile, error) {
	flags := flag & (os.O_WRONLY | os.O_RDWR)
	rest := flag &^ (os.O_WRONLY | os.O_RDWR)
	for _, o := range openFlags {
		if rest&o.os == o.os {
			flags |= o.kernel
			rest &^= o.os
		}
	}
	if rest != 0 || flags&(os.O_WRONLY|os.O_RDWR) == os.O_WRONLY|os.O_RDWR {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	file, err := f.open(name, flags, kernelMode(perm))
	if err != nil {
		return nil, err
	}
	return file, nil
}

// on makes a call about the file name.
func (f clientFS) on(op, name string, call func(ctx context.Context, p string) error) error {
	p, err := f.path(op, name)
	if err != nil {
		return err
	}
	return pathErr(op, name, call(context.Background(), p))
}

// below is on for what would change the name itself, so that "." is refused.
func (f clientFS) below(op, name string, call func(ctx context.Context, p string) error) error {
	if name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return f.on(op, name, call)
}

func (f clientFS) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return f.on("open", name, func(ctx context.Context, p string) error {
		return f.c.WriteFile(ctx, p, data, kernelMode(perm))
	})
}

func (f clientFS) Mkdir(name string, perm fs.FileMode) error {
	return f.on("mkdir", name, func(ctx context.Context, p string) error {
		return f.c.Mkdir(ctx, strings.TrimRight(p, "/"), kernelMode(perm))
	})
}

func (f clientFS) MkdirAll(name string, perm fs.FileMode) error {
	return f.on("mkdir", name, func(ctx context.Context, p string) error {
		return f.c.MkdirAll(ctx, p, kernelMode(perm))
	})
}

func (f clientFS) Remove(name string) error {
	return f.below("remove", name, func(ctx context.Context, p string) error {
		err := f.c.Unlink(ctx, p)
		if err == nil || errors.Is(err, abi.ENOENT) {
			return err
		}
		// What was wrong with a file is said, not that it is no directory.
		if derr := f.c.Rmdir(ctx, p); !errors.Is(derr, abi.ENOTDIR) {
			return derr
		}
		return err
	})
}

func (f clientFS) RemoveAll(name string) error {
	return f.below("remove", name, f.c.RemoveAll)
}

func (f clientFS) Rename(oldname, newname string) error {
	to, err := f.path("rename", newname)
	if err == nil && newname == "." {
		err = &fs.PathError{Op: "rename", Path: newname, Err: fs.ErrInvalid}
	}
	if err != nil {
		return err
	}
	return f.below("rename", oldname, func(ctx context.Context, p string) error { return f.c.Rename(ctx, p, to) })
}

func (f clientFS) Symlink(target, newname string) error {
	if target == "" || strings.IndexByte(target, 0) >= 0 {
		return &fs.PathError{Op: "symlink", Path: newname, Err: fs.ErrInvalid}
	}
	return f.below("symlink", newname, func(ctx context.Context, p string) error { return f.c.Symlink(ctx, target, p) })
}

func (f clientFS) Link(oldname, newname string) error {
	from, err := f.path("link", oldname)
	if err != nil {
		return err
	}
	return f.below("link", newname, func(ctx context.Context, p string) error {
		return f.c.Linkat(ctx, abi.AT_FDCWD, from, abi.AT_FDCWD, p, 0)
	})
}

func (f clientFS) Chmod(name string, mode fs.FileMode) error {
	return f.on("chmod", name, func(ctx context.Context, p string) error { return f.c.Chmod(ctx, p, kernelMode(mode)) })
}

func (f clientFS) Chown(name string, uid, gid int) error {
	return f.on("chown", name, func(ctx context.Context, p string) error { return f.c.Chown(ctx, p, uid, gid) })
}

func (f clientFS) Chtimes(name string, atime, mtime time.Time) error {
	stamp := func(t time.Time) abi.Timespec {
		if t.IsZero() {
			return abi.Timespec{Nsec: abi.UTIME_OMIT}
		}
		return abi.TimespecOf(t)
	}
	return f.on("chtimes", name, func(ctx context.Context, p string) error {
		return f.c.Utimensat(ctx, abi.AT_FDCWD, p, stamp(atime), stamp(mtime), 0)
	})
}

func (f clientFS) Truncate(name string, size int64) error {
	return f.on("truncate", name, func(ctx context.Context, p string) error { return f.c.Truncate(ctx, p, size) })
}

// CopyFS copies all of src into dst, as os.CopyFS does: directories with 0777
// and files with their permissions and at least 0666, both less the umask, and
// symbolic links as they are. A directory that is there is filled; a file or link
// that is there is an error (fs.ErrExist), and so is anything else than these
// three (fs.ErrInvalid). It ends at the first error.
func CopyFS(dst WriteFS, src fs.FS) error {
	return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			return dst.MkdirAll(name, 0o777)
		case fs.ModeSymlink:
			target, err := fs.ReadLink(src, name)
			if err != nil {
				return err
			}
			return dst.Symlink(target, name)
		case 0:
			return copyFile(dst, src, name)
		}
		return &fs.PathError{Op: "copy", Path: name, Err: fs.ErrInvalid}
	})
}

func copyFile(dst WriteFS, src fs.FS, name string) (err error) {
	in, err := src.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666|fi.Mode()&0o777)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	_, err = io.CopyBuffer(out, struct{ io.Reader }{in}, make([]byte, 256<<10))
	return err
}
