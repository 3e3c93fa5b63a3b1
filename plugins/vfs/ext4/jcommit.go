package ext4

import (
	"cmp"
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Writing of the journal. Transactions are written one behind the other from its
// first block on. When there is no room for another one, or much is in memory only,
// everything that was committed goes to its place, and the journal is empty again:
// so there is never a tail to be moved, nor an end to be gone around.

// most is how many blocks a transaction is to have.
func (j *journal) most() int { return int(j.last-j.first) / 4 }

// perTags and perRevoke are how many fit in a block.
func (j *journal) perTags() int {
	n := int(j.f.s.bs) - jHead - 16
	if j.csums() {
		n -= 4
	}
	return n / j.tagLen()
}

func (j *journal) revokeLen() int {
	if j.incompat&jIncompat64bit != 0 {
		return 8
	}
	return 4
}

func (j *journal) perRevoke() int { return (int(j.f.s.bs) - jRevokeHead - 4) / j.revokeLen() }

// need is how many blocks of the journal a transaction takes.
func (j *journal) need(blocks, revokes int) int {
	up := func(n, per int) int { return (n + per - 1) / per }
	return blocks + up(blocks, j.perTags()) + up(revokes, j.perRevoke()) + 1
}

// commit writes a transaction, and returns when it is durable as far as the device
// keeps its word.
func (j *journal) commit(ctx context.Context, bs []*buf, revoked map[uint64]bool) error {
	var rs []uint64
	for b := range revoked {
		if _, ok := j.logged[b]; ok && j.f.dirty[b] == nil {
			rs = append(rs, b)
		}
	}
	slices.Sort(rs)
	n := j.need(len(bs), len(rs))
	if n > int(j.last-j.first) {
		// It does not fit however empty the journal is. Operations are bounded, so
		// this takes a journal much smaller than mke2fs makes.
		j.f.log("a transaction is larger than the journal, and written without it", "blocks", len(bs))
		if err := j.checkpoint(ctx); err != nil {
			return err
		}
		if err := j.f.writeHome(ctx, bs); err != nil {
			return err
		}
		return j.f.flushDev(ctx)
	}
	if n > int(j.last-j.head) {
		if err := j.checkpoint(ctx); err != nil {
			return err
		}
	}
	start := j.head
	if start == j.first {
		if err := j.writeSuper(ctx, start); err != nil {
			return err
		}
	}
	out, where := j.blocks(bs, rs)
	if err := j.write(ctx, start, out); err != nil {
		return err
	}
	if err := j.f.flushDev(ctx); err != nil {
		return err
	}
	if err := j.write(ctx, start+uint32(len(out)), [][]byte{j.commitBlock()}); err != nil {
		return err
	}
	if err := j.f.flushDev(ctx); err != nil {
		return err
	}
	j.head = start + uint32(len(out)) + 1
	j.seq++
	for b := range revoked { // it may be contents of a file from now on
		delete(j.logged, b)
		delete(j.late, b)
	}
	for i, b := range bs {
		b.late = true
		j.late[b.n] = b
		j.logged[b.n] = overBlock{j.at[start+uint32(where[i])], be.Uint32(b.data) == jMagic}
		b.dirty = false
	}
	if int64(len(j.late))*j.f.s.bs > jDefaultLateSize || int(j.last-j.head) < 2*j.most() {
		return j.checkpointAfter(ctx)
	}
	return nil
}

// checkpointAfter is checkpoint behind a commit, which is done whatever comes.
func (j *journal) checkpointAfter(ctx context.Context) error {
	if err := j.checkpoint(ctx); err != nil {
		j.f.log("what was committed is not at its place yet", "err", err)
	}
	return nil
}

func (j *journal) header(p []byte, typ uint32) {
	be.PutUint32(p, jMagic)
	be.PutUint32(p[4:], typ)
	be.PutUint32(p[8:], j.seq)
}

// blocks are the blocks of a transaction as they are in the journal, and where each
// buffer is among them.
func (j *journal) blocks(bs []*buf, rs []uint64) (out [][]byte, where []int) {
	size := j.f.s.bs
	for len(rs) > 0 {
		k := min(len(rs), j.perRevoke())
		p := make([]byte, size)
		j.header(p, jRevoke)
		off := jRevokeHead
		for _, b := range rs[:k] {
			if j.revokeLen() == 8 {
				be.PutUint64(p[off:], b)
			} else {
				be.PutUint32(p[off:], uint32(b))
			}
			off += j.revokeLen()
		}
		be.PutUint32(p[jHead:], uint32(off))
		j.sealTail(p)
		out, rs = append(out, p), rs[k:]
	}
	for len(bs) > 0 {
		k := min(len(bs), j.perTags())
		p := make([]byte, size)
		j.header(p, jDescriptor)
		at := len(out)
		out = append(out, p)
		off := jHead
		for i, b := range bs[:k] {
			flags := uint32(0)
			data := b.data
			if be.Uint32(data) == jMagic {
				flags |= jTagEscape
				data = append([]byte{0, 0, 0, 0}, data[4:]...)
			}
			if i > 0 {
				flags |= jTagSameUUID
			}
			if i == k-1 {
				flags |= jTagLast
			}
			q := p[off:]
			be.PutUint32(q, uint32(b.n))
			c := uint32(0)
			if j.csums() {
				c = j.tagCsum(j.seq, data)
			}
			if j.incompat&jIncompatCsumV3 != 0 {
				be.PutUint32(q[4:], flags)
				be.PutUint32(q[8:], uint32(b.n>>32))
				be.PutUint32(q[12:], c)
			} else {
				be.PutUint16(q[4:], uint16(c))
				be.PutUint16(q[6:], uint16(flags))
				if j.incompat&jIncompat64bit != 0 {
					be.PutUint32(q[8:], uint32(b.n>>32))
				}
			}
			off += j.tagLen()
			if i == 0 {
				copy(p[off:], j.sb[jsUUID:jsUUID+16])
				off += 16
			}
			where = append(where, len(out))
			out = append(out, data)
		}
		j.sealTail(out[at])
		bs = bs[k:]
	}
	return out, where
}

func (j *journal) sealTail(p []byte) {
	if j.csums() {
		be.PutUint32(p[len(p)-4:], j.tailCsum(p))
	}
}

func (j *journal) commitBlock() []byte {
	p := make([]byte, j.f.s.bs)
	j.header(p, jCommit)
	be.PutUint64(p[jCommitSec:], uint64(j.f.lastNow.Sec))
	be.PutUint32(p[jCommitNsec:], uint32(j.f.lastNow.Nsec))
	if j.csums() {
		be.PutUint32(p[jCommitCsum:], j.commitCsum(p))
	}
	return p
}

// write writes blocks of the journal from one on.
func (j *journal) write(ctx context.Context, from uint32, out [][]byte) error {
	bs := j.f.s.bs
	for i := 0; i < len(out); {
		var iov abi.Iov
		first := i
		for ; i < len(out) && j.at[from+uint32(i)] == j.at[from+uint32(first)]+uint64(i-first) && int64(i-first+1)*bs <= devops.MaxPhys; i++ {
			iov = append(iov, out[i])
		}
		if err := transfer(ctx, j.f.dev, devops.BWrite|devops.BMeta, int64(j.at[from+uint32(first)])*bs, iov); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint puts everything that was committed in its place, and empties the
// journal. What the running transaction has changed or freed since is taken from
// the journal.
func (j *journal) checkpoint(ctx context.Context) error {
	bs := make([]*buf, 0, len(j.late))
	for n, b := range j.late {
		if j.f.c.blks[n] == b && !b.dirty {
			bs = append(bs, b)
			continue
		}
		p := make([]byte, j.f.s.bs)
		if err := j.f.c.readOver(ctx, j.logged[n], p); err != nil {
			return err
		}
		bs = append(bs, &buf{n: n, data: p})
	}
	slices.SortFunc(bs, func(a, b *buf) int { return cmp.Compare(a.n, b.n) })
	if err := j.f.writeHome(ctx, bs); err != nil {
		return err
	}
	if err := j.f.flushDev(ctx); err != nil {
		return err
	}
	if err := j.empty(ctx); err != nil {
		return err
	}
	for _, b := range j.late {
		b.late = false
	}
	clear(j.late)
	return nil
}

// finish empties the journal at the end of a mount.
func (j *journal) finish(ctx context.Context) error {
	if err := j.checkpoint(ctx); err != nil {
		return err
	}
	return j.f.flushDev(ctx)
}
