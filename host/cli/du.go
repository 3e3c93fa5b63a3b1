package cli

import (
	"context"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var duVerb = &verb{
	name: "du", group: groupFiles, synopsis: []string{"[-H | -L | -P] [-Aahkcx] [-s | -d DEPTH] [FILE ...]"}, max: -1,
	short: "show how much space trees take",
	long: []string{
		"Shows for each directory in the tree below each FILE (without one, the root directory) how much space it and all that is in it take, in units of 1024 bytes, rounded up. The space is what the file system holds for a file, so that holes count nothing, and what it needs for itself may count too. A file with several names counts where it is met first.",
	},
	examples: []example{
		{"rumpus du -sh /src /tmp", "Two trees, each in one line."},
		{"rumpus du -hd 1 /", "What is large?"},
		{"rumpus du -xak / | sort -rn | head", "The largest files and directories of the root file system."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f duFlags
		fs.BoolVarP(&f.apparent, "apparent-size", "A", false, "the sizes that ls shows, not the space")
		fs.BoolVarP(&f.all, "all", "a", false, "files as well")
		fs.BoolVarP(&f.total, "total", "c", false, "a line for all FILEs together, \"total\"")
		fs.UintVarP(&f.depth, "max-depth", "d", 0, "only what is at most `DEPTH` below FILE; 0 is the same as -s")
		fs.BoolVarP(&f.operands, "dereference-operands", "H", false, "follow symbolic links that are FILEs")
		fs.BoolVarP(&f.human, "human", "h", false, "sizes with a unit")
		fs.BoolP("kilobytes", "k", false, "units of 1024 bytes (the default)")
		fs.BoolVarP(&f.links, "dereference", "L", false, "follow all symbolic links")
		fs.BoolP("no-dereference", "P", false, "follow no symbolic links (the default)")
		summary := fs.BoolP("summarize", "s", false, "one line for each FILE")
		fs.BoolVarP(&f.oneFS, "one-file-system", "x", false, "leave out what is on other mounts than FILE")
		return func(ctx context.Context, c *call, args []string) error {
			f.limited = *summary || fs.Changed("max-depth")
			if *summary && fs.Changed("max-depth") && f.depth > 0 {
				return usagef("-s and -d are not used together")
			}
			if *summary && f.all {
				return usagef("-s and -a are not used together")
			}
			return du(ctx, c, f, args)
		}
	},
}

type duFlags struct {
	apparent, all, total, human, oneFS, operands, links bool
	limited                                             bool
	depth                                               uint
}

// duJSON is a line of du in --json.
type duJSON struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// fileKey tells files apart, whatever they are called.
type fileKey struct {
	dev  abi.Fsid
	file abi.Fileid
}

func keyOf(st *abi.Stat) fileKey { return fileKey{st.Dev, st.Fileid} }

func du(ctx context.Context, c *call, f duFlags, args []string) error {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{c.here()}
	}
	list := []duJSON{}
	show := func(name string, n int64) {
		switch {
		case c.json:
			list = append(list, duJSON{name, n})
		case f.human:
			c.printf("%s\t%s\n", human(uint64(n)), c.show(name))
		default:
			c.printf("%s\t%s\n", strconv.FormatInt((n+1023)/1024, 10), c.show(name))
		}
	}
	seen := make(map[fileKey]bool) // files with several names
	sums := []int64{0}             // of all, and of the directories that the walk is in
	size := func(e *entry) int64 {
		st := &e.st
		if e.typ == abi.VDIR || st.Nlink > 1 || f.links || f.operands {
			if seen[keyOf(st)] {
				return -1
			}
			seen[keyOf(st)] = true
		}
		if f.apparent {
			return max(st.Size, 0)
		}
		return max(st.Bytes, 0)
	}
	w := &walker{c: c, k: k, oneFS: f.oneFS}
	var dev abi.Fsid // of the operand
	switch {
	case f.links:
		w.follow = followAll
	case f.operands:
		w.follow = followOperands
	}
	w.pre = func(_ context.Context, e *entry) (bool, error) {
		if e.depth == 0 {
			dev = e.st.Dev
		}
		n := int64(-1) // neither it nor what is in it counts
		if !f.oneFS || e.st.Dev == dev {
			n = size(e)
		}
		sums = append(sums, n)
		return n >= 0, nil
	}
	w.post = func(_ context.Context, e *entry) error {
		n := sums[len(sums)-1]
		sums = sums[:len(sums)-1]
		if n < 0 {
			return nil
		}
		sums[len(sums)-1] += n
		if (e.typ == abi.VDIR || f.all || e.depth == 0) && (!f.limited || uint(e.depth) <= f.depth) {
			show(e.path, n)
		}
		return nil
	}
	err = c.each(ctx, args, func(p string) error {
		sums = sums[:1]
		return w.walk(ctx, p)
	})
	if err == nil && f.total {
		show("total", sums[0])
	}
	if err == nil && c.json {
		err = writeJSON(c.out, list)
	}
	return err
}
