package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/host/config"
	runner "github.com/rumpus-kernel/rumpus/host/run"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// image is a disk image with a kernel of its own in this process: --image FILE.
// The kernel knows nothing of the image's format: components of it, processes of
// their own, say what it holds and read it.
type image struct {
	k    *runner.Embedded
	disk *rumpclient.Client // the process that looked at the disk and mounted it
}

// The disk of an image in the kernel, and its partitions: disk0p1.
const imageDisk = "disk0"

// fsTypes are the types of file systems that can be mounted, by the name that a
// component knows the contents under (that of blkid).
var fsTypes = map[string]string{"vfat": "msdos", "ext2": "ext2", "ext3": "ext4", "ext4": "ext4"}

// mountable is a file system in an image.
type mountable struct {
	node string // disk0, disk0p2
	what string // "partition 2 (Linux filesystem)", "" for the whole image
	is   probed
}

// fsName is how it is called for people: ext4 "root".
func (m *mountable) fsName() string {
	s := m.is.Contents.Type
	if l := m.is.Contents.Label; l != "" {
		s += fmt.Sprintf(" %q", l)
	}
	return s
}

// openImage boots a kernel, finds the file system in the image and mounts it on
// /; and answers a client that has it as its root.
func (c *call) openImage(ctx context.Context) (*rumpclient.Client, error) {
	path, err := filepath.Abs(c.image)
	if err != nil {
		return nil, err
	}
	if err := looksLikeImage(path, c.rw); err != nil {
		return nil, fmt.Errorf("%s: %w", c.image, err)
	}
	stop := c.patience("opening " + c.image)
	defer stop()
	cfg, err := c.imageConfig(path)
	if err != nil {
		return nil, err
	}
	k, err := runner.Embed(ctx, runner.Options{Config: cfg, Stdout: c.stdout, Stderr: c.stderr, Verbose: c.verbose, Environ: c.environ})
	if err != nil {
		return nil, err
	}
	im := &image{k: k}
	cl, err := im.mount(ctx, c, stop)
	if err != nil {
		im.end()
		return nil, err
	}
	c.img = im
	return cl, nil
}

// looksLikeImage says early and plainly what the boot would wrap in much text.
func looksLikeImage(path string, rw bool) error {
	st, err := os.Stat(path)
	if err != nil {
		return bare(err)
	}
	if st.IsDir() {
		return abi.EISDIR
	}
	if !st.Mode().IsRegular() && st.Mode()&fs.ModeDevice == 0 {
		return fmt.Errorf("is neither a file nor a disk: %w", abi.ENOTBLK)
	}
	how := os.O_RDONLY
	if rw {
		how = os.O_RDWR
	}
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		return bare(err)
	}
	return f.Close()
}

// bare is an error without the operation and the path.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// imageConfig is the configuration of such a kernel: one process for the file
// system, one that looks at the disk, none beside them.
func (c *call) imageConfig(path string) (*config.Config, error) {
	o := config.Options{Path: os.DevNull, Environ: c.environ, Overrides: map[string]any{
		"components/net/enabled":       false,
		"components/vfs/restart/spare": false,
		"components/dev/restart/spare": false,
	}}
	for _, s := range c.set {
		key, val, err := config.ParseSet(s)
		if err != nil {
			return nil, err
		}
		o.Overrides[key] = val
	}
	cfg, err := config.Load(o)
	if err != nil {
		return nil, err
	}
	cfg.Mounts = []config.Mount{{Dir: "/", Type: "tmpfs", Options: map[string]any{"size": 1 << 20}}}
	cfg.Devices = map[string]config.Device{imageDisk: {Etfs: path, RO: !c.rw}}
	return cfg, nil
}

// mount finds what to mount and mounts it. said ends the notice of a long wait.
func (im *image) mount(ctx context.Context, c *call, said func()) (*rumpclient.Client, error) {
	var err error
	if im.disk, err = im.k.Kernel().Client("image"); err != nil {
		return nil, err
	}
	m, err := im.find(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.image, err)
	}
	flags, access := abi.MNT_RDONLY, "read-only"
	if c.rw {
		flags, access = 0, "read-write"
	}
	t := fsTypes[m.is.Contents.Type]
	if err := im.disk.Mount(ctx, t, "/", flags, m.node, nil); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.image, strings.TrimSpace(m.what+" "+m.fsName()), err)
	}
	said()
	// The file system may have refused to be written: what holds is what the
	// kernel says.
	cl, err := im.k.Kernel().Client("rumpus")
	if err != nil {
		return nil, err
	}
	if sv, err := cl.Statvfs(ctx, "/"); err == nil && c.rw && sv.Flag&abi.MNT_RDONLY != 0 {
		access = "read-only, whatever --rw says: the file system cannot be written"
	}
	if !c.quiet {
		what := m.fsName()
		if m.what != "" {
			what = m.what + ": " + what
		}
		fmt.Fprintf(c.stderr, "rumpus: %s: %s, %s\n", printable(c.image), printable(what), access)
	}
	return cl, nil
}

// find is the file system of the image: the whole of it, that of --partition, or
// the only one there is.
func (im *image) find(ctx context.Context, c *call) (*mountable, error) {
	whole, err := im.probe(ctx, imageDisk)
	if err != nil {
		return nil, err
	}
	if whole.Table == nil || whole.Contents.Kind == "filesystem" {
		if c.partition != 0 {
			return nil, fmt.Errorf("--partition %d: there is no partition table, but %s: %w", c.partition, contents(whole), abi.ENOENT)
		}
		return usable(&mountable{node: imageDisk, is: *whole})
	}
	parts := slices.Concat(whole.Table.Parts, whole.Table.Inner)
	arg, _ := json.Marshal(map[string]string{"name": imageDisk})
	if _, err := im.disk.AttachDisk(ctx, "dk", imageDisk, arg); err != nil {
		return nil, fmt.Errorf("its partitions: %w", err)
	}
	var found []*mountable
	var list []string
	for _, p := range parts {
		what := fmt.Sprintf("partition %d (%s)", p.Num, p.Type)
		if p.Err != "" {
			list = append(list, what+": "+p.Err)
			continue
		}
		is, err := im.probe(ctx, imageDisk+p.Suffix)
		if err != nil {
			list = append(list, what+": "+errorText(err))
			continue
		}
		m := &mountable{imageDisk + p.Suffix, what, *is}
		list = append(list, what+": "+contents(is))
		switch {
		case c.partition == p.Num:
			return usable(m)
		case fsTypes[is.Contents.Type] != "":
			found = append(found, m)
		}
	}
	text := strings.Join(list, "\n  ")
	switch {
	case c.partition != 0:
		return nil, fmt.Errorf("there is no partition %d, but:\n  %s\n%w", c.partition, text, abi.ENOENT)
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return nil, fmt.Errorf("no partition holds a file system that can be mounted:\n  %s\n%w", text, abi.EOPNOTSUPP)
	}
	return nil, fmt.Errorf("several partitions can be mounted; choose one by --partition N:\n  %s\n%w", text, abi.EINVAL)
}

// usable answers m if its file system is one that can be mounted.
func usable(m *mountable) (*mountable, error) {
	if fsTypes[m.is.Contents.Type] == "" {
		what := m.what
		if what == "" {
			what = "the image"
		}
		return nil, fmt.Errorf("%s holds %s, which cannot be mounted (only %s can): %w", what, contents(&m.is), knownTypes(), abi.EOPNOTSUPP)
	}
	return m, nil
}

func knownTypes() string {
	var names []string
	for n := range fsTypes {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// contents says what a component has found.
func contents(p *probed) string {
	s := p.Contents.Kind
	if p.Contents.Type != "" {
		s = p.Contents.Type
		if p.Contents.Kind != "filesystem" {
			s += " (" + p.Contents.Kind + ")"
		}
	}
	switch s {
	case "blank":
		s = "nothing but zeroes"
	case "", "unknown":
		s = "nothing that is known"
	}
	if p.Contents.Label != "" {
		s += fmt.Sprintf(" %q", p.Contents.Label)
	}
	return s
}

// probe asks a component what a disk holds.
func (im *image) probe(ctx context.Context, node string) (*probed, error) {
	b, err := im.disk.ProbeDisk(ctx, node)
	if err != nil {
		return nil, err
	}
	p := new(probed)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("what it holds: the component's answer makes no sense: %w (%v)", abi.EIO, err)
	}
	return p, nil
}

// imageEnd bounds the unmounting of an image.
const imageEnd = 5 * time.Minute

// end unmounts, which writes what is not yet on disk, and ends the kernel. The
// error says what could not be written.
func (im *image) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), imageEnd)
	defer cancel()
	var err error
	if im.disk != nil {
		// Not mounted: then / is the tmpfs, which cannot be unmounted.
		if list, e := im.disk.Getvfsstat(ctx, abi.MNT_NOWAIT); e == nil && len(list) > 1 {
			err = im.disk.Unmount(ctx, "/", 0)
		}
		im.disk.Exit()
	}
	return errors.Join(err, im.k.Close())
}

// patience says on a terminal what is waited for, if it takes longer than a
// second, and for how long. The function that it gives ends that; it may be
// called again.
func (c *call) patience(what string) func() {
	if c.quiet || !isTerminal(c.stderr) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		begin, shown := time.Now(), false
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(c.stderr, "\r\033[K")
				}
				return
			case <-tick.C:
			}
			shown = true
			fmt.Fprintf(c.stderr, "\r\033[K%s: %s", printable(what), time.Since(begin).Round(time.Second))
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-done })
}

// imageVerbs are the verbs that make sense for an image: those about its files.
var imageVerbs = []string{"ls", "cat", "write", "cp", "mkdir", "rm", "rmdir", "mv", "ln", "readlink", "stat", "touch", "chmod", "chown",
	"find", "du", "tree", "df", "fuse", "sh"}

// imageUsage checks the flags of an image.
func imageUsage(g *globals, v *verb) error {
	switch {
	case g.image == "" && g.rw:
		return usagef("--rw is for --image FILE")
	case g.image == "" && g.partition != 0:
		return usagef("--partition is for --image FILE")
	case g.image == "":
		return nil
	case g.server != "":
		return usagef("--image and --server: it is the one or the other")
	case g.partition < 0:
		return usagef("--partition %d is negative", g.partition)
	case v.name != "help" && !slices.Contains(imageVerbs, v.name):
		return usagef("%s is for a running kernel, not for an image; with --image there are %s", v.name, strings.Join(imageVerbs, ", "))
	}
	return nil
}

// hint is what to do about an error, if it is known.
func (c *call) hint(err error) string {
	if c.image != "" && !c.rw && errors.Is(err, abi.EROFS) {
		return "; --rw lets the image be written"
	}
	return ""
}
