package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var cpVerb = &verb{
	name: "cp", group: groupFiles, synopsis: []string{"[-R [-H | -L | -P]] [-afnprv] SOURCE TARGET", "[-R [-H | -L | -P]] [-afnprv] SOURCE ... DIRECTORY"}, min: 2, max: -1,
	short: "copy files into, out of and within the kernel",
	long: []string{
		"Copies SOURCE to TARGET, or into DIRECTORY. A path of the kernel is written kernel:/path, all others are the host's; at least one side is the kernel's. (A file of the host whose name begins with kernel: is written ./kernel:...)",
		"With -R, directories are copied with all that is in them, symbolic links as links. Without it, a SOURCE that is a symbolic link is what it points to. A file that is there is emptied and filled again, and keeps its permissions; a directory that is there is filled further. Holes in files stay holes.",
		"Permissions are kept; -p keeps times, to the nanosecond, owners and set-id bits as well. An owner that cannot be kept, because only the super-user may give files away, is not told, but then the set-id bits go too. They never reach the host.",
		"Without -a, a file with several names becomes several files, and devices, sockets and fifos are named and left out. With -a, hard links among what is copied from one SOURCE stay, fifos and device nodes are made anew, and extended attributes go along: all within the kernel, those whose name begins with \"user.\" between kernel and host. Device nodes are not made on the host, and sockets nowhere. A device node that comes from the host keeps its numbers, which may mean another device in the kernel.",
		"What cannot be copied is told, the rest is copied, and the exit status is 1. What is copied to the host stays below TARGET, whatever symbolic links there are in the tree.",
		"When it takes longer than a second and standard error is a terminal, cp shows there how many files and bytes it has copied, and how fast.",
	},
	examples: []example{
		{"rumpus cp -r . kernel:/src", "Take a tree into the kernel."},
		{"rumpus cp -a kernel:/home ./backup", "A tree with all that belongs to it, to the host."},
		{"rumpus cp -p kernel:/etc/motd kernel:/etc/hosts .", "Two files back to the host, with their times."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f cpFlags
		fs.BoolVarP(&f.archive, "archive", "a", false, "everything, as it is: -RPp, hard links, fifos, device nodes and extended attributes")
		fs.BoolVarP(&f.force, "force", "f", false, "remove a TARGET that cannot be opened, and try again")
		operands := fs.BoolP("dereference-operands", "H", false, "with -R, follow symbolic links that are SOURCEs")
		links := fs.BoolP("dereference", "L", false, "follow all symbolic links")
		none := fs.BoolP("no-dereference", "P", false, "follow no symbolic links (the default with -R)")
		fs.BoolVarP(&f.keep, "no-clobber", "n", false, "leave files that are there alone, without a word")
		fs.BoolVarP(&f.preserve, "preserve", "p", false, "owners, all permissions and times as well")
		fs.BoolVarP(&f.recurse, "recursive", "R", false, "directories and what is in them (-r is the same)")
		fs.BoolVarP(&f.recurse, "Recursive", "r", false, "")
		fs.MarkHidden("Recursive")
		fs.BoolVarP(&f.verbose, "verbose", "v", false, "name what is copied")
		return func(ctx context.Context, c *call, args []string) error {
			if f.archive {
				f.recurse, f.preserve = true, true
			}
			switch {
			case *links && !*none:
				f.follow = followAll
			case *operands && !*none, !f.recurse && !*none:
				f.follow = followOperands
			}
			return cp(ctx, c, f, args)
		}
	},
}

type cpFlags struct {
	preserve, recurse, verbose, force, keep, archive bool
	follow                                           follow
}

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
	dirs  []dirDone          // in the order they were made; the walker's only
	roots []tree             // to be closed at the end; the walker's only
	above []fileKey          // the directories that the walker is in, with -L
	names map[linkKey]string // where files with several names went; the walker's only
	links []linkJob          // the other names; the walker's only
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
	src, t tree
	from   string
	path   string
	st     abi.Stat
	fresh  bool
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
	cp := &copier{c: c, f: f, jobs: make(chan job), names: make(map[linkKey]string)}
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
	for _, l := range cp.links {
		if ctx.Err() != nil {
			break
		}
		cp.report(ctx, cancel, cp.link(ctx, l))
	}
	for i := len(cp.dirs) - 1; i >= 0 && ctx.Err() == nil; i-- {
		d := cp.dirs[i]
		if d.fresh || cp.f.preserve {
			if cp.f.archive {
				cp.report(ctx, cancel, copyXattrs(ctx, d.src.xattrsOf(d.from), d.t.xattrsOf(d.path), d.src, d.t, d.from))
			}
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

// operand copies what the user named.
func (cp *copier) operand(ctx context.Context, src, dst tree, from, to string) error {
	get := src.stat
	if cp.f.follow == followNone {
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
	case st.Type != abi.VREG && (st.Type == abi.VLNK || cp.f.archive):
		return cp.special(ctx, src, dst, from, to, &st)
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
	cp.dirs = append(cp.dirs, dirDone{src, dst, from, to, *st, fresh})
	sub, err := dst.confined(to)
	if err != nil {
		return err
	}
	cp.roots = append(cp.roots, sub)
	return cp.contents(ctx, src, sub, from, to, st, 0)
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
func (cp *copier) contents(ctx context.Context, src, dst tree, from, to string, st *abi.Stat, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep: %w", src.name(from), maxDepth, abi.ENAMETOOLONG)
	}
	ents, err := src.readdir(ctx, from)
	if err != nil {
		return err
	}
	if cp.f.follow == followAll {
		key := keyOf(st)
		if slices.Contains(cp.above, key) {
			return fmt.Errorf("%s: the directory contains itself: %w", src.name(from), abi.ELOOP)
		}
		cp.above = append(cp.above, key)
		defer func() { cp.above = cp.above[:len(cp.above)-1] }()
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
	get := src.lstat
	if cp.f.follow == followAll {
		get = src.stat
	}
	st, err := get(ctx, from)
	if err != nil {
		return err
	}
	if st.Type != abi.VDIR && cp.again(src, dst, from, to, &st) {
		return nil
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
		cp.dirs = append(cp.dirs, dirDone{src, dst, from, to, st, fresh})
		return cp.contents(ctx, src, dst, from, to, &st, depth+1)
	case abi.VREG:
		cp.say(src, dst, from, to)
		return cp.submit(ctx, job{src: src, dst: dst, from: from, to: to, st: st, mustBeFile: true})
	}
	return cp.special(ctx, src, dst, from, to, &st)
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
