package main

import (
	"context"
	"os"
	"strings"
	"syscall"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// poison are the file systems of the vfs component with a planted fault: the
// name of a new file can kill the process.
func poison() []modapi.Module { return []modapi.Module{poisoned{tmpfs.New()}, poisoned{fat.New()}} }

type poisoned struct{ modapi.Module }

func (m poisoned) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return m.Module.Init(ctx, poisonKernel{k}, r, p)
}

type poisonKernel struct{ modapi.Kernel }

func (k poisonKernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	return k.Kernel.AttachFS(name, poisonType{t}, c)
}

type poisonType struct{ vfsops.FSType }

func (t poisonType) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	fs, err := t.FSType.Mount(ctx, req)
	switch f := fs.(type) {
	case *tmpfs.FS:
		return &poisonTmpfs{f}, err
	case *fat.FS:
		return &poisonFAT{f}, err
	}
	return fs, err
}

type poisonTmpfs struct{ *tmpfs.FS }

func (f *poisonTmpfs) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	dieOf(req.Name)
	return f.FS.Create(ctx, req)
}

type poisonFAT struct{ *fat.FS }

func (f *poisonFAT) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	m, err := f.FS.Create(ctx, req)
	dieOf(req.Name) // half of it is done
	return m, err
}

// dieOf dies of a name as it says.
func dieOf(name []byte) {
	how, ok := strings.CutPrefix(string(name), "die-of-")
	if !ok {
		return
	}
	how, _, _ = strings.Cut(how, ".")
	switch how {
	case "panic":
		panic("a name that kills: " + string(name))
	case "exit":
		os.Exit(7)
	case "abort":
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	case "loop":
		for n := 0; ; n++ {
			_ = n
		}
	case "nil":
		var p *int
		*p = 1
	}
}
