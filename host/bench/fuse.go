package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// fuseDir is a directory of the memory file system.
type fuseDir struct {
	fs.Inode
	nocache bool
}

var (
	_ fs.NodeMkdirer  = (*fuseDir)(nil)
	_ fs.NodeCreater  = (*fuseDir)(nil)
	_ fs.NodeUnlinker = (*fuseDir)(nil)
	_ fs.NodeRmdirer  = (*fuseDir)(nil)
	_ fs.NodeOpener   = (*fuseFile)(nil)
)

// fuseFile is a regular file; without caches its I/O is direct.
type fuseFile struct {
	fs.MemRegularFile
	nocache bool
}

// Open answers no handle: reads and writes go to the node.
func (f *fuseFile) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if f.nocache {
		return nil, fuse.FOPEN_DIRECT_IO, 0
	}
	return f.MemRegularFile.Open(ctx, flags)
}

// Mkdir makes a directory.
func (d *fuseDir) Mkdir(ctx context.Context, _ string, _ uint32, _ *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.NewInode(ctx, &fuseDir{nocache: d.nocache}, fs.StableAttr{Mode: syscall.S_IFDIR}), 0
}

// Create makes a file.
func (d *fuseDir) Create(ctx context.Context, _ string, _ uint32, _ uint32, _ *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return d.file(ctx, nil), nil, 0, 0
}

// Unlink lets go-fuse drop the name.
func (d *fuseDir) Unlink(context.Context, string) syscall.Errno { return 0 }

// Rmdir lets go-fuse drop the name.
func (d *fuseDir) Rmdir(context.Context, string) syscall.Errno { return 0 }

func (d *fuseDir) file(ctx context.Context, data []byte) *fs.Inode {
	return d.NewInode(ctx, &fuseFile{MemRegularFile: fs.MemRegularFile{Data: data, Attr: fuse.Attr{Mode: 0o644}}, nocache: d.nocache},
		fs.StableAttr{Mode: syscall.S_IFREG})
}

// fuseRoot is the directory that is mounted.
type fuseRoot struct{ fuseDir }

var _ fs.NodeOnAdder = (*fuseRoot)(nil)

// OnAdd makes the files.
func (d *fuseRoot) OnAdd(ctx context.Context) {
	for i := range maxCallers {
		d.AddChild(name("f", i), d.file(ctx, pattern(largeIO)), true)
	}
	many := &fuseDir{nocache: d.nocache}
	d.AddChild("many", d.NewPersistentInode(ctx, many, fs.StableAttr{Mode: syscall.S_IFDIR}), true)
	for i := range dirEntries {
		many.AddChild(name("f", i), many.file(ctx, nil), true)
	}
}

// fuseRole is the child that serves two mounts below dir: hit, which the host
// caches, and miss, which it does not.
func fuseRole(dir string) int {
	var servers []*fuse.Server
	defer func() {
		for _, s := range servers {
			s.Unmount()
		}
	}()
	for _, sub := range []string{"hit", "miss"} {
		var ttl time.Duration
		if sub == "hit" {
			ttl = time.Hour
		}
		path := dir + "/" + sub
		err := os.Mkdir(path, 0o755)
		if err == nil {
			var s *fuse.Server
			s, err = fs.Mount(path, &fuseRoot{fuseDir{nocache: ttl == 0}}, &fs.Options{EntryTimeout: &ttl, AttrTimeout: &ttl,
				NullPermissions: true, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
				MountOptions: fuse.MountOptions{DirectMount: os.Getuid() == 0, FsName: "rumpus-bench", MaxWrite: largeIO,
					Options: []string{"default_permissions"}}})
			if err == nil {
				servers = append(servers, s)
			}
		}
		if err != nil {
			say(sample{}, fmt.Errorf("mount %s: %w", path, err))
			return 1
		}
	}
	say(sample{}, nil)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// startFuse starts a role that mounts hit and miss below dir; errAbsent when the
// machine cannot.
func startFuse(role, dir string) (*linux, *child, error) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: %w", err, errAbsent)
	}
	f.Close()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, nil, err
	}
	c, err := startChild(role, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: %w", err, errAbsent)
	}
	return &linux{dir: dir + "/hit", cross: dir + "/miss", files: true}, c, nil
}
