package dispatch

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// store is the Store of a mount, reached by upcalls.
type store struct {
	s     *Server
	mount abi.Fsid
}

func (k *kernel) Store(mount abi.Fsid) modapi.Store { return &store{k.m.s, mount} }

// start takes a call of an upcall on the store. It is answered out of memory,
// but the machine may be busy.
func (st *store) start(op wire.Op) *stream.Call {
	k := stream.GetCall()
	k.Header.Op, k.Header.Object = op, uint64(st.mount)
	k.Timeout = -1
	return k
}

func (st *store) call(ctx context.Context, k *stream.Call) error {
	st.s.mu.RLock()
	c := st.s.conn
	st.s.mu.RUnlock()
	if c == nil {
		return fmt.Errorf("%s: no stream to the kernel: %w", k.Header.Op, abi.ENOTCONN)
	}
	return c.Call(ctx, k)
}

// shortValue is the room that a Get asks for first: most values fit, and it
// costs no extent of the ring.
const shortValue = 8 << 10

// Get answers the value of a key.
func (st *store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := modapi.CheckStoreKey(key); err != nil {
		return nil, err
	}
	v, err := st.get(ctx, key, shortValue)
	if abi.ErrnoOf(err) == abi.EMSGSIZE {
		v, err = st.get(ctx, key, modapi.MaxStoreValue)
	}
	return v, err
}

func (st *store) get(ctx context.Context, key []byte, room int) ([]byte, error) {
	k := st.start(wire.OpStoreGet)
	defer k.Release()
	k.Args = (&wire.StoreKey{Key: key}).Append(k.Args)
	k.Scratch(room)
	if err := st.call(ctx, k); err != nil {
		return nil, err
	}
	return append([]byte{}, k.Got()...), nil
}

// Scan answers records of a range.
func (st *store) Scan(ctx context.Context, from, to []byte, max int) ([]modapi.StoreRec, error) {
	if err := modapi.CheckStoreRange(from, to, max); err != nil {
		return nil, err
	}
	buf := stream.GetBuf(wire.MaxPayload)
	defer stream.PutBuf(buf)
	k := st.start(wire.OpStoreScan)
	defer k.Release()
	k.Args = (&wire.StoreScanReq{From: from, To: to, Max: uint32(min(max, wire.MaxPayload))}).Append(k.Args)
	k.Dst = abi.IovOf(*buf)
	if err := st.call(ctx, k); err != nil {
		return nil, err
	}
	var r wire.StoreRecs
	// What is parsed aliases its input: one copy for all records.
	if err := r.Parse(append([]byte(nil), (*buf)[:k.N]...)); err != nil {
		return nil, fmt.Errorf("store-scan: %v: %w", err, abi.EIO)
	}
	return r.Recs, nil
}

// Write changes records, in as many messages as that takes.
func (st *store) Write(ctx context.Context, ops []modapi.StoreOp) error {
	for i := range ops {
		if err := modapi.CheckStoreOp(&ops[i]); err != nil {
			return err
		}
	}
	for len(ops) > 0 {
		n := wire.FitStoreOps(ops)
		if err := st.write(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (st *store) write(ctx context.Context, ops []modapi.StoreOp) error {
	size := wire.StoreHeadSize
	for i := range ops {
		size += wire.StoreOpSize + len(ops[i].Key) + len(ops[i].Value)
	}
	buf := stream.GetBuf(size)
	defer stream.PutBuf(buf)
	k := st.start(wire.OpStoreWrite)
	defer k.Release()
	k.SetPayload((&wire.StoreBatch{Ops: ops}).Append((*buf)[:0]))
	return st.call(ctx, k)
}
