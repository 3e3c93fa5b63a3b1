package local

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func (s *Socket) timeo(v *atomic.Int64) time.Duration { return time.Duration(v.Load()) }

// Send is sendmsg(2). files are the rights to send along; their references are
// taken over if it succeeds. On a stream it waits until all is sent, unless
// nonblock is set; a count less than all comes with an error only if nothing
// was sent. EPIPE, ENOTCONN, EDESTADDRREQ, EISCONN, EMSGSIZE, EAGAIN, ENOBUFS
// (a full datagram socket), ECONNRESET (the datagram peer was closed).
func (s *Socket) Send(ctx context.Context, c *abi.Caller, src abi.Iov, to abi.Sockaddr, flags int, nonblock bool, files []*file.File) (int, error) {
	if flags&abi.MSG_OOB != 0 {
		return 0, abi.EOPNOTSUPP
	}
	nonblock = nonblock || flags&(abi.MSG_DONTWAIT|abi.MSG_NBIO) != 0
	total := src.Len()
	if len(files) > 0 {
		if s.stream() && total == 0 {
			return 0, abi.EINVAL // where in the stream would they be?
		}
		if err := s.d.launch(files); err != nil {
			return 0, err
		}
	}
	p, err := s.target(ctx, c, to)
	var n int
	var taken bool
	if err == nil {
		if s.stream() {
			n, taken, err = s.sendStream(ctx, c, p, src, total, nonblock, files)
		} else {
			taken, err = s.sendRecord(ctx, c, p, src, total, nonblock, files)
			n = total
			if err != nil {
				n = 0
			}
		}
	}
	if len(files) > 0 {
		if !taken {
			s.d.rights.Add(-int64(len(files)))
		} else {
			for _, f := range files { // its sender may have closed it since
				if Of(f) != nil && f.Orphan() {
					s.d.collect()
					break
				}
			}
			err = nil
		}
	}
	return n, err
}

// target is where a message goes.
func (s *Socket) target(ctx context.Context, c *abi.Caller, to abi.Sockaddr) (*Socket, error) {
	if s.wshut.Load() {
		return nil, abi.EPIPE
	}
	if err := s.takeError(); err != nil {
		return nil, err
	}
	named := to.Family != abi.AF_UNSPEC
	p := s.peer.Load()
	switch st := s.state(); {
	case st == disconnected:
		return nil, abi.EPIPE
	case named && st == connected:
		return nil, abi.EISCONN
	case s.oriented() && (st != connected || p == nil):
		return nil, abi.ENOTCONN
	case named:
		return s.find(ctx, c, to)
	case p == nil:
		return nil, abi.EDESTADDRREQ
	}
	return p, nil
}

// control makes what goes with a message to p. Preconditions: p.rcv.mu is
// held.
func (s *Socket) controlLocked(c *abi.Caller, p *Socket, files []*file.File) *control {
	if !p.rcv.creds && len(files) == 0 {
		return nil
	}
	ctl := &control{files: files}
	if p.rcv.creds {
		ctl.cred = &abi.Sockcred{Pid: c.Pid, Uid: c.Cred.Ruid, Euid: c.Cred.Euid, Gid: c.Cred.Rgid, Egid: c.Cred.Egid, Groups: c.Cred.Groups}
		if s.oriented() {
			p.rcv.creds = false // once a connection
		}
	}
	return ctl
}

// sendStream reports also whether the files were taken over.
func (s *Socket) sendStream(ctx context.Context, c *abi.Caller, p *Socket, src abi.Iov, total int, nonblock bool, files []*file.File) (int, bool, error) {
	done := 0
	taken := false
	try := func() error {
		pass := files
		if taken {
			pass = nil
		}
		if len(pass) > 0 {
			s.d.flightMu.Lock()
			defer s.d.flightMu.Unlock()
		}
		b := &p.rcv
		b.mu.Lock()
		defer b.mu.Unlock()
		switch {
		case b.shut || s.wshut.Load():
			return abi.EPIPE
		case b.freeLocked() < min(total-done, b.lowatLocked()):
			return abi.EAGAIN
		}
		if ctl := s.controlLocked(c, p, pass); ctl != nil {
			b.marks = append(b.marks, mark{b.pos + uint64(b.used), ctl})
			if len(pass) > 0 {
				s.d.flyLocked(p, ctl)
				taken = true
			}
		}
		n := min(total-done, b.freeLocked())
		b.putLocked(src, done, n)
		done += n
		return nil
	}
	if total == 0 {
		return 0, false, nil
	}
	for done < total {
		err := s.wait(ctx, nonblock, s.timeo(&s.sndTimeo), try)
		if err != nil {
			if done > 0 && !errors.Is(err, abi.EPIPE) {
				err = nil
			}
			return done, taken, err
		}
		p.sel.Notify()
	}
	return done, taken, nil
}

// sendRecord sends all or nothing.
func (s *Socket) sendRecord(ctx context.Context, c *abi.Caller, p *Socket, src abi.Iov, total int, nonblock bool, files []*file.File) (bool, error) {
	if total > int(s.sndSpace.Load()) {
		return false, abi.EMSGSIZE
	}
	r := record{data: make([]byte, total)}
	src.CopyOut(r.data)
	if !s.oriented() {
		r.from, _ = s.Name(false)
	}
	err := s.wait(ctx, nonblock, s.timeo(&s.sndTimeo), func() error {
		if len(files) > 0 {
			s.d.flightMu.Lock()
			defer s.d.flightMu.Unlock()
		}
		b := &p.rcv
		b.mu.Lock()
		defer b.mu.Unlock()
		switch {
		case b.shut && !s.oriented() && s.peer.Load() != p:
			return abi.ECONNREFUSED // closed since it was found
		case b.shut || s.wshut.Load():
			return abi.EPIPE
		case total > b.space:
			return abi.EMSGSIZE
		case !b.roomLocked(total):
			if !s.oriented() {
				return abi.ENOBUFS
			}
			return abi.EAGAIN
		}
		if r.ctl = s.controlLocked(c, p, files); r.ctl != nil && len(files) > 0 {
			s.d.flyLocked(p, r.ctl)
		}
		b.pushLocked(r)
		return nil
	})
	if err != nil {
		return false, err
	}
	p.sel.Notify()
	return len(files) > 0, nil
}

// Received is what Recv answers beside the bytes.
type Received struct {
	N     int // with MSG_TRUNC: of the whole record
	From  abi.Sockaddr
	Flags int          // MSG_TRUNC, MSG_EOR
	Files []*file.File // with a reference each
	Cred  *abi.Sockcred
}

// errFlight: the next message has files, so flightMu must be held.
var errFlight = errors.New("files in flight")

// Recv is recvmsg(2): it waits for a byte of a stream, or for all of dst with
// MSG_WAITALL (but stops before control information), or for one record. 0
// bytes of a stream are its end. MSG_PEEK shows bytes and credentials, but
// gives no files. EAGAIN, ENOTCONN.
func (s *Socket) Recv(ctx context.Context, dst abi.Iov, flags int, nonblock bool) (Received, error) {
	var res Received
	if flags&abi.MSG_OOB != 0 {
		return res, abi.EOPNOTSUPP
	}
	if st := s.state(); s.oriented() && (st == idle || st == listening || st == connecting) {
		return res, abi.ENOTCONN
	}
	total := dst.Len()
	if s.stream() && total == 0 {
		return res, nil
	}
	nonblock = nonblock || flags&(abi.MSG_DONTWAIT|abi.MSG_NBIO) != 0
	all := s.stream() && flags&abi.MSG_WAITALL != 0 && flags&abi.MSG_PEEK == 0
	for {
		more := false
		err := s.wait(ctx, nonblock, s.timeo(&s.rcvTimeo), func() (err error) {
			more, err = s.take(&res, dst, total, flags, false)
			if err == errFlight {
				s.d.flightMu.Lock()
				more, err = s.take(&res, dst, total, flags, true)
				s.d.flightMu.Unlock()
			}
			return err
		})
		if err != nil {
			if res.N > 0 {
				return res, nil
			}
			return res, err
		}
		if flags&abi.MSG_PEEK == 0 {
			if p := s.peer.Load(); p != nil && s.oriented() {
				p.sel.Notify()
			}
		}
		if !all || !more || res.N == total {
			return res, nil
		}
	}
}

// take takes what there is. more: there may be more of this stream.
func (s *Socket) take(res *Received, dst abi.Iov, total, flags int, flight bool) (more bool, err error) {
	b := &s.rcv
	peek := flags&abi.MSG_PEEK != 0
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.emptyLocked() {
		switch {
		case s.err.Load() != 0:
			return false, s.takeError()
		case b.eof || b.shut:
			return false, nil
		}
		return true, abi.EAGAIN
	}
	if b.stream {
		n, ctl := b.chunkLocked()
		if ctl != nil && res.N > 0 {
			return false, nil // belongs to the next receive
		}
		if !peek && ctl != nil && len(ctl.files) > 0 && !flight {
			return false, errFlight
		}
		n = min(n, total-res.N)
		b.getLocked(dst, res.N, n, peek)
		res.N += n
		if ctl != nil {
			res.Cred = ctl.cred
			if !peek {
				b.marks = b.marks[1:]
				s.handOver(res, ctl)
			}
		}
		return true, nil
	}
	r := &b.recs[b.first]
	if !peek && r.ctl != nil && len(r.ctl.files) > 0 && !flight {
		return false, errFlight
	}
	res.N = dst.CopyIn(r.data)
	res.From = r.from
	if s.oriented() {
		res.Flags |= abi.MSG_EOR
	}
	if res.N < len(r.data) {
		res.Flags |= abi.MSG_TRUNC
		if flags&abi.MSG_TRUNC != 0 {
			res.N = len(r.data)
		}
	}
	if r.ctl != nil {
		res.Cred = r.ctl.cred
	}
	if !peek {
		if r.ctl != nil {
			s.handOver(res, r.ctl)
		}
		b.popLocked()
	}
	return false, nil
}

// handOver gives the files of a message to who receives it.
func (s *Socket) handOver(res *Received, ctl *control) {
	if len(ctl.files) > 0 {
		s.d.landLocked(s, ctl)
		res.Files, ctl.files = ctl.files, nil
	}
}
