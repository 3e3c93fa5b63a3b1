package stream

import (
	"context"
	"time"
)

// maxRound is how many calls of a batch are on their way at a time, so that a
// long one leaves room for others.
const maxRound = 32

// Batch does several calls at once and returns when all of them have ended,
// each as Call would have: its error is Call.Err, and Batch's is the first of
// those. The calls must not depend on each other: the peer may serve them at
// the same time. By the fast way as many as have room are published before the
// peer is told of them, once; by the stream they are written before the first
// reply is awaited.
func (c *Conn) Batch(ctx context.Context, ks []*Call) error {
	var first error
	for len(ks) > 0 {
		n := c.fastRound(ctx, ks[:min(len(ks), maxRound)])
		if n == 0 {
			n = c.streamRound(ctx, ks[:min(len(ks), maxRound)])
		}
		for _, k := range ks[:n] {
			if first == nil {
				first = k.err
			}
		}
		ks = ks[n:]
	}
	return first
}

// fastRound does the first n of the calls, those that find room.
func (c *Conn) fastRound(ctx context.Context, ks []*Call) (n int) {
	f := c.Fast()
	if f == nil {
		return 0
	}
	started := 0
	for _, k := range ks {
		k.limit, k.err = c.prepare(ctx, k)
		if k.err == nil {
			if !f.Start(k) {
				break
			}
			started++
		}
		n++
	}
	if started == 0 {
		return n
	}
	f.Bell()
	if started > 1 {
		f.Batched(started)
	}
	begin := time.Now()
	for i, k := range ks[:n] {
		if k.err != nil {
			continue
		}
		if i > 0 && k.limit > 0 { // they share their time
			k.limit = max(k.limit-time.Since(begin), 1)
		}
		k.err = f.Finish(ctx, k, k.limit)
	}
	return n
}

// streamRound does the first n of the calls by the stream, at least one. It
// waits for a place among the calls in flight while it has none itself.
func (c *Conn) streamRound(ctx context.Context, ks []*Call) (n int) {
	var sent [maxRound]bool
	for i, k := range ks {
		limit, err := c.prepare(ctx, k)
		if k.err = err; err == nil {
			if sent[i], err = c.submit(ctx, k, limit, i == 0); err == errNoRoom {
				break
			}
			if !sent[i] { // else the reader may have set it by now
				k.err = err
			}
		}
		n++
	}
	for i, k := range ks[:n] {
		if sent[i] {
			k.err = c.receive(ctx, k)
		}
	}
	return n
}
