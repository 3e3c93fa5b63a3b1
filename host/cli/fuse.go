package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

var fuseVerb = &verb{
	name: "fuse", group: groupMounts, synopsis: []string{"", "[--ro] [--nocache] [--xattr] [--allow-other] [-p PATH] DIRECTORY", "-u DIRECTORY"}, max: 1,
	short: "mount the kernel's files on a directory of the host",
	long: []string{
		"Mounts the kernel's files on DIRECTORY, which is one of the host's, by FUSE, so that every program of the host can work on them. Without operands, fuse lists these mounts.",
		"The kernel's own process makes the mount and serves it, until -u, fusermount3 -u or the end of the kernel. What clients of the kernel change is seen in the mount when their calls return, and the other way round.",
		"Root mounts directly and other users of the host are let in as the permissions of files say. A kernel that an ordinary user runs mounts by fusermount3, and he is the super-user in it: what belongs to 0 inside belongs to him outside.",
	},
	examples: []example{
		{"rumpus fuse /mnt", "The whole tree, on /mnt."},
		{"rumpus fuse --ro --path /src /tmp/src", "A part of it, which cannot be changed there."},
		{"rumpus fuse -u /mnt", "Away with it."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		unmount := fs.BoolP("unmount", "u", false, "unmount DIRECTORY")
		path := fs.StringP("path", "p", "/", "the `PATH` of the kernel that is mounted")
		ro := fs.Bool("ro", false, "nothing can be changed through the mount")
		nocache := fs.Bool("nocache", false, "the host keeps nothing of what it has read")
		xattr := fs.Bool("xattr", false, "extended attributes, at the cost of a question at each file's first write")
		other := fs.Bool("allow-other", false, "other users of the host are let in (an ordinary user needs user_allow_other in /etc/fuse.conf)")
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if *unmount {
					return usagef("a directory is missing")
				}
				text, err := k.Sysctl(ctx, "host.fuse.mounts")
				if err != nil {
					return err
				}
				return listFuse(c, text)
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if *unmount {
				return plainFuse(k.SysctlSet(ctx, "host.fuse.unmount", dir))
			}
			b, err := json.Marshal(map[string]any{"dir": dir, "path": *path, "ro": *ro, "nocache": *nocache, "xattr": *xattr, "allowother": *other})
			if err != nil {
				return err
			}
			return plainFuse(k.SysctlSet(ctx, "host.fuse.mount", string(b)))
		}
	},
}

// listFuse shows the mounts in the host's tree.
func listFuse(c *call, text string) error {
	var ms []struct {
		Dir  string `json:"dir"`
		Path string `json:"path"`
	}
	if err := json.Unmarshal([]byte(text), &ms); err != nil {
		return err
	}
	if c.json {
		return writeJSON(c.out, ms)
	}
	for _, m := range ms {
		c.printf("%s on %s\n", c.show(m.Path), c.show(m.Dir))
	}
	return nil
}

// fuseError is an error without the names of the sysctl nodes by which mounts
// are made, which nobody who mounts knows.
type fuseError struct{ err error }

func (e fuseError) Error() string {
	text := e.err.Error()
	for _, node := range []string{"host.fuse.mount: ", "host.fuse.unmount: "} {
		if i := strings.LastIndex(text, node); i >= 0 {
			return text[i+len(node):]
		}
	}
	return text
}

func (e fuseError) Unwrap() error { return e.err }

func plainFuse(err error) error {
	if err == nil {
		return nil
	}
	return fuseError{err}
}
