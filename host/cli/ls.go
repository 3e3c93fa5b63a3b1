package cli

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

type lsFlags struct {
	long, all, recurse, dir, one, human, byTime, reverse bool
}

var lsVerb = &verb{
	name: "ls", group: groupFiles, synopsis: []string{"[-adhlRrt1] [FILE ...]"}, max: -1,
	short: "list files",
	long: []string{
		"Lists the FILEs, and the contents of those that are directories; without an operand, the root directory. Names are sorted by their bytes. On a terminal they are in columns.",
		"The long format has mode, number of links, uid, gid, size in bytes (device number for devices), time of the last change, name, and the target of a symbolic link. Ids are numbers, because the kernel has no database of users.",
	},
	examples: []example{{"rumpus ls -l /dev", "The devices."}, {"rumpus ls -lR --json /", "Everything, for a program."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f lsFlags
		fs.BoolVarP(&f.all, "all", "a", false, "names that begin with a dot as well, and . and ..")
		fs.BoolVarP(&f.dir, "directory", "d", false, "list directories themselves, not what is in them")
		fs.BoolVarP(&f.human, "human", "h", false, "sizes with a unit")
		fs.BoolVarP(&f.long, "long", "l", false, "the long format")
		fs.BoolVarP(&f.recurse, "recursive", "R", false, "directories below as well")
		fs.BoolVarP(&f.reverse, "reverse", "r", false, "the other way round")
		fs.BoolVarP(&f.byTime, "time", "t", false, "by time of change, newest first")
		fs.BoolVarP(&f.one, "one", "1", false, "one name a line")
		return func(ctx context.Context, c *call, args []string) error { return ls(ctx, c, f, args) }
	},
}

// fileInfo is a file as ls and stat show it; path is what it was asked by.
type fileInfo struct {
	name   string
	dir    string // the directory listed, "" for operands
	st     abi.Stat
	target string
}

// fileJSON is a file in --json.
type fileJSON struct {
	Dir         string `json:"dir,omitempty"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	Mode        string `json:"mode"` // octal permissions, "0644"
	Nlink       uint32 `json:"nlink"`
	Uid         uint32 `json:"uid"`
	Gid         uint32 `json:"gid"`
	Size        int64  `json:"size"`
	Bytes       int64  `json:"bytes"` // storage held
	Blksize     uint32 `json:"blksize"`
	Fileid      uint64 `json:"fileid"`
	Fsid        uint64 `json:"fsid"`
	Flags       uint32 `json:"flags"`
	Major       uint32 `json:"major,omitempty"`
	Minor       uint32 `json:"minor,omitempty"`
	AtimeNs     int64  `json:"atime_ns"`
	MtimeNs     int64  `json:"mtime_ns"`
	CtimeNs     int64  `json:"ctime_ns"`
	BirthtimeNs int64  `json:"birthtime_ns"`
	Target      string `json:"target,omitempty"`
}

func nanos(t abi.Timespec) int64 { return t.Sec*1e9 + int64(t.Nsec) }

func (fi *fileInfo) json() fileJSON {
	v := &fi.st.Vattr
	j := fileJSON{Dir: fi.dir, Name: fi.name, Type: typeName(v.Type), Mode: fmt.Sprintf("%04o", v.Mode&abi.ALLPERMS), Nlink: v.Nlink,
		Uid: v.Uid, Gid: v.Gid, Size: v.Size, Bytes: v.Bytes, Blksize: v.Blksize, Fileid: uint64(v.Fileid), Fsid: uint64(fi.st.Dev),
		Flags: v.Flags, AtimeNs: nanos(v.Atime), MtimeNs: nanos(v.Mtime), CtimeNs: nanos(v.Ctime), BirthtimeNs: nanos(v.Btime), Target: fi.target}
	if v.Type == abi.VCHR || v.Type == abi.VBLK {
		j.Major, j.Minor = v.Rdev.Major(), v.Rdev.Minor()
	}
	return j
}

// lister is the work of one ls.
type lister struct {
	c     *call
	k     *rumpclient.Client
	f     lsFlags
	now   time.Time
	some  bool // something has been written
	head  bool // directories get a heading
	files []fileJSON
}

func ls(ctx context.Context, c *call, f lsFlags, args []string) error {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{c.here()}
	}
	l := &lister{c: c, k: k, f: f, now: time.Now(), head: len(args) > 1 || f.recurse, files: []fileJSON{}}
	var files []fileInfo
	var dirs []string
	err = c.each(ctx, args, func(arg string) error {
		fi, err := l.info(ctx, "", arg, arg)
		if err != nil {
			return err
		}
		// As ls(1): a link to a directory is that directory, unless -l or -d.
		if fi.st.Type == abi.VLNK && !f.long && !f.dir {
			if st, err := k.Stat(ctx, arg); err == nil && st.Type == abi.VDIR {
				fi.st.Type = abi.VDIR
			}
		}
		if fi.st.Type == abi.VDIR && !f.dir {
			dirs = append(dirs, arg)
		} else {
			files = append(files, fi)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.list(files)
	slices.Sort(dirs)
	err = c.each(ctx, dirs, func(d string) error { return l.dir(ctx, d) })
	if err == nil && c.json {
		err = writeJSON(c.out, l.files)
	}
	return err
}

func (l *lister) info(ctx context.Context, dir, name, p string) (fileInfo, error) {
	fi := fileInfo{name: name, dir: dir}
	var err error
	if fi.st, err = l.k.Lstat(ctx, p); err != nil {
		return fi, err
	}
	if fi.st.Type == abi.VLNK && (l.f.long || l.c.json) {
		fi.target, err = l.k.Readlink(ctx, p)
	}
	return fi, err
}

func (l *lister) needStat() bool { return l.f.long || l.f.byTime || l.f.recurse || l.c.json }

// maxDepth bounds how deep ls -R, rm -r and cp -r go, against trees without end.
const maxDepth = 512

func (l *lister) dir(ctx context.Context, dir string) error { return l.dirAt(ctx, dir, 0) }

func (l *lister) dirAt(ctx context.Context, dir string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep: %w", dir, maxDepth, abi.ENAMETOOLONG)
	}
	ents, err := l.k.ReadDir(ctx, dir)
	if err != nil {
		return err
	}
	if l.f.all {
		ents = append(ents, abi.Dirent{Name: ".", Type: abi.VDIR}, abi.Dirent{Name: "..", Type: abi.VDIR})
	}
	var files []fileInfo
	for _, e := range ents {
		if e.Name != "" && e.Name[0] == '.' && !l.f.all {
			continue
		}
		fi := fileInfo{name: e.Name, dir: dir}
		fi.st.Type = e.Type
		if l.needStat() {
			if fi, err = l.info(ctx, dir, e.Name, join(dir, e.Name)); err != nil {
				if ctx.Err() != nil || exitCode(err) == exitNoKernel {
					return err
				}
				l.c.fail(err)
				continue
			}
		}
		files = append(files, fi)
	}
	if !l.c.json {
		if l.some {
			l.c.printf("\n")
		}
		if l.head {
			l.c.printf("%s:\n", l.c.show(dir))
			l.some = true
		}
		if l.f.long {
			var sum int64
			for i := range files {
				sum += files[i].st.Bytes
			}
			l.c.printf("total %d\n", (sum+abi.S_BLKSIZE-1)/abi.S_BLKSIZE)
			l.some = true
		}
	}
	l.list(files)
	if !l.f.recurse {
		return nil
	}
	for _, fi := range files {
		if fi.st.Type == abi.VDIR && fi.name != "." && fi.name != ".." {
			if err := l.dirAt(ctx, join(dir, fi.name), depth+1); err != nil {
				if ctx.Err() != nil || exitCode(err) == exitNoKernel {
					return err
				}
				l.c.fail(err)
			}
		}
	}
	return nil
}

// join puts a name behind a directory without resolving "..".
func join(dir, name string) string {
	if dir == "" || dir[len(dir)-1] == '/' {
		return dir + name
	}
	return dir + "/" + name
}

// list writes files, sorted.
func (l *lister) list(files []fileInfo) {
	slices.SortStableFunc(files, func(a, b fileInfo) int {
		order := 0
		if l.f.byTime {
			order = cmp.Compare(nanos(b.st.Mtime), nanos(a.st.Mtime))
		}
		if order == 0 {
			order = cmp.Compare(a.name, b.name)
		}
		if l.f.reverse {
			order = -order
		}
		return order
	})
	if len(files) > 0 {
		l.some = true
	}
	switch {
	case l.c.json:
		for i := range files {
			l.files = append(l.files, files[i].json())
		}
	case l.f.long:
		rows := make([][]string, len(files))
		for i := range files {
			rows[i] = l.row(&files[i])
		}
		table(l.c.out, "lrrrrll", rows)
	default:
		names := make([]string, len(files))
		for i := range files {
			names[i] = l.c.show(files[i].name)
		}
		if l.c.tty && !l.f.one {
			columns(l.c.out, names, l.c.width())
			return
		}
		for _, n := range names {
			l.c.printf("%s\n", n)
		}
	}
}

func (l *lister) row(fi *fileInfo) []string {
	v := &fi.st.Vattr
	size := strconv.FormatInt(v.Size, 10)
	switch {
	case v.Type == abi.VCHR || v.Type == abi.VBLK:
		size = fmt.Sprintf("%d, %d", v.Rdev.Major(), v.Rdev.Minor())
	case l.f.human:
		size = human(uint64(max(v.Size, 0)))
	}
	name := l.c.show(fi.name)
	if v.Type == abi.VLNK {
		name += " -> " + l.c.show(fi.target)
	}
	return []string{modeString(v.Type, v.Mode), strconv.FormatUint(uint64(v.Nlink), 10), strconv.FormatUint(uint64(v.Uid), 10),
		strconv.FormatUint(uint64(v.Gid), 10), size, lsTime(v.Mtime.Time(), l.now), name}
}

// base is the last name of a path, as basename(1).
func base(p string) string { return path.Base(p) }
