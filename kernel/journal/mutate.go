package journal

import (
	"context"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// sampleEvery is how many mutators one is timed of.
const sampleEvery = 16

// mutate executes a mutator: in the journal, in the process that is there or in
// the one that comes after it.
func (f *FS) mutate(ctx context.Context, e *Entry, r *result) error {
	f.at(FaultBeforeAppend, e)
	g, err := f.begin(ctx, e)
	if err != nil {
		return err
	}
	f.at(FaultAfterAppend, e)
	if e.Op.Seq%sampleEvery == 0 {
		from := time.Now()
		err = e.apply(ctx, g.fs, r)
		f.timed(time.Now().Sub(from))
	} else {
		err = e.apply(ctx, g.fs, r)
	}
	if err != nil && died(err) {
		return f.orphan(g, e, r)
	}
	f.at(FaultBeforeRecord, e)
	f.mu.Lock()
	f.sent--
	f.recordLocked(e, r, err)
	f.leaveLocked()
	f.mu.Unlock()
	f.at(FaultBeforeReply, e)
	return err
}

// begin waits until a mutator may begin, and gives it its number and its place.
func (f *FS) begin(ctx context.Context, e *Entry) (*gen, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		g := f.cur.Load()
		var err error
		switch {
		case f.badLocked():
			return nil, errBad
		case g == nil:
			err = f.downLocked(ctx)
		case f.gate:
			err = f.waitLocked(ctx, time.Time{})
		case f.fullLocked():
			if f.ckptErr != nil && time.Since(f.triedAt) < retryAfter {
				return nil, f.ckptErr
			}
			f.ckptErr = nil
			f.kickLocked()
			err = f.waitLocked(ctx, time.Time{})
		default:
			f.appendLocked(e)
			f.sent++
			f.active++
			if f.wantedLocked() {
				f.kickLocked()
			}
			return g, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// appendLocked gives an entry the next number and the last place.
func (f *FS) appendLocked(e *Entry) {
	f.seq++
	e.Op.Seq = f.seq
	e.State = Sent
	f.list = append(f.list, e)
	n := e.bytes()
	f.bytes += n
	f.cnt.entries.Inc()
	f.cnt.bytes.Add(uint64(n))
}

// recordLocked notes the answer of an entry that has been executed.
func (f *FS) recordLocked(e *Entry, r *result, err error) {
	if err != nil {
		e.State = Failed
		f.bytes -= e.bytes()
		e.drop()
		return
	}
	before := e.bytes()
	if e.Kind.makes() {
		e.Op.Fileid, e.Op.Gen = r.Node.Handle.File, r.Node.Handle.Gen
	}
	if e.Kind == Write {
		e.Append, e.Off = false, r.off
		e.iov = e.iov.Slice(0, r.n)
	}
	e.keep()
	e.iov = nil
	e.Hash = r.hash(e.Kind)
	e.State = Answered
	n := e.bytes() - before
	f.bytes += n
	f.cnt.bytes.Add(uint64(n))
}

// drop lets the memory of a failed entry go, which keeps its place.
func (e *Entry) drop() {
	e.Name, e.Name2, e.Data, e.Attr, e.iov = nil, nil, nil, nil, nil
}

// fail ends an orphan with an error.
func (e *Entry) fail(err error) {
	e.State, e.err = Failed, err
}

// leaveLocked counts a mutator out.
func (f *FS) leaveLocked() {
	f.active--
	if f.gate && f.active == 0 || f.recovering && f.sent == 0 {
		f.wakeLocked()
	}
}

// orphan waits for the answer to a mutator whose process died before it
// answered. The caller's context does not count: once sent, it is answered by
// who executes it.
func (f *FS) orphan(g *gen, e *Entry, r *result) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lostLocked(g)
	f.unlistLocked(e)
	e.State, e.order = Orphan, e.Op.Seq
	i, _ := slices.BinarySearchFunc(f.orphans, e, func(a, b *Entry) int { return int(int64(a.order) - int64(b.order)) })
	f.orphans = slices.Insert(f.orphans, i, e)
	f.cnt.orphans.Inc()
	f.sent--
	f.wakeLocked() // Recover waits for it
	for e.State == Orphan {
		err := f.downLocked(context.Background())
		switch {
		case e.State != Orphan || err == nil:
		case f.recovering && f.suspect == e: // it is being executed
			f.waitLocked(context.Background(), time.Time{})
		default:
			e.fail(err)
			f.unorphanLocked(e)
		}
	}
	f.leaveLocked()
	if e.err != nil {
		return e.err
	}
	*r = *e.res
	e.res = nil
	return nil
}

// unlistLocked takes an entry out of the list.
func (f *FS) unlistLocked(e *Entry) {
	live := f.list[f.head:]
	i, ok := slices.BinarySearchFunc(live, e, func(a, b *Entry) int { return int(int64(a.Op.Seq) - int64(b.Op.Seq)) })
	if ok && live[i] == e {
		f.list = slices.Delete(f.list, f.head+i, f.head+i+1)
		f.bytes -= e.bytes()
	}
}

func (f *FS) unorphanLocked(e *Entry) {
	f.orphans = slices.DeleteFunc(f.orphans, func(o *Entry) bool { return o == e })
}

// reserve takes or gives back pages. It is no mutator: what is granted is the
// kernel's.
func (f *FS) reserve(ctx context.Context, n int64) (int64, error) {
	for {
		g, err := f.current(ctx)
		if err != nil {
			return 0, err
		}
		f.mu.Lock()
		if f.cur.Load() != g {
			f.mu.Unlock()
			continue
		}
		f.sent++
		ask := n
		if n < 0 {
			ask += min(f.lent, -n)
		}
		f.mu.Unlock()
		got, err := n, error(nil)
		if c, ok := g.fs.(vfsops.Reserver); ok && ask != 0 {
			got, err = c.Reserve(ctx, ask)
		}
		f.mu.Lock()
		f.sent--
		if died(err) {
			f.lostLocked(g)
			f.wakeLocked()
			f.mu.Unlock()
			continue
		}
		switch {
		case err != nil:
		case n < 0:
			f.granted = max(0, f.granted+n)
			f.lent = max(0, f.lent-(ask-n))
		case got > 0 && got <= n:
			f.granted += got
		}
		if f.cur.Load() != g {
			f.wakeLocked()
		}
		f.mu.Unlock()
		return got, err
	}
}
