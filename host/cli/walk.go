package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// follow says which symbolic links a walk goes through: none (-P), those that
// are operands (-H), or all (-L).
type follow int

const (
	followNone follow = iota
	followOperands
	followAll
)

// entry is a file that a walk has come to.
type entry struct {
	path  string // as it is shown: the operand and the names below it
	name  string // the last of them; the operand's last name
	depth int    // 0 is the operand
	typ   abi.VType
	st    abi.Stat // valid if known
	known bool
}

// walker goes through trees of the kernel: find, du, tree.
//
// For each file pre is called before and post, if there is one, behind what is
// in it. What cannot be looked at is told and left out, and the walk goes on;
// an error of pre or post ends it.
type walker struct {
	c      *call
	k      *rumpclient.Client
	follow follow
	// oneFS keeps a walk from going into directories of other mounts than the
	// operand's.
	oneFS bool
	// sorted goes through directories by name, not in their own order.
	sorted bool
	// lazy leaves attributes out where the directory says the type; stat asks
	// for them.
	lazy bool
	// pre says whether to go into a directory.
	pre  func(ctx context.Context, e *entry) (descend bool, err error)
	post func(ctx context.Context, e *entry) error
	// failed, if there is one, is told of a directory that cannot be read.
	failed func(e *entry, err error)

	above []abi.Stat // the directories that the walk is in
}

// errQuit ends a walk, and all of it, without a failure.
var errQuit = errors.New("quit")

// fatal reports whether nothing more can be done after err.
func fatal(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || exitCode(err) == exitNoKernel)
}

// walk goes through the tree at p.
func (w *walker) walk(ctx context.Context, p string) error {
	e := entry{path: p, name: base(p)}
	if err := w.stat(ctx, &e); err != nil {
		return err
	}
	w.above = w.above[:0]
	return w.visit(ctx, &e, e.st.Dev)
}

// stat gets the attributes of e, which are those of a link's target if the walk
// follows it and there is one.
func (w *walker) stat(ctx context.Context, e *entry) error {
	if e.known {
		return nil
	}
	var err error
	if w.follow == followAll || w.follow == followOperands && e.depth == 0 {
		e.st, err = w.k.Stat(ctx, e.path)
		if errors.Is(err, abi.ENOENT) || errors.Is(err, abi.ELOOP) {
			e.st, err = w.k.Lstat(ctx, e.path)
		}
	} else {
		e.st, err = w.k.Lstat(ctx, e.path)
	}
	if err != nil {
		return err
	}
	e.typ, e.known = e.st.Type, true
	return nil
}

func (w *walker) visit(ctx context.Context, e *entry, dev abi.Fsid) error {
	descend, err := w.pre(ctx, e)
	if err != nil {
		return err
	}
	if e.typ == abi.VDIR && descend {
		err := w.inside(ctx, e, dev)
		if errors.Is(err, errQuit) || fatal(ctx, err) {
			return err
		}
		if err != nil {
			w.c.fail(err)
			if w.failed != nil {
				w.failed(e, err)
			}
		}
	}
	if w.post == nil {
		return nil
	}
	return w.post(ctx, e)
}

// inside goes through what is in a directory. Its errors are those of the
// directory itself, fatal ones, and errQuit.
func (w *walker) inside(ctx context.Context, e *entry, dev abi.Fsid) error {
	if e.depth >= maxDepth {
		return fmt.Errorf("%s: more than %d directories deep: %w", e.path, maxDepth, abi.ENAMETOOLONG)
	}
	if err := w.stat(ctx, e); err != nil {
		return err
	}
	if w.oneFS && e.st.Dev != dev {
		return nil
	}
	for _, up := range w.above {
		if up.Dev == e.st.Dev && up.Fileid == e.st.Fileid {
			return fmt.Errorf("%s: the directory contains itself: %w", e.path, abi.ELOOP)
		}
	}
	ents, err := w.k.ReadDir(ctx, e.path)
	if err != nil {
		return err
	}
	if w.sorted {
		slices.SortFunc(ents, func(a, b abi.Dirent) int { return cmp.Compare(a.Name, b.Name) })
	}
	w.above = append(w.above, e.st)
	defer func() { w.above = w.above[:len(w.above)-1] }()
	for i := range ents {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d := &ents[i]
		if !safeName(d.Name) {
			w.c.fail(fmt.Errorf("%s: it has an entry named %q: %w", e.path, d.Name, abi.EINVAL))
			continue
		}
		sub := entry{path: join(e.path, d.Name), name: d.Name, depth: e.depth + 1, typ: d.Type}
		if !w.lazy || d.Type == abi.VNON || d.Type == abi.VBAD || d.Type == abi.VDIR || d.Type == abi.VLNK && w.follow == followAll {
			if err := w.stat(ctx, &sub); err != nil {
				if fatal(ctx, err) {
					return err
				}
				if !errors.Is(err, abi.ENOENT) { // gone since it was listed
					w.c.fail(err)
				}
				continue
			}
		}
		if err := w.visit(ctx, &sub, dev); err != nil {
			if errors.Is(err, errQuit) || fatal(ctx, err) {
				return err
			}
			w.c.fail(err)
		}
	}
	return nil
}
