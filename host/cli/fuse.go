package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
)

var fuseVerb = &verb{
	name: "fuse", group: groupMounts, synopsis: []string{"", "[--ro] [--nocache] [--xattr] [--allow-other] [--passthrough] [-p PATH] DIRECTORY", "-u DIRECTORY"}, max: 1,
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
		pass := fs.Bool("passthrough", false, "the host reads and writes the files of hostfs mounts itself (root only)")
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
			f := config.Fuse{Dir: dir, Path: *path, RO: *ro, NoCache: *nocache, Xattr: *xattr, AllowOther: *other, Passthrough: *pass}
			if c.img != nil {
				if *unmount {
					return usagef("the mount of an image ends with its command, or by fusermount3 -u %s", args[0])
				}
				return serveImage(ctx, c, f)
			}
			if *unmount {
				return plainFuse(k.SysctlSet(ctx, "host.fuse.unmount", dir))
			}
			b, err := json.Marshal(f)
			if err != nil {
				return err
			}
			return plainFuse(k.SysctlSet(ctx, "host.fuse.mount", string(b)))
		}
	},
}

// serveImage mounts an image and serves the mount until the command is ended or
// somebody unmounts it.
func serveImage(ctx context.Context, c *call, f config.Fuse) error {
	c.served = true
	f.RO = f.RO || !c.rw
	s, err := c.img.k.Fuse(ctx, f)
	if err != nil {
		return err
	}
	if !c.quiet {
		fmt.Fprintf(c.stderr, "rumpus: %s is mounted on %s until Ctrl-C, or fusermount3 -u\n", printable(c.image), printable(f.Dir))
	}
	select {
	case <-ctx.Done():
	case <-s.Done():
	}
	return s.Close()
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
