package ext4

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Records of the Store: "p" and an inode number, its pins; "s", whether the file
// system had been unmounted in order when it was mounted.

func pinKey(ino uint32) []byte { return binary.BigEndian.AppendUint32([]byte{'p'}, ino) }

// start reads what a mount needs: the journal, pins, orphans.
func (f *FS) start(ctx context.Context, req *vfsops.MountReq) error {
	if err := f.openJournal(ctx); err != nil {
		return err
	}
	t := f.reader(ctx)
	for g := range f.s.groups {
		if g%1024 == 0 {
			modapi.Tick(ctx)
		}
		f.overhead += uint64(f.s.baseMeta(g)) + 2 + uint64(f.s.itable)
	}
	f.overhead += f.s.first
	if f.s.compat&compatHasJournal != 0 && f.s.journal != 0 {
		if in, _, err := t.inodeAt(f.s.journal); err == nil {
			f.overhead += uint64(max(in.size(), 0)) >> f.s.logBS
		}
	}
	if req.Seq != 0 {
		if err := f.restore(ctx); err != nil {
			return err
		}
	}
	if f.readOnly {
		return nil
	}
	return f.startWriting(ctx, &req.Op, req.Seq != 0)
}

// restore reads the Store.
func (f *FS) restore(ctx context.Context) error {
	v, err := f.st.Get(ctx, []byte("s"))
	if err != nil || len(v) != 1 {
		return fmt.Errorf("the record of the mount has %d bytes (%w): %w", len(v), err, abi.EIO)
	}
	f.wasValid = v[0] != 0
	from := []byte("p")
	for {
		recs, err := f.st.Scan(ctx, from, []byte("q"), 0)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			return nil
		}
		for _, r := range recs {
			if len(r.Key) != 5 || len(r.Value) != 4 {
				return fmt.Errorf("a record of %d bytes: %w", len(r.Value), abi.EIO)
			}
			ino := binary.BigEndian.Uint32(r.Key[1:])
			if ino == 0 || ino > f.s.inodes {
				return fmt.Errorf("a record of inode %d: %w", ino, abi.EIO)
			}
			f.node(ino).pins = le.Uint32(r.Value)
		}
		from = modapi.StoreAfter(recs[len(recs)-1].Key)
	}
}

// Checkpoint commits what has been done, and notes which files are pinned.
func (f *FS) Checkpoint(ctx context.Context, _ abi.OpSeq) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	if err := f.commit(ctx); err != nil {
		return err
	}
	ops := make([]modapi.StoreOp, 0, len(f.pinsChanged))
	for ino := range f.pinsChanged {
		op := modapi.StoreOp{Key: pinKey(ino), Delete: true}
		if n := f.nodes[ino]; n != nil && n.pins > 0 {
			op.Value, op.Delete = le.AppendUint32(nil, n.pins), false
		}
		ops = append(ops, op)
	}
	if !f.noted {
		v := byte(0)
		if f.wasValid {
			v = 1
		}
		ops = append(ops, modapi.StoreOp{Key: []byte("s"), Value: []byte{v}})
	}
	if len(ops) > 0 {
		if err := f.st.Write(ctx, ops); err != nil {
			return err
		}
	}
	f.noted = true
	clear(f.pinsChanged)
	return nil
}

// Sync gives the device everything and has it make that durable.
func (f *FS) Sync(ctx context.Context, _ abi.Handle, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readOnly && len(f.dirty) == 0 {
		return nil
	}
	if err := f.commit(ctx); err != nil {
		return err
	}
	return f.flushDev(ctx)
}

func (f *FS) flushDev(ctx context.Context) error {
	if f.geom.Ops&devops.BFlush == 0 {
		return nil
	}
	return f.dev.Strategy(ctx, &devops.Buf{Flags: devops.BFlush})
}

// Unmount gives the device what it does not have yet, and lets go of it.
func (f *FS) Unmount(ctx context.Context) error {
	f.mu.Lock()
	err := f.finish(ctx)
	f.nodes = map[uint32]*node{}
	f.readOnly = true
	f.mu.Unlock()
	if f.mod != nil {
		f.mod.unmounted(f)
	}
	if cerr := f.dev.Close(ctx); err == nil {
		err = cerr
	}
	return err
}
