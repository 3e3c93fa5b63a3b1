package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var chmodVerb = &verb{
	name: "chmod", group: groupFiles, synopsis: []string{"[-R] MODE FILE ..."}, min: 2, max: -1,
	short: "change permissions",
	long: []string{
		"MODE is octal, or clauses such as u+x, go-w or a=rX, joined by commas, as in chmod(1). Without any of u, g, o and a, all three are meant; the umask does not count. Symbolic links met by -R are left alone. A MODE that begins with - stands behind --.",
	},
	examples: []example{{"rumpus chmod -R go-w,a+rX /www", "A tree that all can read."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		recurse := fs.BoolP("recursive", "R", false, "directories and what is in them")
		return func(ctx context.Context, c *call, args []string) error {
			change, err := parseMode(args[0])
			if err != nil {
				return err
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args[1:], func(p string) error {
				return walkAttr(ctx, c, k, p, *recurse, func(p string, st *abi.Stat) error {
					return k.Chmod(ctx, p, change(st.Mode&abi.ALLPERMS, st.Type == abi.VDIR))
				})
			})
		}
	},
}

// walkAttr calls f for p and, with recurse, all below it except symbolic links.
// The operand itself is followed if it is one.
func walkAttr(ctx context.Context, c *call, k *rumpclient.Client, p string, recurse bool, f func(p string, st *abi.Stat) error) error {
	st, err := k.Stat(ctx, p)
	if err != nil {
		return err
	}
	return walkAttrAt(ctx, c, k, p, &st, recurse, 0, f)
}

func walkAttrAt(ctx context.Context, c *call, k *rumpclient.Client, p string, st *abi.Stat, recurse bool, depth int, f func(p string, st *abi.Stat) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep: %w", p, maxDepth, abi.ENAMETOOLONG)
	}
	if err := f(p, st); err != nil || !recurse || st.Type != abi.VDIR {
		return err
	}
	ents, err := k.ReadDir(ctx, p)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if !safeName(e.Name) {
			continue
		}
		q := join(p, e.Name)
		st, err := k.Lstat(ctx, q)
		if err == nil && st.Type != abi.VLNK {
			err = walkAttrAt(ctx, c, k, q, &st, recurse, depth+1, f)
		}
		if err != nil && (ctx.Err() != nil || exitCode(err) == exitNoKernel) {
			return err
		}
		c.fail(err)
	}
	return nil
}

// parseMode reads the MODE of chmod: a function from old to new permissions.
func parseMode(s string) (func(mode uint32, dir bool) uint32, error) {
	if s != "" && strings.Trim(s, "01234567") == "" {
		m, err := octal(s)
		return func(uint32, bool) uint32 { return m }, err
	}
	bad := func() (func(uint32, bool) uint32, error) {
		return nil, usagef("mode %q is neither octal nor like u+x,go-w", s)
	}
	type clause struct {
		who  uint32 // mask of the permission bits it is about
		op   byte
		perm string
	}
	var all []clause
	for part := range strings.SplitSeq(s, ",") {
		i := strings.IndexAny(part, "+-=")
		if i < 0 {
			return bad()
		}
		var who uint32
		for _, w := range part[:i] {
			switch w {
			case 'u':
				who |= abi.S_ISUID | abi.S_IRWXU
			case 'g':
				who |= abi.S_ISGID | abi.S_IRWXG
			case 'o':
				who |= abi.S_ISVTX | abi.S_IRWXO
			case 'a':
				who |= abi.ALLPERMS
			default:
				return bad()
			}
		}
		if who == 0 {
			who = abi.ALLPERMS
		}
		for rest := part[i:]; rest != ""; {
			op := rest[0]
			end := strings.IndexAny(rest[1:], "+-=")
			perm := rest[1:]
			if end >= 0 {
				perm, rest = rest[1:1+end], rest[1+end:]
			} else {
				rest = ""
			}
			if strings.Trim(perm, "rwxXst") != "" {
				return bad()
			}
			all = append(all, clause{who, op, perm})
		}
	}
	return func(mode uint32, dir bool) uint32 {
		for _, cl := range all {
			var bits uint32
			for _, p := range cl.perm {
				switch p {
				case 'r':
					bits |= 0o444
				case 'w':
					bits |= 0o222
				case 'x':
					bits |= 0o111
				case 'X':
					if dir || mode&0o111 != 0 {
						bits |= 0o111
					}
				case 's':
					bits |= abi.S_ISUID | abi.S_ISGID
				case 't':
					bits |= abi.S_ISVTX
				}
			}
			bits &= cl.who
			switch cl.op {
			case '+':
				mode |= bits
			case '-':
				mode &^= bits
			case '=':
				mode = mode&^cl.who | bits
			}
		}
		return mode
	}, nil
}

var chownVerb = &verb{
	name: "chown", group: groupFiles, synopsis: []string{"[-R] [-h] UID[:GID] FILE ...", "[-R] [-h] :GID FILE ..."}, min: 2, max: -1,
	short:    "change owners",
	long:     []string{"Changes user and group of each FILE. Both are numbers, because the kernel has no database of users."},
	examples: []example{{"rumpus chown -R 1000:1000 /home/me", "A tree for user 1000."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		recurse := fs.BoolP("recursive", "R", false, "directories and what is in them")
		h := fs.BoolP("no-dereference", "h", false, "a symbolic link's own owner")
		return func(ctx context.Context, c *call, args []string) error {
			uid, gid, err := parseOwner(args[0])
			if err != nil {
				return err
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args[1:], func(p string) error {
				if *h && !*recurse {
					return k.Lchown(ctx, p, uid, gid)
				}
				return walkAttr(ctx, c, k, p, *recurse, func(p string, _ *abi.Stat) error { return k.Chown(ctx, p, uid, gid) })
			})
		}
	},
}

// parseOwner reads UID, UID:GID or :GID; -1 stands for what is left out.
func parseOwner(s string) (uid, gid int, err error) {
	u, g, both := strings.Cut(s, ":")
	uid, gid = -1, -1
	one := func(s, what string, id *int) {
		n, perr := strconv.ParseUint(s, 10, 32)
		if perr != nil || n == 1<<32-1 {
			err = errors.Join(err, usagef("%s %q is not a number", what, s))
			return
		}
		*id = int(n)
	}
	if u != "" || !both {
		one(u, "user", &uid)
	}
	if g != "" {
		one(g, "group", &gid)
	}
	if uid < 0 && gid < 0 && err == nil {
		err = usagef("owner %q names neither user nor group", s)
	}
	return uid, gid, err
}
