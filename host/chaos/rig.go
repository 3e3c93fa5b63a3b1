package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
)

// rigKind says what a kernel has.
type rigKind int

// The rigs. Each has tmpfs on /, /dev, the network and /host of the host.
const (
	rigEtfs rigKind = iota // FAT on an image of the host, an encrypted disk in use
	rigCgd                 // FAT on an encrypted disk on an image of the host
	rigMd                  // FAT on memory of dev, which therefore is left alone
	rigs
)

var rigNames = [rigs]string{"etfs", "cgd", "md"}

func (k rigKind) String() string { return rigNames[k] }

const (
	fatSize  = 24 << 20
	diskSize = 4 << 20
)

// rig is a host with its files and control pages.
type rig struct {
	kind  rigKind
	dir   string
	cfg   string
	real  string // a directory of the host, granted
	h     *host
	pages map[string]*page
	calls *atomic.Int64 // system calls that were answered

	disk string // what /fat is on
	lie  *liar  // nil: answers are not tampered with
}

// newRig makes the files. They are removed by close.
func newRig(kind rigKind, calls *atomic.Int64) (*rig, error) {
	dir, err := os.MkdirTemp("/tmp", "rumpus-chaos")
	if err != nil {
		return nil, err
	}
	r := &rig{kind: kind, dir: dir, cfg: filepath.Join(dir, "config.yaml"), real: filepath.Join(dir, "real"), pages: map[string]*page{}, calls: calls}
	if err := r.files(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *rig) files() error {
	if err := os.Chmod(r.dir, 0o755); err != nil { // components have another uid
		return err
	}
	if err := os.Mkdir(r.real, 0o755); err != nil {
		return err
	}
	exe, err := program()
	if err != nil {
		return err
	}
	var comps strings.Builder
	for _, name := range []string{"vfs", "net", "dev"} {
		path := filepath.Join(r.dir, name+".page")
		if r.pages[name], err = makePage(path); err != nil {
			return err
		}
		grants := fmt.Sprintf("%q", "host.file:"+path+":rw")
		if name == "vfs" {
			grants += fmt.Sprintf(", %q", "host.dir:"+r.real+":rw")
		}
		fmt.Fprintf(&comps, "  %s: {plugin: %q, grant: [%s], props: {%s: %q}, restart: {budget: 1000, window: 1s, wait: 90s, spare: %v}}\n",
			name, exe, grants, pageProp, path, name == "vfs")
	}
	devices, mounts := "", ""
	for name, size := range map[string]int64{"disk0": fatSize, "disk1": diskSize} {
		img := r.image(name)
		f, err := os.Create(img)
		if err != nil {
			return err
		}
		err = f.Truncate(size)
		if name == "disk0" && r.kind == rigEtfs && err == nil {
			err = fat.Format(f, size, fat.FormatOptions{Bits: 16, Cluster: 2048})
			mounts = "  - {dir: /fat, type: msdos, source: disk0, essential: true}\n"
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		devices += fmt.Sprintf("  %s: {etfs: %q}\n", name, img)
	}
	if r.kind == rigMd {
		devices += fmt.Sprintf("  md0: {md: %d}\n", fatSize)
	}
	yaml := fmt.Sprintf(`kernel: {memlimit: 256m, sysctl: {kern.maxfiles: 8192}}
server: {socket: %q}
log: {level: warn}
components:
%sdevices:
%smounts:
  - {dir: /, type: tmpfs, essential: true}
  - {dir: /dev, type: devfs}
%s  - {dir: /host, type: hostfs, source: %q, options: {exclusive: ""}}
`, r.sock(), comps.String(), devices, mounts, r.real)
	return os.WriteFile(r.cfg, []byte(yaml), 0o600)
}

func (r *rig) image(name string) string { return filepath.Join(r.dir, name+".img") }
func (r *rig) sock() string             { return filepath.Join(r.dir, "s", "k.sock") }

// boot starts the host for the first time, and makes the FAT.
func (r *rig) boot(ctx context.Context) error { return r.start(ctx, true) }

// again starts it when it has died.
func (r *rig) again(ctx context.Context) error { return r.start(ctx, false) }

func (r *rig) start(ctx context.Context, format bool) (err error) {
	r.disk = "disk0"
	if r.h, err = startHost(ctx, r.cfg, r.sock()); err != nil || r.kind == rigEtfs {
		return err
	}
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	defer c.Exit()
	r.disk = "md0"
	if r.kind == rigCgd {
		if r.disk, err = attachCgd(ctx, c, "disk0"); err != nil {
			return err
		}
	}
	if format {
		if err := r.format(ctx, c, r.disk); err != nil {
			return err
		}
	}
	if err := c.Mkdir(ctx, "/fat", 0o755); err != nil {
		return err
	}
	return c.Mount(ctx, "msdos", "/fat", 0, r.disk, nil)
}

// format makes a FAT on a block device of the kernel.
func (r *rig) format(ctx context.Context, c *rumpclient.Client, disk string) error {
	fd, err := c.Open(ctx, "/dev/"+disk, abi.O_RDWR, 0)
	if err != nil {
		return err
	}
	w := &fdWriter{ctx: ctx, c: c, fd: fd}
	st, err := c.Disks(ctx)
	size := int64(0)
	for _, d := range st {
		if d.Name == disk {
			size = d.Size
		}
	}
	if err == nil {
		err = fat.Format(w, size, fat.FormatOptions{Bits: 16, Cluster: 2048})
	}
	if err == nil {
		err = c.Fsync(ctx, fd)
	}
	if err = errors.Join(err, c.Close(ctx, fd)); err != nil {
		return fmt.Errorf("format %s of %d bytes: %w", disk, size, err)
	}
	return nil
}

// fdWriter writes at offsets of a descriptor.
type fdWriter struct {
	ctx context.Context
	c   *rumpclient.Client
	fd  int
}

func (w *fdWriter) WriteAt(p []byte, off int64) (int, error) {
	return w.c.Pwrite(w.ctx, w.fd, p, off)
}

// attachCgd makes an encrypted disk of a node and answers the node of it.
func attachCgd(ctx context.Context, c *rumpclient.Client, on string) (string, error) {
	q := cgdio.Request{Kind: cgdio.CGD, Unit: cgdio.AnyUnit, Slot: cgdio.AnySlot,
		Params:  []byte("algorithm aes-xts; keylength 512; verify_method none; keygen pkcs5_pbkdf2/sha1 {iterations 50; salt AAAAgMoHiYonye6KogdYJAobCHE=;};"),
		Secrets: [][]byte{[]byte("a passphrase")}}
	arg, err := q.Encode()
	if err != nil {
		return "", err
	}
	names, err := c.AttachDisk(ctx, "cgd", on, arg)
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("cgd on %s has no node: %w", on, abi.ENXIO)
	}
	return names[0], nil
}

// counted counts system calls, and has them answered falsely for the tests.
type counted struct {
	rumpclient.Caller
	n   *atomic.Int64
	lie *liar
}

func (k counted) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	k.n.Add(1)
	if k.lie != nil {
		return k.lie.syscall(ctx, k.Caller, num, a)
	}
	return k.Caller.Syscall(ctx, num, a)
}

// client connects a process of its own.
func (r *rig) client(ctx context.Context) (*rumpclient.Client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", r.sock())
	if err != nil {
		return nil, err
	}
	k, err := rumpclient.NewRemote(ctx, nc)
	if err != nil {
		return nil, err
	}
	return rumpclient.New(counted{k, r.calls, r.lie}), nil
}

// fsck checks an image of the host.
func fsck(img string) error {
	out, err := exec.Command("fsck.vfat", "-n", "-V", img).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	} else if err != nil && !fatInUse(out) {
		return fmt.Errorf("fsck.vfat %s: %w\n%s", img, err, out)
	}
	return nil
}

// fatInUse reports whether fsck.vfat has nothing to say but that the image was
// not unmounted (the dirty flag).
func fatInUse(out []byte) bool {
	dirty := false
	for line := range strings.Lines(string(out)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "Dirty bit is set."):
			dirty = true
		case line == "", strings.HasPrefix(line, "fsck.fat "), strings.HasPrefix(line, "Starting "), strings.HasSuffix(line, " clusters") && strings.Contains(line, " files, "),
			line == "Automatically removing dirty bit.", line == "Leaving filesystem unchanged.":
		default:
			return false
		}
	}
	return dirty
}

// close ends the host, if it runs, and removes the files.
func (r *rig) close() {
	if r.h != nil {
		r.h.kill()
	}
	for _, p := range r.pages {
		if p != nil {
			p.close()
		}
	}
	os.RemoveAll(r.dir)
}
