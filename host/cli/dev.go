package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var devVerb = &verb{
	name: "dev", group: groupDevices, max: -1,
	synopsis: []string{
		"ls [DISK ...]", "info DISK ...", "attach md SIZE [--name mdN]", "attach etfs FILE [--name NAME] [--type TYPE] [--ro] [--nolock] [--offset N] [--size N] [-p]",
		"attach vnd FILE [--name vndN] [--ro] [-p]", "attach part DISK", "attach nbd CONNECT [EXPORT] [--name nbdN] [--ro] [-p]", "detach [-f] DISK ...",
	},
	short: "list, attach and detach disks",
	long: []string{
		"dev ls lists the block devices of the kernel: number, what it is, size, bytes of a sector, whether it is read-only, by how many it is open, the driver, the component that runs it (- for the kernel), what it stands on.",
		"dev info tells all that is known of DISK, with the transfers until now, and what is on it as a component sees it: a partition table, a file system, an encrypted volume.",
		"dev attach makes a disk and writes the names of its nodes in /dev:",
		"   md SIZE            memory of the dev component, lost with its process\n" +
			"   etfs FILE          FILE of the host, or a part of it: a disk image\n" +
			"   vnd FILE           FILE of the kernel\n" +
			"   part DISK          the partitions of DISK\n" +
			"   nbd CONNECT EXPORT an export of an NBD server; see rumpus help nbd",
		"Without --name the kernel or the command takes the next free name; disk0 and so on for files of the host. Encrypted disks are attached by cgdconfig. Sizes are bytes, or have K, M, G or T behind them (powers of 1024).",
		"dev detach takes away DISK, and what was attached with it: the other partitions. One that is open, or that another disk stands on, is refused (EBUSY).",
		"--json is an array of objects for ls and info, an array of names for attach.",
	},
	examples: []example{
		{"rumpus dev attach -p etfs disk.img", "A disk image and its partitions."},
		{"rumpus dev info disk0", "What is on it?"},
		{"rumpus dev detach disk0p1 && rumpus dev detach disk0", "And away again."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f devFlags
		fs.StringVar(&f.name, "name", "", "attach: the `NAME` in /dev")
		fs.BoolVar(&f.ro, "ro", false, "attach: nobody can write")
		fs.StringVar(&f.show, "type", "", "attach etfs: how it shows, a `TYPE` of blk (a block device and its raw side), chr (the raw device alone), reg (a regular file)")
		fs.BoolVar(&f.nolock, "nolock", false, "attach etfs: let other kernels have the file too")
		fs.StringVar(&f.offset, "offset", "", "attach etfs: only what begins `N` bytes into the file")
		fs.StringVar(&f.size, "size", "", "attach etfs: only `N` bytes of it")
		fs.BoolVarP(&f.parts, "partitions", "p", false, "attach: attach its partitions as well")
		fs.BoolVarP(&f.force, "force", "f", false, "detach: even if it is open")
		return func(ctx context.Context, c *call, args []string) error {
			if len(args) == 0 {
				args = []string{"ls"}
			}
			what, args := args[0], args[1:]
			if err := f.only(what, fs); err != nil {
				return err
			}
			if (what == "info" || what == "detach") && len(args) == 0 {
				return usagef("%s which disk?", what)
			}
			var arg []byte
			var d attachment
			if what == "attach" {
				var err error
				if d, err = f.attachment(args); err != nil {
					return err
				}
				arg, err = json.Marshal(d.arg)
				if err != nil {
					return err
				}
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			switch what {
			case "ls", "list":
				return devList(ctx, c, k, args)
			case "info":
				return devInfo(ctx, c, k, args)
			case "attach":
				return f.attach(ctx, c, k, d, arg)
			case "detach":
				return c.each(ctx, args, func(d string) error { return plainly(k.DetachDisk(ctx, devNode(d), f.force)) })
			}
			return usagef("there is no dev %q, only ls, info, attach and detach", what)
		}
	},
}

type devFlags struct {
	name, offset, size, show string
	ro, nolock, parts, force bool
}

// only refuses the flags of one command behind another.
func (f *devFlags) only(what string, fs *pflag.FlagSet) (err error) {
	for name, of := range map[string]string{"name": "attach", "ro": "attach", "nolock": "attach", "offset": "attach", "size": "attach", "type": "attach", "partitions": "attach", "force": "detach"} {
		if fs.Changed(name) && what != of {
			err = usagef("--%s is for %s", name, of)
		}
	}
	return err
}

// devNode is the name of a disk, which may be written with /dev/ before it.
func devNode(s string) string { return strings.TrimPrefix(s, "/dev/") }

// attachment is what AttachDisk is told.
type attachment struct {
	driver, on string
	arg        map[string]any
	pick       string // without a name: this with the next free number
}

// attachment reads the operands of dev attach: a type, and its own.
func (f *devFlags) attachment(args []string) (d attachment, err error) {
	if len(args) == 0 {
		return d, usagef("attach what: md, etfs, vnd, part or nbd?")
	}
	typ, args := args[0], args[1:]
	least, most := 1, 1
	d = attachment{driver: typ, arg: map[string]any{}}
	switch typ {
	case "md", "etfs", "vnd", "part":
	case "nbd":
		most = 2
	case "cgd", "luks":
		return d, usagef("encrypted disks are attached by rumpus cgdconfig")
	default:
		return d, usagef("%q cannot be attached, only md, etfs, vnd, part and nbd", typ)
	}
	if len(args) < least || len(args) > most {
		return d, usagef("attach %s has %s, not %d operands", typ, map[string]string{"md": "a size", "etfs": "a file", "vnd": "a file", "part": "a disk", "nbd": "an address and an export"}[typ], len(args))
	}
	if f.nolock || f.offset != "" || f.size != "" || f.show != "" {
		if typ != "etfs" {
			return d, usagef("--type, --nolock, --offset and --size are for etfs")
		}
	}
	if f.ro && (typ == "md" || typ == "part") {
		return d, usagef("--ro is not for %s", typ)
	}
	number := func(prefix string) (int, error) {
		n, err := strconv.ParseUint(strings.TrimPrefix(devNode(f.name), prefix), 10, 16)
		if err != nil || fmt.Sprint(prefix, n) != devNode(f.name) {
			return 0, usagef("the name %q is not %s0, %s1, ...", f.name, prefix, prefix)
		}
		return int(n), nil
	}
	switch typ {
	case "md", "nbd":
		if f.name != "" {
			if d.arg["unit"], err = number(typ); err != nil {
				return d, err
			}
		}
	case "part":
		if f.name != "" {
			return d, usagef("partitions have the name of their disk")
		}
	}
	switch typ {
	case "md":
		d.arg["size"], err = bytesArg(args[0])
		if d.arg["size"] == int64(0) && err == nil {
			err = usagef("a disk of no bytes")
		}
	case "etfs":
		if args[0] == "" {
			return d, usagef("the file's name is empty")
		}
		if d.arg["host"], err = filepath.Abs(args[0]); err != nil {
			return d, err
		}
		for name, text := range map[string]string{"offset": f.offset, "size": f.size} {
			if text != "" {
				if d.arg[name], err = bytesArg(text); err != nil {
					return d, err
				}
			}
		}
		if f.show != "" {
			d.arg["type"] = f.show
		}
		if f.nolock {
			d.arg["nolock"] = true
		}
		d.pick = "disk"
	case "vnd":
		if !strings.HasPrefix(args[0], "/") {
			return d, usagef("%s: a file of the kernel is named from / on", args[0])
		}
		d.arg["file"], d.pick = args[0], "vnd"
	case "part":
		d.driver, d.on = "dk", devNode(args[0])
		d.arg["name"] = devNode(args[0])
	case "nbd":
		d.arg["connect"] = connectGrant(args[0])
		if len(args) > 1 {
			d.arg["export"] = args[1]
		}
	}
	if f.ro {
		d.arg["ro"] = true
	}
	if d.pick != "" && f.name != "" {
		d.arg["name"], d.pick = devNode(f.name), ""
	}
	return d, err
}

// connectGrant is the grant by which a component gets connections to an address,
// which may be written without the grant's name in front.
func connectGrant(addr string) string {
	if strings.HasPrefix(addr, "/") {
		addr = "unix:" + addr
	}
	if !strings.HasPrefix(addr, "host.") {
		addr = "host.connect:" + addr
	}
	return addr
}

// bytesArg reads a number of bytes: 4096, 64K, 1G.
func bytesArg(s string) (int64, error) {
	n, err := config.ParseSize(s)
	if err != nil || n.Percent != 0 || n.Bytes > 1<<62 {
		return 0, usagef("%q is no number of bytes, such as 4096, 64K or 1G", s)
	}
	return int64(n.Bytes), nil
}

// attach attaches, and writes the new names.
func (f *devFlags) attach(ctx context.Context, c *call, k *rumpclient.Client, d attachment, arg []byte) error {
	names, err := attachNamed(ctx, k, d, arg)
	if err != nil {
		return err
	}
	if f.parts && d.driver != "dk" {
		for _, n := range slices.Clone(names) {
			arg, err := json.Marshal(map[string]string{"name": n})
			if err != nil {
				return err
			}
			inner, err := attachDisk(ctx, k, attachment{driver: "dk", on: n}, arg)
			names = append(names, inner...)
			c.fail(err)
		}
	}
	return c.writeNames(names)
}

// attachNamed attaches a disk, with the next free name if it needs one.
func attachNamed(ctx context.Context, k *rumpclient.Client, d attachment, arg []byte) ([]string, error) {
	if d.pick == "" {
		return attachDisk(ctx, k, d, arg)
	}
	for {
		disks, err := k.Disks(ctx)
		if err != nil {
			return nil, err
		}
		n := 0
		for slices.ContainsFunc(disks, func(o rumpclient.Disk) bool { return o.Name == d.pick+strconv.Itoa(n) }) {
			n++
		}
		name := d.pick + strconv.Itoa(n)
		d.arg["name"] = name
		if arg, err = json.Marshal(d.arg); err != nil {
			return nil, err
		}
		names, err := attachDisk(ctx, k, d, arg)
		if err == nil || !errors.Is(err, abi.EEXIST) {
			return names, err
		}
		// Somebody took the name meanwhile, or the file is attached already.
		after, lerr := k.Disks(ctx)
		if lerr != nil || !slices.ContainsFunc(after, func(o rumpclient.Disk) bool { return o.Name == name }) {
			return nil, err
		}
	}
}

// attachError is an error of drvctl in one line without the names of the layers
// that it came through.
type attachError struct {
	text string
	err  error
}

func (e *attachError) Error() string { return e.text }
func (e *attachError) Unwrap() error { return e.err }

// plainly makes the text of an error of drvctl one for people: "md0: no
// partition table".
func plainly(err error) error {
	var e *rumpclient.Error
	if !errors.As(err, &e) || e.Text == "" || exitCode(err) != exitRefused {
		return err
	}
	text := e.Text
	for _, layer := range []string{"attach etfs: ", "attach cgd: ", "attach dk: ", "attach md: ", "attach nbd: ", "attach vnd: ", "blk-ioctl: ", "attach cgd: "} {
		text = strings.TrimPrefix(text, layer)
	}
	if e.Errno == abi.ESRCH {
		text = strings.TrimSuffix(text, ": "+abi.ESRCH.Error())
	}
	return &attachError{text, err}
}

// attachDisk is AttachDisk with errors for people.
func attachDisk(ctx context.Context, k *rumpclient.Client, d attachment, arg []byte) ([]string, error) {
	names, err := k.AttachDisk(ctx, d.driver, d.on, arg)
	if host, _ := d.arg["host"].(string); host != "" && errors.Is(err, abi.EBUSY) {
		if all, lerr := k.Disks(ctx); lerr == nil {
			for _, o := range all {
				if o.Host == host {
					return nil, &attachError{fmt.Sprintf("%s is attached already, as %s", host, o.Name), err}
				}
			}
		}
	}
	err = plainly(err)
	var a *attachError
	if d.on != "" && errors.As(err, &a) {
		// A driver knows what it stands on by its number only.
		if all, lerr := disks(ctx, k, []string{d.on}); lerr == nil {
			a.text = strings.Replace(a.text, " on "+all[0].Dev+":", " on "+all[0].Name+":", 1)
		}
	}
	return names, err
}

// writeNames writes the names of nodes.
func (c *call) writeNames(names []string) error {
	if c.json {
		if names == nil {
			names = []string{}
		}
		return writeJSON(c.out, names)
	}
	for _, n := range names {
		c.printf("%s\n", c.show(n))
	}
	return nil
}

// disks are the named disks, or all.
func disks(ctx context.Context, k *rumpclient.Client, names []string) ([]rumpclient.Disk, error) {
	all, err := k.Disks(ctx)
	if err != nil || len(names) == 0 {
		return all, err
	}
	var r []rumpclient.Disk
	for _, n := range names {
		i := slices.IndexFunc(all, func(d rumpclient.Disk) bool { return d.Name == devNode(n) })
		if i < 0 {
			return nil, &rumpclient.Error{Op: "dev", Path: n, Errno: abi.ENXIO}
		}
		r = append(r, all[i])
	}
	return r, nil
}

func devList(ctx context.Context, c *call, k *rumpclient.Client, names []string) error {
	list, err := disks(ctx, k, names)
	if err != nil {
		return err
	}
	if c.json {
		return writeJSON(c.out, append([]rumpclient.Disk{}, list...))
	}
	rows := [][]string{{"NAME", "DEV", "TYPE", "SIZE", "SECTOR", "RO", "OPEN", "DRIVER", "COMPONENT", "ON"}}
	for _, d := range list {
		size, sector, open := dash(""), dash(""), strconv.Itoa(d.Opens)
		if d.Size > 0 {
			size, sector = human(uint64(d.Size)), strconv.FormatUint(uint64(d.Sector), 10)
		}
		if d.Busy {
			open += "*"
		}
		on := strings.Join(d.On, ",")
		typ, _, _ := strings.Cut(d.Type, ",")
		if d.Host != "" {
			on = d.Host
		}
		rows = append(rows, []string{c.show(d.Name), c.show(d.Dev), dash(c.show(typ)), size, sector, yesNo(d.ReadOnly), open, c.show(d.Driver), dash(c.show(d.Instance)), dash(c.show(on))})
	}
	table(c.out, "lllrrlrlll", rows)
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
