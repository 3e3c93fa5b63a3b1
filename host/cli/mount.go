package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// mntFlags are the options of mount that are flags, with the words that mount
// without operands shows for them.
var mntFlags = []struct {
	opt, word string
	flag      uint64
}{
	{"ro", "read-only", abi.MNT_RDONLY},
	{"rdonly", "", abi.MNT_RDONLY},
	{"async", "asynchronous", abi.MNT_ASYNC},
	{"sync", "synchronous", abi.MNT_SYNCHRONOUS},
	{"noexec", "noexec", abi.MNT_NOEXEC},
	{"nosuid", "nosuid", abi.MNT_NOSUID},
	{"nodev", "nodev", abi.MNT_NODEV},
	{"nocoredump", "nocoredump", abi.MNT_NOCOREDUMP},
	{"noatime", "noatime", abi.MNT_NOATIME},
	{"nodevmtime", "nodevmtime", abi.MNT_NODEVMTIME},
	{"relatime", "relatime", abi.MNT_RELATIME},
	{"discard", "discard", abi.MNT_DISCARD},
	{"extattr", "extattr", abi.MNT_EXTATTR},
	{"log", "log", abi.MNT_LOG},
	{"symperm", "symperm", abi.MNT_SYMPERM},
	{"union", "union", abi.MNT_UNION},
	{"hidden", "hidden", abi.MNT_IGNORE},
	{"update", "", abi.MNT_UPDATE},
	{"reload", "", abi.MNT_RELOAD},
	{"force", "", abi.MNT_FORCE},
	{"", "with quotas", abi.MNT_QUOTA},
	{"", "local", abi.MNT_LOCAL},
}

var mountVerb = &verb{
	name: "mount", group: groupMounts, synopsis: []string{"[-v] [-t TYPE]", "-t TYPE [-o OPTIONS] [SOURCE] DIRECTORY", "DIRECTORY", "-a", "-u [-o OPTIONS] DIRECTORY"}, max: 2,
	short: "mount a file system in the kernel, or list the mounts",
	long: []string{
		"Mounts a file system of TYPE, with SOURCE in it, on DIRECTORY. With a DIRECTORY alone, TYPE, SOURCE and OPTIONS are those that the configuration of this command (--config, which need not be the one that the kernel was started with) has for it in mounts, as for one that is noauto; a directory that is missing is made. -a mounts all of these that are not mounted and not noauto. Without operands, mount lists what is mounted; with -v, with the component that has it.",
		"TYPE is one that a component has, such as tmpfs or hostfs, or one of the kernel's own: devfs (device nodes), kernfs (what the kernel says of itself), procfs (processes; with the option linux more files, as Linux has them), nullfs (a directory of the kernel at a second place). SOURCE depends on it: for nullfs it is that directory, for hostfs it is a directory of the host (a relative one is taken from where the command is given), tmpfs has none. The component must have been granted that directory in the configuration, as in components/vfs/grant: [\"host.dir:/usr/share:ro\"].",
		"OPTIONS are joined by commas. These are the kernel's: ro, rw, async, sync, noexec, nosuid, nodev, noatime, relatime, nocache, symperm, hidden, and instance=NAME, the component that is to have the file system where several know TYPE. All others are for the file system, as NAME or NAME=VALUE: size=10m.",
		"-u changes only what OPTIONS name, among ro, rw, async, sync, noexec, nosuid, nodev, noatime and relatime and their opposites; a file system with files open for writing becomes read-only only by force (-o ro,force).",
	},
	examples: []example{
		{"rumpus mount -t tmpfs -o size=64m /tmp", "A file system in memory."},
		{"rumpus mount -t hostfs -o ro /usr/share /mnt", "A directory of the host, which the kernel cannot change."},
		{"rumpus mount -t nullfs -o ro /tmp /pub", "A directory of the kernel, seen at a second place, where it cannot be changed."},
		{"rumpus mount -t msdos -o ro,instance=untrusted /dev/disk0 /img", "A stranger's disk, in a process that has nothing else to lose."},
		{"rumpus mount -u -o ro /tmp", "From now on nobody writes there."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		all := fs.BoolP("all", "a", false, "mount what the configuration has and is not mounted")
		typ := fs.StringP("type", "t", "", "the `TYPE` of file system")
		opts := fs.StringArrayP("options", "o", nil, "`OPTIONS` of the mount")
		update := fs.BoolP("update", "u", false, "change the options of an existing mount")
		verbose := fs.BoolP("verbose", "v", false, "list the component of each mount too")
		return func(ctx context.Context, c *call, args []string) error {
			switch {
			case *all && (len(args) > 0 || len(*opts) > 0 || *update || *typ != ""):
				return usagef("-a stands alone")
			case *all:
				return mountConfigured(ctx, c, "")
			case len(args) == 0:
				if len(*opts) > 0 || *update {
					return usagef("a directory is missing")
				}
				return listMounts(ctx, c, *typ, *verbose)
			case len(args) == 1 && *typ == "" && !*update && len(*opts) == 0:
				return mountConfigured(ctx, c, args[0])
			}
			source, dir := "", args[len(args)-1]
			if len(args) == 2 {
				source = args[0]
			}
			flags, own, err := mountOptions(0, *opts)
			if err != nil {
				return err
			}
			change := *update || flags&abi.MNT_UPDATE != 0
			if *typ == "" && !change {
				return usagef("-t TYPE is needed")
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			if change {
				sv, err := k.Statvfs(ctx, dir)
				if err != nil {
					return err
				}
				if *typ == "" {
					*typ = sv.FSType
				}
				// What is not named stays as it is.
				if flags, own, err = mountOptions(sv.Flag&abi.MNT_BASIC_FLAGS, *opts); err != nil {
					return err
				}
				flags |= abi.MNT_UPDATE
			}
			if *typ == "hostfs" && source != "" {
				if source, err = filepath.Abs(source); err != nil {
					return err
				}
			}
			return k.Mount(ctx, *typ, dir, int(flags), source, own)
		}
	},
}

// mountConfigured makes the mount that the configuration has for dir, or with ""
// all that are not noauto and not there yet.
func mountConfigured(ctx context.Context, c *call, dir string) error {
	cfg, err := c.loadConfig("")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(cfg.Mounts, func(m config.Mount) bool { return m.Dir == path.Clean(dir) })
	if dir != "" && i < 0 {
		return usagef("-t TYPE is needed: %s has no mount on %s", cfg.Source, dir)
	}
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	mount := func(m config.Mount) error {
		if err := k.MkdirAll(ctx, m.Dir, 0o755); err != nil {
			return err
		}
		opts := make(map[string]string)
		for name, v := range m.Options {
			opts[name] = fmt.Sprint(v)
		}
		if m.Instance != "" {
			opts["instance"] = m.Instance
		}
		return k.Mount(ctx, m.Type, m.Dir, 0, m.Source, opts)
	}
	if dir != "" {
		return mount(cfg.Mounts[i])
	}
	there, err := k.Getvfsstat(ctx, abi.MNT_NOWAIT)
	if err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if m.Noauto || slices.ContainsFunc(there, func(sv abi.Statvfs) bool { return sv.On == m.Dir }) {
			continue
		}
		err := mount(m)
		if fatal(ctx, err) {
			return err
		}
		c.fail(err)
	}
	return nil
}

// mountOptions splits the texts of -o into flags, beginning with those that are
// set already, and the file system's own.
func mountOptions(flags uint64, texts []string) (_ uint64, own map[string]string, err error) {
	own = make(map[string]string)
	for _, t := range texts {
	next:
		for o := range strings.SplitSeq(t, ",") {
			switch o {
			case "":
				continue
			case "rw":
				flags &^= abi.MNT_RDONLY
				continue
			}
			for _, f := range mntFlags {
				if f.opt == o {
					flags |= f.flag
					continue next
				}
			}
			for _, f := range mntFlags {
				if f.opt != "" && (o == "no"+f.opt || "no"+o == f.opt) {
					flags &^= f.flag
					continue next
				}
			}
			key, val, has := strings.Cut(o, "=")
			if key == "" || strings.ContainsRune(o, 0) {
				return 0, nil, usagef("option %q has no name", o)
			}
			if !has {
				val = "true"
			}
			own[key] = val
		}
	}
	return flags, own, nil
}

// mountExtra is what the kernel says of a mount in vfs.generic.mounts.
type mountExtra struct {
	Instance string            `json:"instance"` // the component; "" = the kernel
	Options  map[string]string `json:"options"`
	Up       bool              `json:"up"` // false while its component is away
}

// mountExtras asks for these, by file-system id.
func mountExtras(ctx context.Context, k *rumpclient.Client) (map[uint64]mountExtra, error) {
	text, err := k.Sysctl(ctx, "vfs.generic.mounts")
	if errors.Is(err, abi.ENOENT) || errors.Is(err, abi.EPERM) {
		return nil, nil // an older kernel
	}
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Fsid uint64 `json:"fsid"`
		mountExtra
	}
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("vfs.generic.mounts: the kernel's answer makes no sense: %w", abi.EIO)
	}
	extras := make(map[uint64]mountExtra, len(rows))
	for _, r := range rows {
		extras[r.Fsid] = r.mountExtra
	}
	return extras, nil
}

// mountJSON is a mount in --json, for mount and df.
type mountJSON struct {
	Source    string   `json:"source"`
	Dir       string   `json:"dir"`
	Type      string   `json:"type"`
	Flags     []string `json:"flags"`
	Fsid      uint64   `json:"fsid"`
	Blksize   uint64   `json:"blksize"`
	Size      uint64   `json:"size"` // bytes
	Used      uint64   `json:"used"`
	Avail     uint64   `json:"avail"`
	Files     uint64   `json:"files"`
	FilesFree uint64   `json:"files_free"`

	*mountExtra // of mount only
}

func mountWords(flags uint64) []string {
	words := []string{}
	for _, f := range mntFlags {
		if f.word != "" && flags&f.flag != 0 {
			words = append(words, f.word)
		}
	}
	return words
}

// bytesOf is a count of blocks in bytes, as much as a number can say.
func bytesOf(blocks, size uint64) uint64 {
	if size != 0 && blocks > (1<<64-1)/size {
		return 1<<64 - 1
	}
	return blocks * size
}

func toMountJSON(sv *abi.Statvfs) mountJSON {
	return mountJSON{Source: sv.From, Dir: sv.On, Type: sv.FSType, Flags: mountWords(sv.Flag), Fsid: uint64(sv.Fsid), Blksize: sv.Bsize,
		Size: bytesOf(sv.Blocks, sv.Frsize), Used: bytesOf(sv.Blocks-min(sv.Bfree, sv.Blocks), sv.Frsize), Avail: bytesOf(sv.Bavail, sv.Frsize),
		Files: sv.Files, FilesFree: sv.Ffree}
}

func listMounts(ctx context.Context, c *call, typ string, verbose bool) error {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	all, err := k.Getvfsstat(ctx, abi.MNT_NOWAIT)
	if err != nil {
		return err
	}
	extras, err := mountExtras(ctx, k)
	if err != nil {
		return err
	}
	list := []mountJSON{}
	var rows [][]string
	for i := range all {
		m := toMountJSON(&all[i])
		if typ != "" && m.Type != typ {
			continue
		}
		words := slices.Clone(m.Flags)
		if x, ok := extras[m.Fsid]; ok {
			m.mountExtra = &x
			for _, name := range slices.Sorted(maps.Keys(x.Options)) {
				if v := x.Options[name]; v == "" || v == "true" {
					words = append(words, name)
				} else {
					words = append(words, name+"="+v)
				}
			}
			if !x.Up {
				words = append(words, "component is away")
			}
			if verbose && x.Instance != "" {
				words = append(words, "instance="+x.Instance)
			}
		}
		list = append(list, m)
		row := []string{c.show(source(m)), "on", c.show(m.Dir), "type", c.show(m.Type), ""}
		if len(words) > 0 {
			row[5] = c.show("(" + strings.Join(words, ", ") + ")")
		}
		rows = append(rows, row)
	}
	if c.json {
		return writeJSON(c.out, list)
	}
	if len(rows) > 0 {
		table(c.out, "llllll", rows)
	}
	return nil
}

func source(m mountJSON) string {
	if m.Source == "" {
		return m.Type
	}
	return m.Source
}

var umountVerb = &verb{
	name: "umount", group: groupMounts, synopsis: []string{"[-f] DIRECTORY ..."}, min: 1, max: -1,
	short:    "unmount file systems",
	long:     []string{"Writes back and unmounts what is mounted on each DIRECTORY. One that is in use is refused (EBUSY), and the processes that use it are named, unless -f is given; then they get errors (EIO) from all but close. One that has another mount below it is refused always."},
	examples: []example{{"rumpus umount /mnt", "Take it away again."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		force := fs.BoolP("force", "f", false, "even if it is in use")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			flags := 0
			if *force {
				flags = abi.MNT_FORCE
			}
			return c.each(ctx, args, func(d string) error { return k.Unmount(ctx, d, flags) })
		}
	},
}

var dfVerb = &verb{
	name: "df", group: groupMounts, synopsis: []string{"[-h] [-i] [FILE ...]"}, max: -1,
	short:    "show the space of file systems",
	long:     []string{"Shows size and free space of all mounts, or of those that the FILEs are on, in units of 1024 bytes."},
	examples: []example{{"rumpus df -h", "All mounts, in sizes for people."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		h := fs.BoolP("human", "h", false, "sizes with a unit")
		in := fs.BoolP("inodes", "i", false, "numbers of files as well")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return df(ctx, c, k, args, *h, *in)
		}
	},
}

func df(ctx context.Context, c *call, k *rumpclient.Client, args []string, people, inodes bool) error {
	var all []abi.Statvfs
	var err error
	if len(args) == 0 {
		all, err = k.Getvfsstat(ctx, abi.MNT_WAIT)
	} else {
		err = c.each(ctx, args, func(p string) error {
			sv, err := k.Statvfs(ctx, p)
			if err == nil {
				all = append(all, sv)
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	list := []mountJSON{}
	unit, head, format := func(n uint64) string { return strconv.FormatUint(n/1024, 10) }, "1K-blocks", "lrrrrl"
	if people {
		unit, head = human, "Size"
	}
	rows := [][]string{{"Filesystem", head, "Used", "Avail", "%Cap"}}
	if inodes {
		rows[0] = append(rows[0], "iUsed", "iAvail", "%iCap")
		format = "lrrrrrrrl"
	}
	rows[0] = append(rows[0], "Mounted on")
	for i := range all {
		if len(args) == 0 && all[i].Flag&abi.MNT_IGNORE != 0 {
			continue
		}
		m := toMountJSON(&all[i])
		if len(args) == 0 && slices.ContainsFunc(all[i+1:], func(over abi.Statvfs) bool { return over.On == m.Dir }) {
			continue // nobody can see it
		}
		list = append(list, m)
		row := []string{c.show(source(m)), unit(m.Size), unit(m.Used), unit(m.Avail), percent(m.Used, m.Avail)}
		if inodes {
			used := m.Files - min(m.FilesFree, m.Files)
			row = append(row, fmt.Sprint(used), fmt.Sprint(m.FilesFree), percent(used, m.FilesFree))
		}
		rows = append(rows, append(row, c.show(m.Dir)))
	}
	if c.json {
		return writeJSON(c.out, list)
	}
	if len(rows) > 1 {
		table(c.out, format, rows)
	}
	return nil
}

// percent is how much of used+avail is used, rounded up; "-" of nothing.
func percent(used, avail uint64) string {
	u, a := float64(used), float64(avail)
	if u+a == 0 {
		return "-"
	}
	p := int(u * 100 / (u + a))
	if float64(p)*(u+a) < u*100 {
		p++
	}
	return strconv.Itoa(p) + "%"
}
