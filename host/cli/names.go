package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// octal reads permissions.
func octal(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > abi.ALLPERMS {
		return 0, usagef("mode %q is not octal, 0 to 7777", s)
	}
	return uint32(n), nil
}

func parseTime(s string) (abi.Timespec, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return abi.TimespecOf(t), nil
		}
	}
	return abi.Timespec{}, usagef("time %q is not written as in 2006-01-02T15:04:05Z", s)
}

var mkdirVerb = &verb{
	name: "mkdir", group: groupFiles, synopsis: []string{"[-p] [-m MODE] DIRECTORY ..."}, min: 1, max: -1,
	short:    "make directories",
	long:     []string{"Makes each DIRECTORY. With -p, the ones above it as well, and one that is there already is no error."},
	examples: []example{{"rumpus mkdir -p /a/b/c", "Three directories."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		parents := fs.BoolP("parents", "p", false, "make the directories above as well")
		mode := fs.StringP("mode", "m", "", "exactly these permissions, in octal, instead of 0777 less the umask: `MODE`")
		return func(ctx context.Context, c *call, args []string) error {
			m := uint32(0o777)
			if *mode != "" {
				var err error
				if m, err = octal(*mode); err != nil {
					return err
				}
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args, func(p string) error {
				if *parents {
					if st, err := k.Stat(ctx, p); err == nil && st.Type == abi.VDIR {
						return nil
					}
					if up := path.Dir(strings.TrimRight(p, "/")); up != "." && up != "/" {
						if err := k.MkdirAll(ctx, up, 0o777); err != nil {
							return err
						}
					}
				}
				if err := k.Mkdir(ctx, p, m); err != nil {
					return err
				}
				if *mode != "" {
					return k.Chmod(ctx, p, m)
				}
				return nil
			})
		}
	},
}

var rmVerb = &verb{
	name: "rm", group: groupFiles, synopsis: []string{"[-f] [-r] [-v] FILE ..."}, min: 1, max: -1,
	short:    "remove files",
	long:     []string{"Removes each FILE; with -r, directories and what is in them, without following symbolic links. There is no question before anything. The root directory and a FILE that ends in . or .. are refused."},
	examples: []example{{"rumpus rm -rf /tmp/build", "A tree, if it is there."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		recurse := fs.BoolP("recursive", "r", false, "directories and what is in them (-R is the same)")
		fs.BoolVarP(recurse, "Recursive", "R", false, "")
		fs.MarkHidden("Recursive")
		force := fs.BoolP("force", "f", false, "a missing file is no error")
		verbose := fs.BoolP("verbose", "v", false, "name what is removed")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			r := &remover{c: c, k: k, verbose: *verbose, recurse: *recurse}
			return c.each(ctx, args, func(p string) error {
				clean := path.Clean("/" + p)
				if last := base(p); clean == "/" || last == "." || last == ".." {
					return fmt.Errorf("rm %s: %w", p, abi.EINVAL)
				}
				err := r.remove(ctx, p, abi.VNON, 0)
				if *force && errors.Is(err, abi.ENOENT) {
					return nil
				}
				return err
			})
		}
	},
}

type remover struct {
	c       *call
	k       *rumpclient.Client
	verbose bool
	recurse bool
}

// remove removes p, of which the type is known or VNON.
func (r *remover) remove(ctx context.Context, p string, t abi.VType, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("rm %s: more than %d directories deep: %w", p, maxDepth, abi.ENAMETOOLONG)
	}
	if t == abi.VNON || t == abi.VBAD {
		st, err := r.k.Lstat(ctx, p)
		if err != nil {
			return err
		}
		t = st.Type
	}
	if t != abi.VDIR {
		err := r.k.Unlink(ctx, p)
		return r.said(p, err)
	}
	if !r.recurse {
		return fmt.Errorf("rm %s: %w", p, abi.EISDIR)
	}
	ents, err := r.k.ReadDir(ctx, p)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if !safeName(e.Name) {
			return fmt.Errorf("rm %s: it has an entry named %q: %w", p, e.Name, abi.EINVAL)
		}
		err := r.remove(ctx, join(p, e.Name), e.Type, depth+1)
		if err != nil && (ctx.Err() != nil || exitCode(err) == exitNoKernel) {
			return err
		}
		if !errors.Is(err, abi.ENOENT) {
			r.c.fail(err)
		}
	}
	return r.said(p, r.k.Rmdir(ctx, p))
}

func (r *remover) said(p string, err error) error {
	if err == nil && r.verbose {
		r.c.printf("%s\n", r.c.show(p))
	}
	return err
}

// safeName reports whether a directory entry's name is one.
func safeName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

var rmdirVerb = &verb{
	name: "rmdir", group: groupFiles, synopsis: []string{"[-p] DIRECTORY ..."}, min: 1, max: -1,
	short:    "remove empty directories",
	long:     []string{"Removes each DIRECTORY, which must be empty."},
	examples: []example{{"rumpus rmdir -p a/b", "Remove a/b, then a."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		parents := fs.BoolP("parents", "p", false, "then the directories above as well")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args, func(p string) error {
				for {
					if err := k.Rmdir(ctx, p); err != nil || !*parents {
						return err
					}
					p = path.Dir(strings.TrimRight(p, "/"))
					if p == "." || p == "/" {
						return nil
					}
				}
			})
		}
	},
}

// destination is where src goes under dst: into it if it is a directory.
func destination(ctx context.Context, k *rumpclient.Client, src, dst string) (to string, isDir bool) {
	if st, err := k.Stat(ctx, dst); err == nil && st.Type == abi.VDIR {
		return join(dst, base(src)), true
	}
	return dst, false
}

// intoTarget calls f for each source with where it goes; the last operand is the
// target, which must be a directory if there are several sources.
func intoTarget(ctx context.Context, c *call, k *rumpclient.Client, args []string, f func(src, to string) error) error {
	srcs, dst := args[:len(args)-1], args[len(args)-1]
	return c.each(ctx, srcs, func(src string) error {
		to, isDir := destination(ctx, k, src, dst)
		if len(srcs) > 1 && !isDir {
			return fmt.Errorf("%s: %w", dst, abi.ENOTDIR)
		}
		return f(src, to)
	})
}

var lnVerb = &verb{
	name: "ln", group: groupFiles, synopsis: []string{"[-f] [-s] SOURCE [TARGET]", "[-f] [-s] SOURCE ... DIRECTORY"}, min: 1, max: -1,
	short:    "make links",
	long:     []string{"Makes TARGET a further name of SOURCE, or with -s a symbolic link with the text SOURCE. Without TARGET, the link is in the root directory and has SOURCE's name."},
	examples: []example{{"rumpus ln -s ../share/zoneinfo/UTC /etc/localtime", "A symbolic link."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		sym := fs.BoolP("symbolic", "s", false, "a symbolic link")
		force := fs.BoolP("force", "f", false, "remove an existing target first")
		return func(ctx context.Context, c *call, args []string) error {
			if len(args) == 1 {
				args = append(args, "/"+base(args[0]))
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return intoTarget(ctx, c, k, args, func(src, to string) error {
				make := func() error {
					if *sym {
						return k.Symlink(ctx, src, to)
					}
					return k.Link(ctx, src, to)
				}
				err := make()
				if *force && errors.Is(err, abi.EEXIST) {
					if err := k.Unlink(ctx, to); err != nil {
						return err
					}
					err = make()
				}
				return err
			})
		}
	},
}
