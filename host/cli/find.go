package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var findVerb = &verb{
	name: "find", group: groupFiles, synopsis: []string{"[-H | -L | -P] [-dsx] [FILE ...] [EXPRESSION]"}, max: -1,
	short: "go through trees of files and show those that match",
	long: []string{
		"Goes through the tree below each FILE (without one, the root directory) and evaluates EXPRESSION for each file in it, as find(1) does. EXPRESSION begins with the first operand that begins with - or is ( or !. Without an action in it, files for which it is true are printed.",
		"These are the tests. N is a number; +N stands for more than N, -N for less. Times are counted in whole units that have passed since find began.",
		"   -name PATTERN, -iname PATTERN   the last name matches, as in sh(1);\n" +
			"                                   -iname takes a for A\n" +
			"   -path PATTERN, -ipath PATTERN   the whole path matches; * matches /\n" +
			"   -type b|c|d|f|l|p|s             block or character device, directory,\n" +
			"                                   file, link, fifo, socket; also d,l\n" +
			"   -size N[ckMGT]                  the size, rounded up to whole units of\n" +
			"                                   512 bytes; c: bytes, k: 1024, ...\n" +
			"   -empty                          a file or directory without contents\n" +
			"   -newer FILE                     changed later than FILE; also -anewer\n" +
			"                                   and -cnewer, by atime and ctime\n" +
			"   -mtime N, -atime N, -ctime N    changed (read, attributes changed) N\n" +
			"                                   times 24 hours ago\n" +
			"   -mmin N, -amin N, -cmin N       the same in minutes\n" +
			"   -perm MODE, -MODE, /MODE        permissions are MODE, have all of\n" +
			"                                   its bits, any of its bits; MODE is\n" +
			"                                   octal or as in chmod\n" +
			"   -user UID, -group GID           the owner is (-uid N, -gid N)\n" +
			"   -links N, -inum N               number of links, file number\n" +
			"   -fstype TYPE                    on a mount of TYPE\n" +
			"   -true, -false                   always, never",
		"These are the actions. All but -prune are instead of the printing.",
		"   -print, -print0                 print the path, and a newline or NUL\n" +
			"   -ls                             file number, blocks of 512 bytes,\n" +
			"                                   and what ls -l shows\n" +
			"   -prune                          do not go into the directory\n" +
			"   -delete                         remove it; implies -depth\n" +
			"   -quit                           end everything",
		"These are always true and hold for all of the walk: -depth (what is in a directory before the directory, as -d), -xdev (stay on the mount of FILE, as -x), -mindepth N, -maxdepth N (FILE has depth 0).",
		"They are joined, in this order of strength, by ( ), ! (-not), -a (-and, or nothing) and -o (-or). What stands to the right is not evaluated when the left says it all. Programs are not run: pipe -print0 into xargs -0.",
		"With --json, -print, -print0 and -ls all give the same: an object with the attributes of the file.",
	},
	examples: []example{
		{"rumpus find /src -name '*.go' -newer /src/stamp", "What has changed since."},
		{"rumpus find / -x -type f -size +1M -ls", "The large files of the root file system."},
		{"rumpus find /src -name .git -prune -o -type f -print0 | xargs -0 -n 9 rumpus cat", "All files that are not git's."},
		{"rumpus find /tmp -mindepth 1 -mtime +7 -delete", "Tidy up."},
	},
	rewrite: findArgs,
	setup: func(fs *pflag.FlagSet) runFunc {
		var f findFlags
		fs.BoolVarP(&f.operands, "dereference-operands", "H", false, "follow symbolic links that are FILEs")
		fs.BoolVarP(&f.all, "dereference", "L", false, "follow all symbolic links")
		fs.BoolVarP(&f.none, "no-dereference", "P", false, "follow no symbolic links (the default)")
		fs.BoolVarP(&f.depth, "depth", "d", false, "what is in a directory before the directory")
		fs.BoolVarP(&f.sorted, "sorted", "s", false, "go through directories by name")
		fs.BoolVarP(&f.oneFS, "xdev", "x", false, "stay on the mount of FILE")
		return func(ctx context.Context, c *call, args []string) error { return find(ctx, c, f, args) }
	},
}

type findFlags struct{ operands, all, none, depth, sorted, oneFS bool }

// findArgs puts a "--" between the flags and the rest, which looks like flags
// but is not.
func findArgs(args []string) []string {
	i := 0
	for i < len(args) {
		a := args[i]
		switch {
		case a == "--":
			return args
		case a == "-h" || len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "HLPdsx") == "":
			i++
		case strings.HasPrefix(a, "--"):
			i++
			if slices.Contains([]string{"--config", "--server", "--timeout", "--set"}, a) {
				i++
			}
		default:
			return slices.Insert(slices.Clone(args), i, "--")
		}
	}
	return args
}

// finder is the work of one find.
type finder struct {
	c     *call
	k     *rumpclient.Client
	w     walker
	now   time.Time
	expr  test
	depth bool // what is in a directory comes first
	min   int
	max   int // < 0: no limit

	types map[abi.Fsid]string // of file systems, by mount
	files []fileJSON
	prune bool // of the file that is being looked at
}

func find(ctx context.Context, c *call, f findFlags, args []string) error {
	n := slices.IndexFunc(args, func(a string) bool {
		return len(a) > 1 && a[0] == '-' || a == "(" || a == "!"
	})
	if n < 0 {
		n = len(args)
	}
	paths := args[:n]
	if len(paths) == 0 {
		paths = []string{c.here()}
	}
	fd := &finder{c: c, now: time.Now(), depth: f.depth, max: -1, types: make(map[abi.Fsid]string), files: []fileJSON{}}
	fd.w = walker{c: c, oneFS: f.oneFS, sorted: f.sorted, lazy: true}
	switch {
	case f.all:
		fd.w.follow = followAll
	case f.operands:
		fd.w.follow = followOperands
	}
	p := &findParser{f: fd, args: args[n:]}
	expr, err := p.parse()
	if err != nil {
		return err
	}
	if p.dels && f.all {
		return usagef("-delete: not with -L, because what a link points to would be looked at and the link removed")
	}
	if fd.k, err = c.kernel(ctx); err != nil {
		return err
	}
	fd.w.k, fd.expr = fd.k, expr
	if c.json || p.attrs {
		fd.w.lazy = false
	}
	for _, late := range p.late { // what must be asked of the kernel
		if err := late(ctx); err != nil {
			return err
		}
	}
	fd.w.pre = fd.pre
	if fd.depth {
		fd.w.post = func(ctx context.Context, e *entry) error {
			if e.depth < fd.min {
				return nil
			}
			_, err := fd.expr(ctx, e)
			return err
		}
	}
	quit := false
	err = c.each(ctx, paths, func(p string) error {
		if quit {
			return nil
		}
		err := fd.w.walk(ctx, p)
		if errors.Is(err, errQuit) {
			quit, err = true, nil
		}
		return err
	})
	if err == nil && c.json {
		err = writeJSON(c.out, fd.files)
	}
	return err
}

func (f *finder) pre(ctx context.Context, e *entry) (descend bool, err error) {
	f.prune = false
	if !f.depth && e.depth >= f.min {
		if _, err := f.expr(ctx, e); err != nil {
			return false, err
		}
	}
	return !f.prune && (f.max < 0 || e.depth < f.max), nil
}
