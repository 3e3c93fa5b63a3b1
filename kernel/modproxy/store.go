package modproxy

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// setStore makes s the Store of a mount of this link; nil: it has none.
func (l *Link) setStore(mount abi.Fsid, s modapi.Store) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s == nil {
		delete(l.stores, mount)
	} else {
		l.stores[mount] = s
	}
}

// serveStore serves an operation on the Store of a mount. One that is not
// mounted by this link is ENXIO: it may just have been unmounted.
func (l *Link) serveStore(ctx context.Context, req *stream.Request) {
	l.mu.Lock()
	s := l.stores[abi.Fsid(req.Header.Object)]
	l.mu.Unlock()
	if s == nil {
		s = modapi.NoStore{}
	}
	switch req.Header.Op {
	case wire.OpStoreGet:
		l.storeGet(ctx, req, s)
	case wire.OpStoreScan:
		l.storeScan(ctx, req, s)
	case wire.OpStoreWrite:
		// A key that changes while it is looked at must not be found in
		// another place of the order than it was put.
		req.Own()
		r := batches.Get().(*wire.StoreBatch)
		if err := r.Parse(req.Payload); err != nil {
			l.lie("%s: %v", req.Header.Op, err)
			return
		}
		req.Reply(abi.ErrnoOf(s.Write(ctx, r.Ops)), nil, nil)
		clear(r.Ops)
		batches.Put(r)
	}
}

// batches are decoded requests, for the room in them.
var batches = sync.Pool{New: func() any { return new(wire.StoreBatch) }}

func (l *Link) storeGet(ctx context.Context, req *stream.Request, s modapi.Store) {
	var r wire.StoreKey
	if err := r.Parse(req.Args); err != nil {
		l.lie("%s: %v", req.Header.Op, err)
		return
	}
	v, err := s.Get(ctx, r.Key)
	switch {
	case err != nil:
		req.Reply(abi.ErrnoOf(err), nil, nil)
	case len(v) > int(req.Header.ReplyLen):
		req.Reply(abi.EMSGSIZE, nil, nil)
	default:
		req.Reply(0, nil, abi.IovOf(v))
	}
}

func (l *Link) storeScan(ctx context.Context, req *stream.Request, s modapi.Store) {
	var r wire.StoreScanReq
	if err := r.Parse(req.Args); err != nil {
		l.lie("%s: %v", req.Header.Op, err)
		return
	}
	recs, err := s.Scan(ctx, r.From, r.To, int(min(r.Max, wire.MaxPayload)))
	if err != nil {
		req.Reply(abi.ErrnoOf(err), nil, nil)
		return
	}
	n, left := 0, int(req.Header.ReplyLen)-wire.StoreHeadSize
	for n < len(recs) {
		if left -= wire.StoreRecSize + len(recs[n].Key) + len(recs[n].Value); left < 0 {
			break
		}
		n++
	}
	if n == 0 && len(recs) > 0 {
		req.Reply(abi.EMSGSIZE, nil, nil)
		return
	}
	buf := stream.GetBuf(int(req.Header.ReplyLen))
	defer stream.PutBuf(buf)
	req.Reply(0, nil, abi.IovOf((&wire.StoreRecs{Recs: recs[:n]}).Append((*buf)[:0])))
}
