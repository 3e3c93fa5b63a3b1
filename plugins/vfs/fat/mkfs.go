package fat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Image is a file of the host that holds a file system.
type Image interface {
	io.ReaderAt
	io.WriterAt
}

// MkfsOptions say how to make a file system with files in it.
type MkfsOptions struct {
	FormatOptions
	// Skip is told of what FAT cannot hold (symbolic links, special files,
	// names, files that are too large); if it is nil, or answers an error, Mkfs
	// ends with that.
	Skip func(path string, err error) error
	// Gmtoff is the option gmtoff of mounts: seconds ahead of UTC.
	Gmtoff int64
}

// Mkfs makes a file system in the first size bytes of an image, which has so
// many, and copies a tree into it, in the order of its names; root may be nil.
// Times of change and whether a file may be written are kept. EINVAL as Format;
// ENOSPC: the tree does not fit.
func Mkfs(ctx context.Context, img Image, size int64, o MkfsOptions, root fs.FS) error {
	if o.Sector == 0 {
		o.Sector = minSector
	}
	if err := Format(img, size, o.FormatOptions); err != nil || root == nil {
		return err
	}
	m := mkfs{opt: o, root: root}
	dev := &imageIO{img: img, geom: devops.Geom{Size: size / o.Sector * o.Sector, Sector: uint32(o.Sector), MaxIO: devops.MaxPhys}}
	var err error
	opt := options{mask: 0o777, dirmask: 0o777, gmtoff: o.Gmtoff}
	if m.f, err = open(ctx, dev, opt, &vfsops.MountReq{Fsid: 1, Op: m.op(time.Time{})}, modapi.NoStore{}, nil); err != nil {
		return err
	}
	if err := m.tree(ctx, abi.Handle{FS: 1, File: rootID, Gen: 1}, "."); err != nil {
		return err
	}
	return m.f.Unmount(ctx)
}

// mkfs copies a tree.
type mkfs struct {
	f    *FS
	opt  MkfsOptions
	root fs.FS
	seq  abi.OpSeq
	buf  []byte
}

func (m *mkfs) op(now time.Time) vfsops.Op {
	m.seq++
	return vfsops.Op{Seq: m.seq, Now: timespec(now), Caller: abi.KernelCaller}
}

func timespec(t time.Time) abi.Timespec {
	return abi.Timespec{Sec: t.Unix(), Nsec: int32(t.Nanosecond())}
}

// skip decides about a file that cannot be copied.
func (m *mkfs) skip(name string, err error) error {
	err = fmt.Errorf("%s: %w", name, err)
	if m.opt.Skip != nil && !errors.Is(err, abi.ENOSPC) {
		return m.opt.Skip(name, err)
	}
	return err
}

// tree copies what is in a directory.
func (m *mkfs) tree(ctx context.Context, to abi.Handle, dir string) error {
	ents, err := fs.ReadDir(m.root, dir)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			return err
		}
		req := vfsops.CreateReq{Op: m.op(info.ModTime()), Dir: to, Name: []byte(e.Name()), Mode: uint32(info.Mode().Perm())}
		var made vfsops.Mutated
		switch {
		case info.IsDir():
			made, err = m.f.Mkdir(ctx, req)
		case !info.Mode().IsRegular():
			err = fmt.Errorf("FAT has no files of type %v: %w", info.Mode().Type(), abi.EOPNOTSUPP)
		case info.Size() >= 1<<32:
			err = fmt.Errorf("%d bytes: %w", info.Size(), abi.EFBIG)
		default:
			made, err = m.f.Create(ctx, req)
		}
		if err != nil {
			if err := m.skip(name, err); err != nil {
				return err
			}
			continue
		}
		h := made.Node.Handle
		if info.IsDir() {
			err = m.tree(ctx, h, name)
		} else {
			err = m.file(ctx, h, name, info.Size())
		}
		if err != nil {
			return err
		}
		// What was copied into it has changed its time.
		t := timespec(info.ModTime())
		if _, err := m.f.Setattr(ctx, vfsops.SetattrReq{Op: m.op(info.ModTime()), Node: h, Mask: abi.SetMtime | abi.SetAtime, Attr: abi.Vattr{Mtime: t, Atime: t}}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// file copies the contents of a file.
func (m *mkfs) file(ctx context.Context, h abi.Handle, name string, size int64) error {
	src, err := m.root.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	if m.buf == nil {
		m.buf = make([]byte, 1<<20)
	}
	for off := int64(0); off < size; {
		n, err := io.ReadFull(src, m.buf[:min(size-off, int64(len(m.buf)))])
		if err != nil {
			return fmt.Errorf("%s: read %d of %d bytes: %w", name, off+int64(n), size, err)
		}
		pages := m.buf[:(n+abi.PageSize-1)/abi.PageSize*abi.PageSize]
		clear(pages[n:])
		if err := m.f.WritePages(ctx, m.op(time.Time{}), h, off, abi.IovOf(pages), off+int64(n)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		off += int64(n)
	}
	return nil
}

// imageIO is an image as a block device.
type imageIO struct {
	img  Image
	geom devops.Geom
}

// Geometry is that of the image.
func (d *imageIO) Geometry(context.Context) (devops.Geom, error) { return d.geom, nil }

// Strategy reads or writes.
func (d *imageIO) Strategy(_ context.Context, b *devops.Buf) error {
	if err := b.Check(&d.geom); err != nil {
		return err
	}
	off := b.Off()
	for _, p := range b.Data {
		var err error
		switch b.Op() {
		case devops.BRead:
			_, err = d.img.ReadAt(p, off)
		case devops.BWrite:
			_, err = d.img.WriteAt(p, off)
		default:
			err = abi.EOPNOTSUPP
		}
		if err != nil {
			return fmt.Errorf("%d bytes at %d: %w: %w", len(p), off, err, abi.EIO)
		}
		off += int64(len(p))
	}
	return nil
}

// Close does nothing: the image is the caller's.
func (d *imageIO) Close(context.Context) error { return nil }

var _ devops.BlockIO = (*imageIO)(nil)
