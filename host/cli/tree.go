package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var treeVerb = &verb{
	name: "tree", group: groupFiles, synopsis: []string{"[-adfhpsx] [-L LEVEL] [--charset CHARSET] [DIRECTORY ...]"}, max: -1,
	short: "draw trees of files",
	long: []string{
		"Draws what is below each DIRECTORY (without one, the root directory): each file under its directory, sorted by name, symbolic links with their target. The last line says how many there were. Symbolic links are not followed, and names that begin with a dot are left out, unless -a is given.",
		"The lines are those for drawing boxes where standard output is a terminal and the locale says UTF-8 (LC_ALL, LC_CTYPE or LANG), else they are ASCII. With --json, an object for each DIRECTORY, with what is in it in contents.",
	},
	examples: []example{
		{"rumpus tree -L 2 /", "The upper two levels."},
		{"rumpus tree -dx /", "The directories of the root file system."},
		{"rumpus tree -ash --charset utf-8 /src > tree.txt", "Everything with its size, into a file."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f treeFlags
		fs.BoolVarP(&f.all, "all", "a", false, "names that begin with a dot as well")
		charset := fs.String("charset", "", "draw in `CHARSET`, which is ascii or utf-8")
		fs.BoolVarP(&f.dirs, "directories", "d", false, "directories only")
		fs.BoolVarP(&f.full, "full-path", "f", false, "the whole path of each file")
		fs.BoolVarP(&f.human, "human", "h", false, "sizes with a unit; implies -s")
		fs.UintVarP(&f.level, "level", "L", 0, "go at most `LEVEL` deep")
		fs.BoolVarP(&f.perms, "permissions", "p", false, "type and permissions in front of each name")
		fs.BoolVarP(&f.size, "size", "s", false, "the size in front of each name")
		fs.BoolVarP(&f.oneFS, "one-file-system", "x", false, "do not go into other mounts")
		return func(ctx context.Context, c *call, args []string) error {
			if fs.Changed("level") && f.level == 0 {
				return usagef("-L 0: the level is at least 1")
			}
			f.size = f.size || f.human
			switch strings.ReplaceAll(strings.ToLower(*charset), "-", "") {
			case "":
				f.utf8 = c.tty && c.localeUTF8()
			case "utf8":
				f.utf8 = true
			case "ascii", "usascii":
			default:
				return usagef("--charset %q is neither ascii nor utf-8", *charset)
			}
			return drawTrees(ctx, c, f, args)
		}
	},
}

// localeUTF8 reports whether the user's locale writes UTF-8.
func (c *call) localeUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := c.getenv(name); v != "" {
			_, set, _ := strings.Cut(strings.ToUpper(v), ".")
			set, _, _ = strings.Cut(set, "@")
			return set == "UTF-8" || set == "UTF8"
		}
	}
	return false
}

type treeFlags struct {
	all, dirs, full, human, perms, size, oneFS, utf8 bool
	level                                            uint // 0: no limit
}

// treeJSON is a file of tree in --json.
type treeJSON struct {
	fileJSON
	Contents []*treeJSON `json:"contents,omitempty"`
}

// drawer is the work of one tree.
type drawer struct {
	c           *call
	f           treeFlags
	w           walker
	dirs, files int // drawn so far, without the operands
}

// twig is a file and what is below it, as it is drawn.
type twig struct {
	line string
	json *treeJSON
	sub  []*twig
}

func drawTrees(ctx context.Context, c *call, f treeFlags, args []string) error {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{c.here()}
	}
	d := &drawer{c: c, f: f}
	list := []*treeJSON{}
	d.w = walker{c: c, k: k, oneFS: f.oneFS, sorted: true, follow: followOperands, lazy: !f.size && !f.perms && !c.json}
	err = c.each(ctx, args, func(p string) error {
		top, err := d.grow(ctx, p)
		if err != nil {
			return err
		}
		if c.json {
			list = append(list, top.json)
			return nil
		}
		c.printf("%s\n", top.line)
		d.draw(top, "")
		return nil
	})
	switch {
	case err != nil:
	case c.json:
		err = writeJSON(c.out, list)
	case f.dirs:
		c.printf("\n%s\n", countOf(d.dirs, "directory", "directories"))
	default:
		c.printf("\n%s, %s\n", countOf(d.dirs, "directory", "directories"), countOf(d.files, "file", "files"))
	}
	return err
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// grow goes through the tree at p.
func (d *drawer) grow(ctx context.Context, p string) (*twig, error) {
	var top *twig
	var above []*twig // the directories that the walk is in, and the file itself
	d.w.failed = func(_ *entry, err error) {
		above[len(above)-1].line += "  [" + printable(abi.ErrnoOf(err).Error()) + "]"
	}
	d.w.pre = func(ctx context.Context, e *entry) (bool, error) {
		t, err := d.twig(ctx, e)
		if err != nil {
			d.c.fail(err)
			t = &twig{line: d.c.show(e.name), json: &treeJSON{fileJSON: fileJSON{Name: e.name}}}
		}
		left := e.depth > 0 && (!d.f.all && e.name[0] == '.' || d.f.dirs && e.typ != abi.VDIR)
		switch {
		case e.depth == 0:
			top = t
			if e.typ != abi.VDIR {
				return false, fmt.Errorf("%s: %w", e.path, abi.ENOTDIR)
			}
		case !left:
			up := above[len(above)-1]
			up.sub = append(up.sub, t)
			up.json.Contents = append(up.json.Contents, t.json)
			if e.typ == abi.VDIR {
				d.dirs++
			} else {
				d.files++
			}
		}
		above = append(above, t)
		return !left && (d.f.level == 0 || uint(e.depth) < d.f.level), nil
	}
	d.w.post = func(context.Context, *entry) error {
		above = above[:len(above)-1]
		return nil
	}
	err := d.w.walk(ctx, p)
	return top, err
}

func (d *drawer) twig(ctx context.Context, e *entry) (*twig, error) {
	fi := fileInfo{name: e.name, st: e.st}
	name := e.name
	if d.f.full || e.depth == 0 {
		name = e.path
	}
	if e.depth == 0 {
		fi.name = e.path
	}
	var err error
	if e.typ == abi.VLNK {
		fi.target, err = d.w.k.Readlink(ctx, e.path)
	}
	if d.c.json {
		return &twig{json: &treeJSON{fileJSON: fi.json()}}, err
	}
	line := d.c.show(name)
	if e.typ == abi.VLNK && err == nil {
		line += " -> " + d.c.show(fi.target)
	}
	var attrs []string
	if d.f.perms {
		attrs = append(attrs, modeString(e.typ, e.st.Mode))
	}
	switch {
	case d.f.human:
		attrs = append(attrs, fmt.Sprintf("%4s", human(uint64(max(e.st.Size, 0)))))
	case d.f.size:
		attrs = append(attrs, fmt.Sprintf("%11d", e.st.Size))
	}
	if len(attrs) > 0 {
		line = "[" + strings.Join(attrs, " ") + "]  " + line
	}
	return &twig{line: line, json: &treeJSON{}}, err
}

// draw draws what is below t.
func (d *drawer) draw(t *twig, indent string) {
	branch, last, through := "|-- ", "`-- ", "|   "
	if d.f.utf8 {
		branch, last, through = "├── ", "└── ", "│   "
	}
	for i, s := range t.sub {
		if i == len(t.sub)-1 {
			d.c.printf("%s%s%s\n", indent, last, s.line)
			d.draw(s, indent+"    ")
		} else {
			d.c.printf("%s%s%s\n", indent, branch, s.line)
			d.draw(s, indent+through)
		}
	}
}
