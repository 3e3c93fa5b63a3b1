package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var cpVerb = &verb{
	name: "cp", group: groupFiles, synopsis: []string{"[-prv] SOURCE TARGET", "[-prv] SOURCE ... DIRECTORY"}, min: 2, max: -1,
	short: "copy files into, out of and within the kernel",
	long: []string{
		"Copies SOURCE to TARGET, or into DIRECTORY. A path of the kernel is written kernel:/path, all others are the host's; at least one side is the kernel's. (A file of the host whose name begins with kernel: is written ./kernel:...)",
		"Permissions are kept, set-id bits only with -p and never on the host. With -r, directories are copied with all that is in them: symbolic links as links, holes in files as holes; a file with several names becomes several files. Devices, sockets and fifos in a tree are named and left out. What is copied to the host stays below TARGET, whatever symbolic links there are in the tree.",
		"When it takes longer than a second and standard error is a terminal, cp shows there how far it has come.",
	},
	examples: []example{
		{"rumpus cp -r . kernel:/src", "Take a tree into the kernel."},
		{"rumpus cp -p kernel:/etc/motd kernel:/etc/hosts .", "Two files back to the host, with their times."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f cpFlags
		fs.BoolVarP(&f.preserve, "preserve", "p", false, "owners, all permissions and times as well")
		fs.BoolVarP(&f.recurse, "recursive", "r", false, "directories and what is in them (-R is the same)")
		fs.BoolVarP(&f.recurse, "Recursive", "R", false, "")
		fs.MarkHidden("Recursive")
		fs.BoolVarP(&f.verbose, "verbose", "v", false, "name what is copied")
		return func(ctx context.Context, c *call, args []string) error { return cp(ctx, c, f, args) }
	},
}

type cpFlags struct{ preserve, recurse, verbose bool }

// cpWorkers is how many files are copied at once.
const cpWorkers = 8

// kernelSide cuts the prefix that marks a path of the kernel.
func kernelSide(arg string) (p string, kernel bool) {
	p, kernel = strings.CutPrefix(arg, "kernel:")
	if kernel && p == "" {
		p = "/"
	}
	return p, kernel
}

// copier is the work of one cp.
type copier struct {
	c     *call
	f     cpFlags
	dest  abi.Stat // the directory copied into, so that it is not copied into itself
	jobs  chan job
	dirs  []dirDone // in the order they were made; the walker's only
	roots []tree    // to be closed at the end; the walker's only
	bufs  sync.Pool

	failed       atomic.Bool // something was not copied
	files, bytes atomic.Int64
}

// job is a regular file to copy.
type job struct {
	src, dst   tree
	from, to   string
	st         abi.Stat
	mustBeFile bool
}

// dirDone is a directory whose attributes are set when its files are there.
type dirDone struct {
	t     tree
	path  string
	st    abi.Stat
	fresh bool
}

func cp(ctx context.Context, c *call, f cpFlags, args []string) error {
	srcs, dstArg := args[:len(args)-1], args[len(args)-1]
	dst, kernelDst := kernelSide(dstArg)
	for _, s := range args {
		if s == "" {
			return usagef("a path is empty")
		}
	}
	for _, s := range srcs {
		if _, k := kernelSide(s); !k && !kernelDst {
			return usagef("neither %s nor %s is a path of the kernel, kernel:/path", s, dstArg)
		}
	}
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	// New files get exactly the mode they are created with.
	if _, err := k.Umask(ctx, 0); err != nil {
		return err
	}
	host, kern := tree(&hostTree{}), tree(&kernelTree{k})
	pick := func(kernel bool) tree {
		if kernel {
			return kern
		}
		return host
	}
	to := pick(kernelDst)
	dstStat, err := to.stat(ctx, dst)
	isDir := err == nil && dstStat.Type == abi.VDIR
	if err != nil && !errors.Is(err, abi.ENOENT) {
		return err
	}
	if !isDir && (len(srcs) > 1 || strings.HasSuffix(dst, "/") && !f.recurse) {
		return fmt.Errorf("%s: %w", dstArg, abi.ENOTDIR)
	}
	var ops []operand
	for _, s := range srcs {
		from, kernel := kernelSide(s)
		target := dst
		if isDir {
			name := base(from)
			if name == "." || name == ".." || name == "/" {
				name = "" // its contents
			}
			target = join(dst, name)
		}
		ops = append(ops, operand{src: pick(kernel), dst: to, from: from, to: target})
	}
	_, err = newCopier(c, f).run(ctx, ops)
	return err
}

// operand is what the user named, and where it goes.
type operand struct {
	src, dst tree
	from, to string
}

func newCopier(c *call, f cpFlags) *copier {
	cp := &copier{c: c, f: f, jobs: make(chan job)}
	cp.bufs.New = func() any { return make([]byte, bufSize) }
	return cp
}

// run copies, once. It tells of what cannot be copied and goes on; whole reports
// whether there was nothing of the kind. An error is what ended everything.
func (cp *copier) run(ctx context.Context, ops []operand) (whole bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := cp.progress()
	var workers sync.WaitGroup
	for range cpWorkers {
		workers.Go(func() {
			for j := range cp.jobs {
				cp.report(ctx, cancel, cp.file(ctx, j))
			}
		})
	}
	for _, o := range ops {
		cp.report(ctx, cancel, cp.operand(ctx, o.src, o.dst, o.from, o.to))
		if ctx.Err() != nil {
			break
		}
	}
	close(cp.jobs)
	workers.Wait()
	for i := len(cp.dirs) - 1; i >= 0 && ctx.Err() == nil; i-- {
		d := cp.dirs[i]
		if d.fresh || cp.f.preserve {
			cp.report(ctx, cancel, d.t.setattr(ctx, d.path, &d.st, cp.f.preserve))
		}
	}
	for _, t := range cp.roots {
		t.close()
	}
	stop()
	return !cp.failed.Load(), context.Cause(ctx)
}

// fail tells of what could not be copied.
func (cp *copier) fail(err error) {
	if err != nil {
		cp.failed.Store(true)
		cp.c.fail(err)
	}
}

// report tells of an error and, if it is one that no other file can escape, ends
// everything.
func (cp *copier) report(ctx context.Context, cancel func(error), err error) {
	switch {
	case err == nil || ctx.Err() != nil:
	case exitCode(err) == exitNoKernel:
		cancel(err)
	default:
		cp.fail(err)
	}
}

// operand copies what the user named. It follows a symbolic link unless -r.
func (cp *copier) operand(ctx context.Context, src, dst tree, from, to string) error {
	get := src.stat
	if cp.f.recurse {
		get = src.lstat
	}
	st, err := get(ctx, from)
	if err != nil {
		return err
	}
	if err := cp.notSame(ctx, src, dst, from, to, &st); err != nil {
		return err
	}
	switch {
	case st.Type == abi.VDIR && !cp.f.recurse:
		return fmt.Errorf("%s: %w, and -r is not given", src.name(from), abi.EISDIR)
	case st.Type == abi.VDIR:
		to = strings.TrimRight(to, "/")
		if src.kernel() == dst.kernel() && inside(ctx, dst, to, &st) {
			return fmt.Errorf("%s: cannot copy a directory into itself, %s: %w", src.name(from), dst.name(to), abi.EINVAL)
		}
		return cp.top(ctx, src, dst, from, to, &st)
	case st.Type == abi.VLNK:
		return cp.symlink(ctx, src, dst, from, to)
	}
	cp.say(src, dst, from, to)
	return cp.submit(ctx, job{src: src, dst: dst, from: from, to: to, st: st})
}

// notSame refuses to copy a file onto itself.
func (cp *copier) notSame(ctx context.Context, src, dst tree, from, to string, st *abi.Stat) error {
	if src.kernel() != dst.kernel() {
		return nil
	}
	if have, err := dst.stat(ctx, to); err == nil && have.Dev == st.Dev && have.Fileid == st.Fileid {
		return fmt.Errorf("%s and %s are the same file: %w", src.name(from), dst.name(to), abi.EINVAL)
	}
	return nil
}

// inside reports whether to is, or would be, below the directory that st
// describes. What cannot be looked at is not; entry meets it if it is.
func inside(ctx context.Context, t tree, to string, st *abi.Stat) bool {
	up := path.Dir(to)
	for range maxDepth {
		have, err := t.stat(ctx, up)
		if err != nil {
			return false
		}
		if have.Dev == st.Dev && have.Fileid == st.Fileid {
			return true
		}
		up = join(up, "..")
		if above, err := t.stat(ctx, up); err != nil || above.Dev == have.Dev && above.Fileid == have.Fileid {
			return false
		}
	}
	return false
}

// top copies a directory that the user named: below it, the destination is
// confined to itself.
func (cp *copier) top(ctx context.Context, src, dst tree, from, to string, st *abi.Stat) error {
	if to == "" {
		to = "/"
	}
	fresh, err := cp.mkdir(ctx, dst, to, st)
	if err != nil {
		return err
	}
	if cp.dest, err = dst.stat(ctx, to); err != nil {
		return err
	}
	cp.dirs = append(cp.dirs, dirDone{dst, to, *st, fresh})
	sub, err := dst.confined(to)
	if err != nil {
		return err
	}
	cp.roots = append(cp.roots, sub)
	return cp.contents(ctx, src, sub, from, to, 0)
}

// mkdir makes a directory that can be filled, or takes one that is there.
func (cp *copier) mkdir(ctx context.Context, dst tree, to string, st *abi.Stat) (fresh bool, err error) {
	err = dst.mkdir(ctx, to, st.Mode&0o777|0o700)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, abi.EEXIST) {
		if have, serr := dst.stat(ctx, to); serr == nil && have.Type == abi.VDIR {
			return false, nil
		}
	}
	return false, err
}

// contents copies what is in a directory.
func (cp *copier) contents(ctx context.Context, src, dst tree, from, to string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep: %w", src.name(from), maxDepth, abi.ENAMETOOLONG)
	}
	ents, err := src.readdir(ctx, from)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !safeName(e.Name) {
			cp.fail(fmt.Errorf("%s: it has an entry named %q: %w", src.name(from), e.Name, abi.EINVAL))
			continue
		}
		err := cp.entry(ctx, src, dst, join(from, e.Name), join(to, e.Name), depth)
		if err != nil && exitCode(err) == exitNoKernel {
			return err
		}
		if ctx.Err() == nil {
			cp.fail(err)
		}
	}
	return nil
}

func (cp *copier) entry(ctx context.Context, src, dst tree, from, to string, depth int) error {
	st, err := src.lstat(ctx, from)
	if err != nil {
		return err
	}
	switch st.Type {
	case abi.VDIR:
		if src.kernel() == dst.kernel() && st.Dev == cp.dest.Dev && st.Fileid == cp.dest.Fileid {
			return fmt.Errorf("%s: cannot copy a directory into itself: %w", src.name(from), abi.EINVAL)
		}
		cp.say(src, dst, from, to)
		fresh, err := cp.mkdir(ctx, dst, to, &st)
		if err != nil {
			return err
		}
		cp.dirs = append(cp.dirs, dirDone{dst, to, st, fresh})
		return cp.contents(ctx, src, dst, from, to, depth+1)
	case abi.VLNK:
		return cp.symlink(ctx, src, dst, from, to)
	case abi.VREG:
		cp.say(src, dst, from, to)
		return cp.submit(ctx, job{src: src, dst: dst, from: from, to: to, st: st, mustBeFile: true})
	}
	return fmt.Errorf("%s: a %v is not copied: %w", src.name(from), st.Type, abi.EOPNOTSUPP)
}

func (cp *copier) say(src, dst tree, from, to string) {
	if cp.f.verbose {
		cp.c.printf("%s -> %s\n", cp.c.show(src.name(from)), cp.c.show(dst.name(to)))
	}
}

func (cp *copier) submit(ctx context.Context, j job) error {
	select {
	case cp.jobs <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (cp *copier) symlink(ctx context.Context, src, dst tree, from, to string) error {
	target, err := src.readlink(ctx, from)
	if err != nil {
		return err
	}
	cp.say(src, dst, from, to)
	err = dst.symlink(ctx, target, to)
	if errors.Is(err, abi.EEXIST) {
		if have, serr := dst.lstat(ctx, to); serr != nil || have.Type == abi.VDIR {
			return err
		}
		if err := dst.remove(ctx, to); err != nil {
			return err
		}
		err = dst.symlink(ctx, target, to)
	}
	if err == nil && cp.f.preserve {
		var st abi.Stat
		if st, err = src.lstat(ctx, from); err == nil {
			err = dst.setattr(ctx, to, &st, true)
		}
	}
	cp.files.Add(1)
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
	out, fresh, err := j.dst.create(ctx, j.to, j.st.Mode&0o777)
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

// kernelTree is the kernel's side of a copy.
type kernelTree struct{ k *rumpclient.Client }

func (t *kernelTree) kernel() bool         { return true }
func (t *kernelTree) name(p string) string { return "kernel:" + p }
func (t *kernelTree) lstat(ctx context.Context, p string) (abi.Stat, error) {
	return t.k.Lstat(ctx, p)
}
func (t *kernelTree) stat(ctx context.Context, p string) (abi.Stat, error) { return t.k.Stat(ctx, p) }
func (t *kernelTree) readdir(ctx context.Context, p string) ([]abi.Dirent, error) {
	return t.k.ReadDir(ctx, p)
}
func (t *kernelTree) readlink(ctx context.Context, p string) (string, error) {
	return t.k.Readlink(ctx, p)
}
func (t *kernelTree) mkdir(ctx context.Context, p string, mode uint32) error {
	return t.k.Mkdir(ctx, path.Clean(p), mode)
}
func (t *kernelTree) symlink(ctx context.Context, target, p string) error {
	return t.k.Symlink(ctx, target, p)
}
func (t *kernelTree) remove(ctx context.Context, p string) error { return t.k.Unlink(ctx, p) }
func (t *kernelTree) confined(string) (tree, error)              { return t, nil }
func (t *kernelTree) close()                                     {}
