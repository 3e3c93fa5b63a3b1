package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Layers are the layers of one mount on a block device, and the device: see
// bio.Layered.
type Layers struct {
	*bio.Layered
	h    *bio.Handle
	redo *bio.FileRedo // nil: there is none
}

// OpenLayers opens a block device for one mount alone, with layers over it. On
// an image of the host that etfs shows, or on a partition of one, they are
// written out by way of a redo file beside the image, unless o has a Redo of its
// own or is Journalled; a complete redo file is replayed now. On other devices
// without Redo a write-out is not atomic, which is told. EBUSY: somebody has the
// device for himself; EROFS: write, and it can only be read; EINVAL: the redo
// file there is that of another image.
func (k *Kernel) OpenLayers(ctx context.Context, n abi.Dev, write bool, o bio.LayerOptions) (*Layers, error) {
	flags := abi.O_RDONLY
	if write {
		flags = abi.O_RDWR
	}
	h, err := k.Bio.Open(ctx, n, flags|abi.O_EXCL)
	if err != nil {
		return nil, err
	}
	l := &Layers{h: h}
	if o.Redo == nil && !o.Journalled {
		path, ino, why := k.redoPath(n)
		if path != "" {
			l.redo = bio.NewFileRedo(k.hyp, path)
			o.Redo, o.ID.Ino = l.redo, ino
		} else if write {
			k.Msg.Logger("bio").Warn("no redo file: a crash while it is written out leaves a part", "device", k.Dev.BlkName(n), "why", why)
		}
	}
	if l.Layered, err = bio.NewLayered(ctx, h, o); err != nil {
		return nil, errors.Join(err, l.end(ctx))
	}
	return l, nil
}

// Close frees layers and device. What Sync has not answered for is lost.
func (l *Layers) Close(ctx context.Context) error {
	return errors.Join(l.Layered.Close(ctx), l.end(ctx))
}

func (l *Layers) end(ctx context.Context) error {
	err := l.h.Close(ctx)
	if l.redo != nil {
		err = errors.Join(err, l.redo.Close())
	}
	return err
}

// redoPath is what the redo file of a device has its name from: the image's path
// on the host, and for a part of the image a word for which part. ino is the
// image's file number. With "" it says why there is none.
func (k *Kernel) redoPath(n abi.Dev) (path string, ino uint64, why string) {
	part, disk := "", n
	for _, i := range k.Dev.Blks() {
		if i.Dev == n && i.Driver == "dk" && len(i.On) == 1 {
			disk = i.On[0]
			// A partition's name is its disk's and its own: p1. That of the disk
			// may be another one the next time.
			part = "@" + strings.TrimPrefix(i.Name, k.Dev.BlkName(disk))
		}
	}
	for _, i := range k.Dev.Blks() {
		if i.Dev != disk {
			continue
		}
		if i.Driver != "etfs" {
			return "", 0, fmt.Sprintf("%s is no image of the host", i.Name)
		}
		f, s, err := k.Etfs.File(disk.Minor())
		if err != nil {
			return "", 0, err.Error()
		}
		in, err := f.Info()
		switch {
		case err != nil:
			return "", 0, err.Error()
		case in.Block:
			return "", 0, s.Host + " is a device of the host"
		}
		if s.Offset != 0 {
			part = fmt.Sprintf("@%d%s", s.Offset, part)
		}
		return s.Host + part, in.Ino, ""
	}
	return "", 0, "it is gone"
}
