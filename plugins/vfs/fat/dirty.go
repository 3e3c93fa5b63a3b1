package fat

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The dirty flag: bit 0 of a byte of the boot sector, set while somebody changes
// the file system, and a bit of the FAT's entry 1, which is clear then: the
// latter on FAT32, and on a FAT16 that does not have the former (mtools takes
// the bit in a FAT16 for damage). It is set with the first change and cleared by
// Unmount. Who finds it set at a mount looks for clusters that belong to nobody:
// those of files that were open without a name when the host died.

// stateByte is where the flag is in the boot sector; 0: there is none, as the
// extended boot signature is missing.
func (l *layout) stateByte() int64 {
	if !l.extended {
		return 0
	}
	if l.bits == 32 {
		return 0x41
	}
	return 0x25
}

// cleanBit is the flag in entry 1 of the FAT; 0: there is none.
func (l *layout) cleanBit() uint32 {
	switch l.bits {
	case 16:
		return 0x8000
	case 32:
		return 0x08000000
	}
	return 0
}

// readDirty reports whether the flag is set on the device.
func (f *FS) readDirty(ctx context.Context) (bool, error) {
	if at := f.t.stateByte(); at > 0 {
		var b [1]byte
		if err := f.c.read(ctx, b[:], at, 0); err != nil {
			return false, err
		}
		if b[0]&1 != 0 {
			return true, nil
		}
	}
	bit := f.t.cleanBit()
	if bit == 0 {
		return false, nil
	}
	v, err := f.t.entry(ctx, 1)
	return v&bit == 0, err
}

// setDirty sets or clears the flag.
func (f *FS) setDirty(ctx context.Context, on bool) error {
	if at := f.t.stateByte(); at > 0 {
		var b [1]byte
		if err := f.c.read(ctx, b[:], at, 0); err != nil {
			return err
		}
		b[0] &^= 1
		if on {
			b[0] |= 1
		}
		if err := f.c.write(ctx, b[:], at); err != nil {
			return err
		}
	}
	if bit := f.t.cleanBit(); bit != 0 {
		v, err := f.t.entry(ctx, 1)
		if err != nil {
			return err
		}
		v |= bit
		if on && (f.t.bits == 32 || f.t.stateByte() == 0) {
			v &^= bit
		}
		if err := f.t.put(ctx, 1, v); err != nil {
			return err
		}
	}
	f.dirty = on
	return nil
}

// recoverLost is what a mount for writing does with the dirty flag of the
// device. Preconditions: it is a new mount.
func (f *FS) recoverLost(ctx context.Context) error {
	dirty, err := f.readDirty(ctx)
	if err != nil || !dirty {
		return err
	}
	f.dirty = true
	if f.logger != nil {
		f.logger.Info("the file system was not unmounted: looking for lost clusters", "mount", f.fsid, "clusters", f.t.clusters)
	}
	if err := f.t.load(ctx); err != nil {
		return err
	}
	w := lostWalk{f: f, seen: make([]uint64, len(f.t.used))}
	freed, err := w.free(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		// What is damaged may lead to them: that is fsck's business, and the
		// flag stays.
		f.damaged = true
		f.log("lost clusters are not freed, the file system is damaged: fsck should look at it", "err", err)
	case freed > 0:
		f.log("freed clusters that belonged to no file", "clusters", freed, "directories", w.dirs)
	case f.logger != nil:
		f.logger.Info("no clusters were lost", "mount", f.fsid, "directories", w.dirs)
	}
	return nil
}

// lostWalk walks all files and directories to find out which clusters are
// theirs. Each cluster is visited once.
type lostWalk struct {
	f    *FS
	seen []uint64 // a bit a cluster, from number 2
	todo []uint32 // first clusters of directories
	n    uint32   // clusters seen
	dirs int
}

// free frees what the FAT says is in use and nobody has. EIO for damage that may
// hide whose it is: then nothing was freed.
func (w *lostWalk) free(ctx context.Context) (uint32, error) {
	f := w.f
	if f.t.rootSize > 0 {
		buf := make([]byte, f.t.rootSize)
		if err := f.c.read(ctx, buf, f.t.root, 0); err != nil {
			return 0, err
		}
		if _, err := w.slots(ctx, buf); err != nil {
			return 0, err
		}
	} else {
		w.todo = append(w.todo, f.t.rootFirst)
	}
	for len(w.todo) > 0 {
		c := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := w.directory(ctx, c); err != nil {
			return 0, err
		}
	}
	freed := uint32(0)
	for i, word := range f.t.used {
		for b := range 64 {
			c := uint32(i*64+b) + 2
			if lost := word &^ w.seen[i]; lost&(1<<b) == 0 || !f.t.valid(c) {
				continue
			}
			v, err := f.t.get(ctx, c)
			if err != nil {
				return freed, err
			}
			if v == f.t.end()-1 { // marked as bad
				continue
			}
			if err := f.t.set(ctx, c, 0); err != nil {
				return freed, err
			}
			f.t.used[i] &^= 1 << b
			f.t.nfree++
			freed++
		}
		if i%1024 == 0 {
			modapi.Tick(ctx)
		}
	}
	return freed, nil
}

// directory walks a directory from its first cluster on.
func (w *lostWalk) directory(ctx context.Context, first uint32) error {
	f := w.f
	if w.dirs++; w.dirs%100000 == 0 && f.logger != nil {
		f.logger.Info("looking for lost clusters", "mount", f.fsid, "directories", w.dirs, "clusters seen", w.n)
	}
	buf := make([]byte, f.t.cluster)
	end := false
	return w.chain(ctx, first, func(c uint32) error {
		if end {
			return nil
		}
		if err := f.c.read(ctx, buf, f.t.at(c), 0); err != nil {
			return err
		}
		var err error
		end, err = w.slots(ctx, buf)
		return err
	})
}

// slots takes what slots of a directory lead to, and reports whether they end.
func (w *lostWalk) slots(ctx context.Context, buf []byte) (end bool, err error) {
	for ; len(buf) >= slotSize; buf = buf[slotSize:] {
		switch {
		case buf[0] == slotEnd:
			return true, nil
		case buf[0] == slotFree, buf[11]&attrMask == attrLong, buf[11]&attrLabel != 0:
			continue
		}
		s := parseSlot(buf)
		if w.f.t.bits != 32 {
			s.first &= 0xffff
		}
		switch {
		case s.name == dotName, s.name == dotdotName:
		case s.attr&attrDir != 0:
			w.todo = append(w.todo, s.first)
		case s.first != 0:
			if err := w.chain(ctx, s.first, nil); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// chain walks a chain. EIO if it is damaged, or meets another.
func (w *lostWalk) chain(ctx context.Context, c uint32, visit func(uint32) error) error {
	t := &w.f.t
	for {
		if !t.valid(c) {
			return fmt.Errorf("a chain leads to cluster %d: %w", c, abi.EIO)
		}
		i, bit := (c-2)/64, uint64(1)<<((c-2)%64)
		if w.seen[i]&bit != 0 {
			return fmt.Errorf("cluster %d is in two chains: %w", c, abi.EIO)
		}
		w.seen[i] |= bit
		if w.n++; w.n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			modapi.Tick(ctx)
		}
		if visit != nil {
			if err := visit(c); err != nil {
				return err
			}
		}
		next, err := t.get(ctx, c)
		if err != nil {
			return err
		}
		if next >= t.end() {
			return nil
		}
		c = next
	}
}
