package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

var vndconfigVerb = &verb{
	name: "vndconfig", group: groupDevices, max: 2,
	synopsis: []string{"[-r] VND FILE", "-u [-F] VND", "-l"},
	short:    "attach files of the kernel as disks",
	long: []string{
		"Attaches FILE, a regular file of the kernel, as the disk VND: vnd0, vnd1, ..., or vnd for the first that is free. Its contents are those of the file, which must not be written by others meanwhile. -u detaches, -l lists what is attached.",
		"This is dev attach vnd in the words of NetBSD.",
	},
	examples: []example{{"rumpus vndconfig vnd0 /tmp/disk.img", "A file of the kernel as a disk."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		ro := fs.BoolP("read-only", "r", false, "nobody can write")
		detach := fs.BoolP("unconfigure", "u", false, "detach")
		force := fs.BoolP("force", "F", false, "-u: even if it is open")
		list := fs.BoolP("list", "l", false, "list what is attached")
		return func(ctx context.Context, c *call, args []string) error {
			want := 2
			switch {
			case *list && *detach:
				return usagef("-l and -u do not go together")
			case *list:
				want = 0
			case *detach:
				want = 1
			}
			if len(args) != want {
				return usagef("%d operands are not right here", len(args))
			}
			var d attachment
			if want == 2 {
				f := devFlags{ro: *ro}
				if n := devNode(args[0]); n != "vnd" {
					if _, err := strconv.ParseUint(strings.TrimPrefix(n, "vnd"), 10, 16); err != nil || !strings.HasPrefix(n, "vnd") {
						return usagef("%q is not vnd, vnd0, vnd1, ...", args[0])
					}
					f.name = n
				}
				var err error
				if d, err = f.attachment([]string{"vnd", args[1]}); err != nil {
					return err
				}
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			switch {
			case *list:
				return vndList(ctx, c, k)
			case *detach:
				return plainly(k.DetachDisk(ctx, devNode(args[0]), *force))
			}
			arg, err := json.Marshal(d.arg)
			if err != nil {
				return err
			}
			names, err := attachNamed(ctx, k, d, arg)
			if err != nil {
				return err
			}
			return c.writeNames(names)
		}
	},
}

func vndList(ctx context.Context, c *call, k *rumpclient.Client) error {
	all, err := k.Disks(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, d := range all {
		if d.Driver == "vnd" {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		if c.json {
			return c.writeNames(nil)
		}
		return nil
	}
	return devList(ctx, c, k, names)
}
