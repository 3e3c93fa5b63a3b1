package fat

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Records of the Store: "s" has the next file id, where the search for free
// clusters goes on, the times of the root, and whether the dirty flag stays; "i"
// and an id, where its slot is, its pins, its generation if that is an odd one,
// and if it has no name the slot itself.

const (
	superLen  = 8 + 4 + 6 + 1
	recordLen = 8 + 4 + 4
)

func recordKey(id abi.Fileid) []byte { return binary.BigEndian.AppendUint64([]byte{'i'}, uint64(id)) }

// Checkpoint writes everything to the device, and ids that are not those of
// their places to the Store.
func (f *FS) Checkpoint(ctx context.Context, _ abi.OpSeq) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	if f.closed { // everything is on the device, and the Store ends with the mount
		return nil
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	ops := make([]modapi.StoreOp, 0, len(f.ids.changed)+1)
	for id := range f.ids.changed {
		if id == rootID {
			continue
		}
		op := modapi.StoreOp{Key: recordKey(id)}
		n := f.nodes[id]
		at, odd := f.ids.byID[id]
		gen := f.ids.gens[id]
		switch {
		case !odd && gen == 0 && (n == nil || n.pins == 0):
			op.Delete = true
		default:
			if !odd {
				at = int64(id-slotID) * slotSize
			}
			var pins uint32
			if n != nil {
				pins = n.pins
			}
			op.Value = binary.LittleEndian.AppendUint64(nil, uint64(at))
			op.Value = binary.LittleEndian.AppendUint32(op.Value, pins)
			op.Value = binary.LittleEndian.AppendUint32(op.Value, uint32(gen))
			if at == 0 && n != nil {
				op.Value = append(op.Value, n.s.bytes()...)
			}
		}
		ops = append(ops, op)
	}
	root := f.nodes[rootID]
	super := binary.LittleEndian.AppendUint64(nil, uint64(f.ids.next))
	super = binary.LittleEndian.AppendUint32(super, f.t.next)
	for _, v := range []uint16{root.s.mdate, root.s.mtime, root.s.adate} {
		super = binary.LittleEndian.AppendUint16(super, v)
	}
	damaged := byte(0)
	if f.damaged {
		damaged = 1
	}
	super = append(super, damaged)
	ops = append(ops, modapi.StoreOp{Key: []byte("s"), Value: super})
	if err := f.st.Write(ctx, ops); err != nil {
		return err
	}
	clear(f.ids.changed)
	return nil
}

// restore reads the Store.
func (f *FS) restore(ctx context.Context) error {
	b, err := f.st.Get(ctx, []byte("s"))
	if err != nil || len(b) != superLen {
		return fmt.Errorf("the record of the mount has %d bytes (%w): %w", len(b), err, abi.EIO)
	}
	f.ids.next = abi.Fileid(binary.LittleEndian.Uint64(b))
	f.t.next = binary.LittleEndian.Uint32(b[8:])
	root := f.nodes[rootID]
	for i, v := range []*uint16{&root.s.mdate, &root.s.mtime, &root.s.adate} {
		*v = binary.LittleEndian.Uint16(b[12+2*i:])
	}
	if f.dirty, err = f.readDirty(ctx); err != nil {
		return err
	}
	f.damaged = b[superLen-1] != 0
	from := []byte("i")
	pinned := map[abi.Fileid]uint32{}
	for {
		recs, err := f.st.Scan(ctx, from, []byte("j"), 0)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			break
		}
		for _, r := range recs {
			if len(r.Key) != 9 || len(r.Value) < recordLen {
				return fmt.Errorf("a record of %d bytes: %w", len(r.Value), abi.EIO)
			}
			id := abi.Fileid(binary.BigEndian.Uint64(r.Key[1:]))
			at := int64(binary.LittleEndian.Uint64(r.Value))
			pins := binary.LittleEndian.Uint32(r.Value[8:])
			if g := binary.LittleEndian.Uint32(r.Value[12:]); g != 0 {
				f.ids.gens[id] = abi.Gen(g)
			}
			if at == 0 || abi.Fileid(at/slotSize)+slotID != id {
				f.ids.byID[id] = at
			}
			if at != 0 && abi.Fileid(at/slotSize)+slotID != id {
				f.ids.byPlace[at] = id
			}
			switch {
			case at == 0 && len(r.Value) == recordLen+slotSize:
				s := parseSlot(r.Value[recordLen:])
				n := &node{id: id, gen: f.genOf(id, &s), s: s, dir: s.attr&attrDir != 0, pins: pins, gone: true}
				n.ch.reset(s.first)
				if n.init = n.size(); !n.dir || n.ch.first != 0 {
					f.nodes[id] = n
				}
			case pins > 0:
				pinned[id] = pins
			}
		}
		from = modapi.StoreAfter(recs[len(recs)-1].Key)
	}
	for id, pins := range pinned { // when all places are known
		n, err := f.nodeAt(ctx, f.placeOf(id))
		if err != nil {
			return fmt.Errorf("pinned file %d: %w", id, err)
		}
		n.pins = pins
	}
	return nil
}

// Numbers of the FSInfo sector of FAT32.
const (
	fsinfoLead   = 0x41615252
	fsinfoStruct = 0x61417272
)

// writeFSInfo tells the FSInfo sector how many clusters are free.
func (f *FS) writeFSInfo(ctx context.Context) error {
	if f.t.fsinfo == 0 || f.t.used == nil || len(f.c.dirty) == 0 {
		return nil
	}
	var b [minSector]byte
	if err := f.c.read(ctx, b[:], f.t.fsinfo, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(b[:]) != fsinfoLead || le.Uint32(b[484:]) != fsinfoStruct || le.Uint32(b[488:]) == f.t.nfree && le.Uint32(b[492:]) == f.t.next {
		return nil
	}
	le.PutUint32(b[488:], f.t.nfree)
	le.PutUint32(b[492:], f.t.next)
	return f.c.write(ctx, b[488:496], f.t.fsinfo+488)
}
