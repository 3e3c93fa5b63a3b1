package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var mvVerb = &verb{
	name: "mv", group: groupFiles, synopsis: []string{"[-n] [-v] SOURCE TARGET", "[-n] [-v] SOURCE ... DIRECTORY"}, min: 2, max: -1,
	short: "rename files",
	long: []string{
		"Renames SOURCE to TARGET, or into DIRECTORY. An existing file of that name is replaced.",
		"From one mount to another, SOURCE is copied as by cp -a and then removed. What cannot be copied whole leaves SOURCE and TARGET as they were.",
	},
	examples: []example{{"rumpus mv /a /b", "a becomes b."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		no := fs.BoolP("no-replace", "n", false, "an existing target is an error")
		verbose := fs.BoolP("verbose", "v", false, "name what is renamed")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			m := mover{c: c, k: k}
			if *no {
				m.flags = abi.RENAME_NOREPLACE
			}
			return intoTarget(ctx, c, k, args, func(src, to string) error {
				err := m.rename(ctx, src, to)
				if errors.Is(err, abi.EXDEV) {
					err = m.across(ctx, src, to)
				}
				if err == nil && *verbose {
					c.printf("%s -> %s\n", c.show(src), c.show(to))
				}
				return err
			})
		}
	},
}

// mover is the work of one mv.
type mover struct {
	c     *call
	k     *rumpclient.Client
	flags int // RENAME_NOREPLACE or 0
}

func (m mover) rename(ctx context.Context, from, to string) error {
	var err error
	if m.flags == 0 {
		err = m.k.Rename(ctx, from, to)
	} else {
		err = m.k.Renameat2(ctx, abi.AT_FDCWD, from, abi.AT_FDCWD, to, m.flags)
	}
	if e, ok := errors.AsType[*rumpclient.Error](err); ok {
		e.Path += " to " + to
	}
	return err
}

// across moves from one mount to another. The copy is made under a name of its
// own beside the target and renamed when it is whole, so that nobody sees half
// of it.
func (m mover) across(ctx context.Context, from, to string) error {
	st, err := m.k.Lstat(ctx, from)
	if err != nil {
		return err
	}
	if err := m.mayReplace(ctx, to, &st); err != nil {
		return err
	}
	switch st.Type {
	case abi.VDIR, abi.VREG, abi.VLNK, abi.VFIFO:
	default:
		return fmt.Errorf("%s: a %v is not moved to another mount: %w", from, st.Type, abi.EOPNOTSUPP)
	}
	// New files get exactly the mode they are created with.
	if _, err := m.k.Umask(ctx, 0); err != nil {
		return err
	}
	from = strings.TrimRight(from, "/")
	tmp := join(path.Dir(strings.TrimRight(to, "/")), ".mv-"+rand.Text())
	t := &kernelTree{m.k}
	whole, err := newCopier(m.c, cpFlags{preserve: true, recurse: true, archive: true}).run(ctx, []operand{{t, t, from, tmp}})
	r := &remover{c: m.c, k: m.k, recurse: true}
	if err == nil && whole {
		if err = m.rename(ctx, tmp, strings.TrimRight(to, "/")); err == nil {
			return r.remove(ctx, from, abi.VNON, 0)
		}
	}
	// The user may have given up; what was begun is taken away nevertheless.
	rest := r.remove(context.WithoutCancel(ctx), tmp, abi.VNON, 0)
	switch {
	case err != nil:
		return err
	case !whole:
		return exitError(exitRefused) // told already
	case errors.Is(rest, abi.ENOENT):
		return nil
	}
	return rest
}

// mayReplace says whether what st describes may take the place of to, as
// rename(2) would.
func (m mover) mayReplace(ctx context.Context, to string, st *abi.Stat) error {
	have, err := m.k.Lstat(ctx, to)
	switch {
	case errors.Is(err, abi.ENOENT):
		return nil
	case err != nil:
		return err
	case m.flags&abi.RENAME_NOREPLACE != 0:
		return fmt.Errorf("rename to %s: %w", to, abi.EEXIST)
	case have.Type == abi.VDIR && st.Type != abi.VDIR:
		return fmt.Errorf("rename to %s: %w", to, abi.EISDIR)
	case have.Type != abi.VDIR && st.Type == abi.VDIR:
		return fmt.Errorf("rename to %s: %w", to, abi.ENOTDIR)
	case have.Type == abi.VDIR:
		ents, err := m.k.ReadDir(ctx, to)
		if err == nil && len(ents) > 0 {
			err = fmt.Errorf("rename to %s: %w", to, abi.ENOTEMPTY)
		}
		return err
	}
	return nil
}
