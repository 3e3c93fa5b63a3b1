package rumpclient

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// File is an open file with the methods of os.File. They wait without a limit;
// Close does not end a read that waits, but the client's Exit does. After Close
// all of them answer EBADF (fs.ErrClosed).
type File struct {
	c    *Client
	fd   int
	name string

	gone atomic.Bool // closed: the descriptor may be another file's
}

// OpenFile opens path as Open does.
func (c *Client) OpenFile(ctx context.Context, path string, flags int, mode uint32) (*File, error) {
	fd, err := c.Open(ctx, path, flags|abi.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return &File{c: c, fd: fd, name: path}, nil
}

// live refuses a file that has been closed.
func (f *File) live(op string) error {
	if f.gone.Load() {
		return failOp(op, f.name, abi.EBADF)
	}
	return nil
}

// Fd is the descriptor in the kernel.
func (f *File) Fd() int { return f.fd }

// Name is the path that the file was opened by.
func (f *File) Name() string { return f.name }

// eof turns "0 bytes" into io.EOF.
func eof(n int, err error, want int) (int, error) {
	if n == 0 && err == nil && want > 0 {
		err = io.EOF
	}
	return n, err
}

// Read reads up to len(p) bytes (io.Reader).
func (f *File) Read(p []byte) (int, error) {
	if err := f.live("read"); err != nil {
		return 0, err
	}
	n, err := f.c.Read(context.Background(), f.fd, p)
	return eof(n, err, len(p))
}

// ReadAt reads len(p) bytes at off (io.ReaderAt).
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if err := f.live("read"); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		n, err := f.c.Pread(context.Background(), f.fd, p[done:], off+int64(done))
		n, err = eof(n, err, len(p)-done)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeAll runs step until all of p is written.
func writeAll(p []byte, step func(p []byte, done int) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		n, err := step(p[done:], done)
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrShortWrite
		}
		done += n
	}
	return done, nil
}

// Write writes all of p (io.Writer).
func (f *File) Write(p []byte) (int, error) {
	if err := f.live("write"); err != nil {
		return 0, err
	}
	return writeAll(p, func(p []byte, _ int) (int, error) { return f.c.Write(context.Background(), f.fd, p) })
}

// WriteAt writes all of p at off (io.WriterAt).
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.live("write"); err != nil {
		return 0, err
	}
	return writeAll(p, func(p []byte, done int) (int, error) {
		return f.c.Pwrite(context.Background(), f.fd, p, off+int64(done))
	})
}

// Seek is lseek(2) with the io.Seek constants (io.Seeker).
func (f *File) Seek(off int64, whence int) (int64, error) {
	if err := f.live("seek"); err != nil {
		return 0, err
	}
	return f.c.Lseek(context.Background(), f.fd, off, whence)
}

// Truncate changes the size.
func (f *File) Truncate(size int64) error {
	if err := f.live("truncate"); err != nil {
		return err
	}
	return f.c.Ftruncate(context.Background(), f.fd, size)
}

// Sync is fsync(2).
func (f *File) Sync() error {
	if err := f.live("fsync"); err != nil {
		return err
	}
	return f.c.Fsync(context.Background(), f.fd)
}

// Close closes the descriptor. A second Close is EBADF.
func (f *File) Close() error {
	if f.gone.Swap(true) {
		return failOp("close", f.name, abi.EBADF)
	}
	return f.c.Close(context.Background(), f.fd)
}

// ReadFile is os.ReadFile.
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	f, err := c.OpenFile(ctx, path, abi.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := c.Fstat(ctx, f.fd)
	if err != nil {
		return nil, err
	}
	p := make([]byte, 0, min(max(st.Size, 0), 64<<20)+512)
	for {
		if len(p) == cap(p) {
			p = append(p, 0)[:len(p)]
		}
		n, err := c.Read(ctx, f.fd, p[len(p):cap(p)])
		p = p[:len(p)+n]
		if err != nil || n == 0 {
			return p, err
		}
	}
}

// WriteFile is os.WriteFile.
func (c *Client) WriteFile(ctx context.Context, path string, p []byte, mode uint32) error {
	fd, err := c.Open(ctx, path, abi.O_WRONLY|abi.O_CREAT|abi.O_TRUNC|abi.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	_, err = writeAll(p, func(p []byte, _ int) (int, error) { return c.Write(ctx, fd, p) })
	return errors.Join(err, c.Close(context.WithoutCancel(ctx), fd))
}

// MkdirAll is os.MkdirAll.
func (c *Client) MkdirAll(ctx context.Context, path string, mode uint32) error {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' || path[i-1] == '/' {
			continue
		}
		err := c.Mkdir(ctx, path[:i], mode)
		if err == nil || errors.Is(err, abi.EEXIST) {
			continue
		}
		// A place where we may not create is fine if the directory is there.
		if st, serr := c.Stat(ctx, path[:i]); serr != nil || st.Type != abi.VDIR {
			return err
		}
	}
	st, err := c.Stat(ctx, path)
	if err == nil && st.Type != abi.VDIR {
		err = failOp("mkdir", path, abi.ENOTDIR)
	}
	return err
}

// RemoveAll is os.RemoveAll: path and what is below it; nothing there is fine.
// Symbolic links are removed, not followed.
func (c *Client) RemoveAll(ctx context.Context, path string) error {
	st, err := c.Lstat(ctx, path)
	if errors.Is(err, abi.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Type != abi.VDIR {
		err = c.Unlink(ctx, path)
	} else {
		var ds []abi.Dirent
		if ds, err = c.ReadDir(ctx, path); err != nil {
			return err
		}
		for _, d := range ds {
			if err := c.RemoveAll(ctx, path+"/"+d.Name); err != nil {
				return err
			}
		}
		err = c.Rmdir(ctx, path)
	}
	if errors.Is(err, abi.ENOENT) {
		return nil
	}
	return err
}
