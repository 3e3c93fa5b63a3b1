package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// bufSize is what cat, write, cp and nc move at once, in bytes.
const bufSize = 1 << 20

var catVerb = &verb{
	name: "cat", group: groupFiles, synopsis: []string{"[-n BYTES] FILE ..."}, min: 1, max: -1,
	short: "write files to standard output",
	long:  []string{"Writes the FILEs of the kernel to standard output, one behind the other. With -n, at most so many bytes of each, which is how to read a device that has no end; BYTES may have k, m, g or t behind it, powers of 1024."},
	examples: []example{
		{"rumpus cat /etc/motd", "A file."},
		{"rumpus cat -n 16 /dev/urandom", "Sixteen random bytes."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		bytes := fs.StringP("bytes", "n", "", "stop after `BYTES` of each file")
		return func(ctx context.Context, c *call, args []string) error {
			limit := int64(-1)
			if fs.Changed("bytes") {
				size, err := config.ParseSize(*bytes)
				if err != nil || size.Percent != 0 {
					return usagef("-n %q is no number of bytes such as 4096, 64k or 16m", *bytes)
				}
				limit = int64(size.Bytes)
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			buf := make([]byte, bufSize)
			return c.each(ctx, args, func(p string) error { return cat(ctx, c, k, p, limit, buf) })
		}
	},
}

func cat(ctx context.Context, c *call, k *rumpclient.Client, p string, limit int64, buf []byte) error {
	fd, err := k.Open(ctx, p, abi.O_RDONLY|abi.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer k.Close(context.WithoutCancel(ctx), fd)
	st, err := k.Fstat(ctx, fd)
	if err != nil {
		return err
	}
	if st.Type == abi.VDIR {
		return fmt.Errorf("read %s: %w", p, abi.EISDIR)
	}
	// What comes from a device or fifo is shown as it comes.
	flush := st.Type != abi.VREG
	for limit != 0 {
		b := buf
		if limit >= 0 && limit < int64(len(b)) {
			b = b[:limit]
		}
		n, err := k.Read(ctx, fd, b)
		if n > 0 {
			if _, err := c.out.Write(b[:n]); err != nil {
				return fmt.Errorf("standard output: %w", err)
			}
			if limit > 0 {
				limit -= int64(n)
			}
		}
		if err != nil {
			return named(err, p)
		}
		if n == 0 {
			return nil
		}
		if flush {
			if err := c.out.Flush(); err != nil {
				return fmt.Errorf("standard output: %w", err)
			}
		}
	}
	return nil
}

// named adds the path to an error of a call that knows only a descriptor.
func named(err error, p string) error {
	var e *rumpclient.Error
	if errors.As(err, &e) && e.Path == "" {
		return fmt.Errorf("%s: %w", p, err)
	}
	return err
}

var writeVerb = &verb{
	name: "write", group: groupFiles, synopsis: []string{"[-a] [-m MODE] FILE"}, min: 1, max: 1,
	short:    "write standard input into a file",
	long:     []string{"Copies standard input to FILE in the kernel. The file is created if it is missing, and cut to length 0 first unless -a is given."},
	examples: []example{{"echo hello | rumpus write /greeting", "A file with one line."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		app := fs.BoolP("append", "a", false, "write behind what is there")
		mode := fs.StringP("mode", "m", "0666", "permissions of a new file, in octal, less the umask: `MODE`")
		return func(ctx context.Context, c *call, args []string) error {
			m, err := octal(*mode)
			if err != nil {
				return err
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return writeFile(ctx, c, k, args[0], *app, m)
		}
	},
}

func writeFile(ctx context.Context, c *call, k *rumpclient.Client, p string, app bool, mode uint32) (err error) {
	flags := abi.O_WRONLY | abi.O_CREAT | abi.O_CLOEXEC | abi.O_TRUNC
	if app {
		flags ^= abi.O_TRUNC | abi.O_APPEND
	}
	fd, err := k.Open(ctx, p, flags, mode)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := k.Close(context.WithoutCancel(ctx), fd); err == nil {
			err = named(cerr, p)
		}
	}()
	buf := make([]byte, bufSize)
	for {
		n, rerr := c.stdin.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			w, err := k.Write(ctx, fd, b)
			if err != nil {
				return named(err, p)
			}
			if w == 0 {
				return fmt.Errorf("write %s: %w", p, io.ErrShortWrite)
			}
			b = b[w:]
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return fmt.Errorf("standard input: %w", rerr)
		}
	}
}

var readlinkVerb = &verb{
	name: "readlink", group: groupFiles, synopsis: []string{"FILE ..."}, min: 1, max: -1,
	short:    "show where symbolic links point",
	long:     []string{"Writes the text of each symbolic link, one a line."},
	examples: []example{{"rumpus readlink /etc/localtime", "Where does it point?"}},
	setup: func(*pflag.FlagSet) runFunc {
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			type link struct {
				Name   string `json:"name"`
				Target string `json:"target"`
			}
			links := []link{}
			err = c.each(ctx, args, func(p string) error {
				t, err := k.Readlink(ctx, p)
				if err != nil {
					return err
				}
				if c.json {
					links = append(links, link{p, t})
				} else {
					c.printf("%s\n", c.show(t))
				}
				return nil
			})
			if err == nil && c.json {
				err = writeJSON(c.out, links)
			}
			return err
		}
	},
}

var touchVerb = &verb{
	name: "touch", group: groupFiles, synopsis: []string{"[-acm] [-h] [-d TIME] FILE ..."}, min: 1, max: -1,
	short:    "set the times of files, making them if they are missing",
	long:     []string{"Sets access and modification time of each FILE to now, or to TIME, which is written as in 2006-01-02T15:04:05Z (fractions are allowed). A missing file is created empty."},
	examples: []example{{"rumpus touch -d 1999-12-31T23:59:59Z /old", "A file from another century."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		a := fs.BoolP("access", "a", false, "only the access time")
		m := fs.BoolP("modification", "m", false, "only the modification time")
		no := fs.BoolP("no-create", "c", false, "do not create missing files")
		h := fs.BoolP("no-dereference", "h", false, "a symbolic link's own times; implies -c")
		d := fs.StringP("date", "d", "", "the `TIME` to set")
		return func(ctx context.Context, c *call, args []string) error {
			t := abi.Timespec{Nsec: abi.UTIME_NOW}
			if *d != "" {
				var err error
				if t, err = parseTime(*d); err != nil {
					return err
				}
			}
			at, mt, omit := t, t, abi.Timespec{Nsec: abi.UTIME_OMIT}
			if *a && !*m {
				mt = omit
			}
			if *m && !*a {
				at = omit
			}
			flags := 0
			if *h {
				flags = abi.AT_SYMLINK_NOFOLLOW
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args, func(p string) error {
				err := k.Utimensat(ctx, abi.AT_FDCWD, p, at, mt, flags)
				if !errors.Is(err, abi.ENOENT) {
					return err
				}
				if *no || *h {
					return nil
				}
				fd, err := k.Open(ctx, p, abi.O_WRONLY|abi.O_CREAT|abi.O_CLOEXEC, 0o666)
				if err != nil {
					return err
				}
				defer k.Close(context.WithoutCancel(ctx), fd)
				if *d == "" {
					return nil
				}
				return named(k.Futimens(ctx, fd, at, mt), p)
			})
		}
	},
}

var statVerb = &verb{
	name: "stat", group: groupFiles, synopsis: []string{"[-Ln] [-f FORMAT] FILE ..."}, min: 1, max: -1,
	short: "show all attributes of files",
	long: []string{
		"Shows what lstat(2) knows about each FILE; with -L, what stat(2) does, which follows symbolic links.",
		"With -f, FORMAT is written for each FILE, and a newline unless -n is given. In it, % begins what is put in, as in NetBSD's stat(1): flags as in printf(3) (#, +, -, 0, space), a width, a precision behind a dot, a way to show it (D signed, U unsigned, O octal, X hexadecimal, F with a fraction, S text), a part of it (H high, M middle, L low), and one of these letters:",
		"   N  name                     p  type and permissions: Lp permissions,\n" +
			"   Y  target of a link            Mp set-id and sticky bits, Hp type,\n" +
			"   T  type, as ls -F marks        Sp as ls -l shows them\n" +
			"      it; HT in words          a, m, c, B  times of access, change,\n" +
			"   z  size in bytes               change of attributes, birth: seconds,\n" +
			"   b  blocks of 512 bytes         Fm with nanoseconds, Sm readable\n" +
			"   k  preferred transfer       d, r  device it is on, device it is:\n" +
			"   i  file number                 Hr major, Lr minor\n" +
			"   l  links                    Z  size, or MAJOR,MINOR of a device\n" +
			"   u, g  owner                 f, v  flags, generation\n" +
			"   n, t, %  newline, tab, %    @  number of the FILE, from 1",
	},
	examples: []example{
		{"rumpus stat --json /dev/null", "The attributes of a device, for a program."},
		{"rumpus stat -f '%Lp %u:%g %N' /etc/*", "Permissions, owner and name."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		format := fs.StringP("format", "f", "", "what to write for each FILE: `FORMAT`")
		follow := fs.BoolP("dereference", "L", false, "follow symbolic links")
		bare := fs.BoolP("no-newline", "n", false, "with -f, no newline behind each FILE")
		return func(ctx context.Context, c *call, args []string) error {
			fields, err := parseStatFormat(*format)
			if err != nil {
				return err
			}
			if !*bare {
				fields = append(fields, statField{text: "\n"})
			}
			nth := 0
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			all := []fileJSON{}
			err = c.each(ctx, args, func(p string) error {
				nth++
				fi := fileInfo{name: p}
				get := k.Lstat
				if *follow {
					get = k.Stat
				}
				if fi.st, err = get(ctx, p); err != nil {
					return err
				}
				if fi.st.Type == abi.VLNK {
					if fi.target, err = k.Readlink(ctx, p); err != nil {
						return err
					}
				}
				switch {
				case c.json:
					all = append(all, fi.json())
				case *format != "":
					c.out.Write(appendStat(nil, fields, &fi, nth, c.show))
				default:
					c.out.WriteString(statText(&fi, c.show))
				}
				return nil
			})
			if err == nil && c.json {
				err = writeJSON(c.out, all)
			}
			return err
		}
	},
}

// statText is a file in the manner of stat -x.
func statText(fi *fileInfo, show func(string) string) string {
	var b bytes.Buffer
	v := &fi.st.Vattr
	name := show(fi.name)
	if fi.target != "" {
		name += " -> " + show(fi.target)
	}
	fmt.Fprintf(&b, "  File: %s\n", name)
	fmt.Fprintf(&b, "  Size: %-12d Blocks: %-8d IO Block: %-7d Type: %s\n", v.Size, (v.Bytes+abi.S_BLKSIZE-1)/abi.S_BLKSIZE, v.Blksize, v.Type)
	fmt.Fprintf(&b, "  Mode: (%04o/%s)  Uid: %d  Gid: %d\n", v.Mode&abi.ALLPERMS, modeString(v.Type, v.Mode), v.Uid, v.Gid)
	fmt.Fprintf(&b, "Device: %d  Inode: %d  Links: %d", fi.st.Dev, v.Fileid, v.Nlink)
	if v.Type == abi.VCHR || v.Type == abi.VBLK {
		fmt.Fprintf(&b, "  Rdev: %v", v.Rdev)
	}
	b.WriteByte('\n')
	for _, t := range [...]struct {
		name string
		t    abi.Timespec
	}{{"Access", v.Atime}, {"Modify", v.Mtime}, {"Change", v.Ctime}, {" Birth", v.Btime}} {
		fmt.Fprintf(&b, "%s: %s\n", t.name, t.t.Time().UTC().Format("2006-01-02T15:04:05.000000000Z"))
	}
	return b.String()
}
