package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// linkKey is a file with several names that is copied into a tree.
type linkKey struct {
	fileKey
	kernel bool // it is the kernel's
	dst    tree
}

// linkJob is a further name of a file that is copied.
type linkJob struct {
	t         tree
	first, to string
}

// again notes a file with several names. If one of them is copied already, it
// has this one made as a link, in the end, and answers true.
func (cp *copier) again(src, dst tree, from, to string, st *abi.Stat) bool {
	if !cp.f.archive || st.Nlink < 2 {
		return false
	}
	key := linkKey{keyOf(st), src.kernel(), dst}
	first, ok := cp.names[key]
	if !ok {
		cp.names[key] = to
		return false
	}
	cp.say(src, dst, from, to)
	cp.links = append(cp.links, linkJob{dst, first, to})
	return true
}

// link makes a further name.
func (cp *copier) link(ctx context.Context, l linkJob) error {
	err := cp.replace(ctx, l.t, l.to, func() error { return l.t.link(ctx, l.first, l.to) })
	if errors.Is(err, errKept) {
		return nil
	}
	if err == nil {
		cp.files.Add(1)
	}
	return err
}

// errKept says that a file was there and is left alone.
var errKept = errors.New("kept")

// replace makes something at to, in place of what is there if that is no
// directory. With -n what is there stays.
func (cp *copier) replace(ctx context.Context, t tree, to string, make func() error) error {
	err := make()
	if !errors.Is(err, abi.EEXIST) {
		return err
	}
	if cp.f.keep {
		return errKept
	}
	if have, serr := t.lstat(ctx, to); serr != nil || have.Type == abi.VDIR {
		return err
	}
	if err := t.remove(ctx, to); err != nil {
		return err
	}
	return make()
}

// special copies what has no contents: a symbolic link, and with -a a fifo or a
// device node.
func (cp *copier) special(ctx context.Context, src, dst tree, from, to string, st *abi.Stat) error {
	var make func() error
	switch st.Type {
	case abi.VLNK:
		target, err := src.readlink(ctx, from)
		if err != nil {
			return err
		}
		make = func() error { return dst.symlink(ctx, target, to) }
	case abi.VFIFO, abi.VCHR, abi.VBLK:
		if !cp.f.archive {
			return fmt.Errorf("%s: a %v is not copied: %w", src.name(from), st.Type, abi.EOPNOTSUPP)
		}
		make = func() error { return dst.mknod(ctx, to, st) }
	default:
		return fmt.Errorf("%s: a %v is not copied: %w", src.name(from), st.Type, abi.EOPNOTSUPP)
	}
	cp.say(src, dst, from, to)
	err := cp.replace(ctx, dst, to, make)
	if errors.Is(err, errKept) {
		return nil
	}
	if err == nil {
		cp.files.Add(1)
		if cp.f.preserve {
			err = dst.setattr(ctx, to, st, true)
		}
	}
	return err
}

// xattrs are the extended attributes of a file.
type xattrs interface {
	// eachXattr calls f for every attribute. A file system that has none is no
	// error.
	eachXattr(ctx context.Context, f func(name string, value []byte) error) error
	setXattr(ctx context.Context, name string, value []byte) error
}

// copyXattrs copies the extended attributes: all of them within the kernel, and
// between kernel and host those of users.
func copyXattrs(ctx context.Context, in, out xattrs, src, dst tree, from string) error {
	all := src.kernel() && dst.kernel()
	err := in.eachXattr(ctx, func(name string, value []byte) error {
		if !all && !strings.HasPrefix(name, "user.") {
			return nil
		}
		if err := out.setXattr(ctx, name, value); err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", src.name(from), err)
	}
	return err
}

// file copies the contents of a file.
func (cp *copier) file(ctx context.Context, j job) (err error) {
	in, err := j.src.open(ctx, j.from)
	if err != nil {
		return err
	}
	defer in.close(ctx)
	// The attributes are those of what was opened, which may have changed.
	if j.st, err = in.stat(ctx); err != nil {
		return err
	}
	if j.mustBeFile && j.st.Type != abi.VREG {
		return fmt.Errorf("%s: it is a %v now: %w", j.src.name(j.from), j.st.Type, abi.EFTYPE)
	}
	if j.st.Type == abi.VDIR {
		return fmt.Errorf("%s: %w", j.src.name(j.from), abi.EISDIR)
	}
	how := createAny
	if cp.f.keep {
		how = createNew
	}
	out, fresh, err := j.dst.create(ctx, j.to, j.st.Mode&0o777, how)
	if cp.f.keep && errors.Is(err, abi.EEXIST) {
		return nil
	}
	if err != nil && cp.f.force && !errors.Is(err, abi.ENOENT) && exitCode(err) == exitRefused {
		if rerr := j.dst.remove(ctx, j.to); rerr != nil {
			return err
		}
		out, fresh, err = j.dst.create(ctx, j.to, j.st.Mode&0o777, createNew)
	}
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.close(ctx); err == nil {
			err = cerr
		}
	}()
	if err := cp.data(ctx, in, out, &j.st); err != nil {
		return err
	}
	cp.files.Add(1)
	if cp.f.archive {
		cp.fail(copyXattrs(ctx, in.(xattrs), out.(xattrs), j.src, j.dst, j.from))
	}
	if j.st.Type == abi.VREG && (fresh || cp.f.preserve) {
		return out.setattr(ctx, &j.st, cp.f.preserve)
	}
	return nil
}

// data copies bytes; holes of a sparse file stay holes.
func (cp *copier) data(ctx context.Context, in input, out output, st *abi.Stat) error {
	if st.Type != abi.VREG || st.Bytes >= st.Size {
		return cp.extent(ctx, in, out, 0, -1)
	}
	for off := int64(0); off < st.Size; {
		start, end := in.data(ctx, off, st.Size)
		if start >= st.Size {
			break
		}
		if err := cp.extent(ctx, in, out, start, end); err != nil {
			return err
		}
		off = end
	}
	return out.truncate(ctx, st.Size)
}

// pumpFrom is the length from which reading and writing go on beside each other.
const pumpFrom = 4 * bufSize

// extent copies from off up to end, or to the end of the file if end is -1.
func (cp *copier) extent(ctx context.Context, in input, out output, off, end int64) error {
	pos, wpos := off, off
	read := func(b []byte) (int, error) {
		if end >= 0 {
			b = b[:min(int64(len(b)), end-pos)]
		}
		if len(b) == 0 {
			return 0, nil
		}
		n, err := in.readAt(ctx, b, pos)
		pos += int64(n)
		return n, err
	}
	write := func(b []byte) error {
		err := out.writeAt(ctx, b, wpos)
		wpos += int64(len(b))
		cp.bytes.Add(int64(len(b)))
		return err
	}
	buf := cp.bufs.Get().([]byte)
	defer cp.bufs.Put(buf)
	for {
		n, err := read(buf)
		if err != nil || n == 0 {
			return err
		}
		if err := write(buf[:n]); err != nil {
			return err
		}
		if wpos-off >= pumpFrom {
			break
		}
	}
	return pump(bufSize, func(b []byte) (int, error) {
		n, err := read(b)
		if n == 0 && err == nil {
			err = io.EOF
		}
		return n, err
	}, write)
}

// progress shows how far it has come, from the first second on. The function
// that it gives ends this.
func (cp *copier) progress() func() {
	if cp.c.quiet || !isTerminal(cp.c.stderr) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		begin, shown := time.Now(), false
		tick := time.NewTicker(time.Second / 4)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(cp.c.stderr, "\r\033[K")
				}
				return
			case <-tick.C:
			}
			if d := time.Since(begin); d > time.Second {
				shown = true
				n := cp.bytes.Load()
				cp.c.mu.Lock()
				fmt.Fprintf(cp.c.stderr, "\r\033[K%d files, %s, %s/s", cp.files.Load(), human(uint64(n)), human(uint64(float64(n)/d.Seconds())))
				cp.c.mu.Unlock()
			}
		}
	}()
	return func() { close(quit); <-done }
}
