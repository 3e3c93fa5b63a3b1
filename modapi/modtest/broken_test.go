package modtest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// brokenEnv names the fault that the child process of TestKitNotices has.
const brokenEnv = "RUMPUS_MODTEST_FAULT"

// everything is what tmpfs has.
type everything interface {
	vfsops.FS
	vfsops.Creator
	vfsops.Remover
	vfsops.Renamer
	vfsops.Linker
	vfsops.Symlinker
	vfsops.Mknoder
	vfsops.Setattrer
	vfsops.Xattrer
	vfsops.Readlinker
	vfsops.Pinner
	vfsops.Reserver
	vfsops.Checkpointer
}

// broken is tmpfs with one fault.
type broken struct {
	everything
	fault    string
	restored bool // it is not the first process
}

func (b *broken) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	res, err := b.everything.Lookup(ctx, req)
	switch {
	case b.fault == "enoent" && res.Err == abi.ENOENT:
		res.Err = abi.EIO
	case b.fault == "one-name" && len(res.Trace) > 1:
		res.Trace = res.Trace[:1]
	case b.fault == "stop" && len(res.Trace) < len(req.Names) && res.Err == 0:
		res.Err = abi.ENOTDIR
	}
	return res, err
}

func (b *broken) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	if b.fault == "own-ids" {
		req.Op.Fileid = 0
	}
	if b.fault == "own-clock" && b.restored {
		req.Op.Now.Sec++
	}
	m, err := b.everything.Create(ctx, req)
	if b.fault == "stale-dir" {
		m.Dir.Mtime.Sec--
	}
	return m, err
}

// Checkpoint loses things, in several ways.
func (b *broken) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	if b.fault == "forgets-checkpoint" && seq > 20 {
		return nil
	}
	return b.everything.Checkpoint(ctx, seq)
}

func (b *broken) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	v, err := b.everything.Getattr(ctx, h)
	if b.fault == "forgets-pins" && b.restored && err == nil && v.Nlink == 0 {
		return v, abi.ESTALE
	}
	return v, err
}

func (b *broken) Reserve(ctx context.Context, n int64) (int64, error) {
	if b.fault == "reserves-less" && b.restored && n > 10 {
		n /= 2
	}
	return b.everything.Reserve(ctx, n)
}

func (b *broken) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	if b.fault == "victim" {
		res, _ := b.everything.Lookup(ctx, vfsops.LookupReq{Start: req.Dir, Names: [][]byte{req.Name}})
		if len(res.Trace) == 1 {
			req.Victim = res.Trace[0].Handle
		}
	}
	return b.everything.Remove(ctx, req)
}

func (b *broken) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	res, err := b.everything.Readdir(ctx, req)
	switch {
	case b.fault == "skip" && len(res.Entries) > 3 && !res.EOF:
		res.Entries = append(res.Entries[:1:1], res.Entries[2:]...)
	case b.fault == "dots" && req.Cookie == 0 && len(res.Entries) > 0:
		res.Entries[0].Name = "."
	case b.fault == "new-cookies" && b.restored:
		for i := range res.Entries {
			res.Entries[i].Cookie++
		}
	}
	return res, err
}

func (b *broken) Unpin(ctx context.Context, h abi.Handle) error {
	if b.fault == "leak" {
		return nil
	}
	return b.everything.Unpin(ctx, h)
}

func (b *broken) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	m, err := b.everything.Rename(ctx, req)
	if b.fault == "dir2" {
		m.Dir2 = abi.Vattr{}
	}
	return m, err
}

// brokenType mounts tmpfs with the fault; brokenKernel attaches it so.
type brokenType struct {
	vfsops.FSType
	fault string
}

func (t brokenType) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	fs, err := t.FSType.Mount(ctx, req)
	if err != nil {
		return nil, err
	}
	return &broken{everything: fs.(everything), fault: t.fault, restored: req.Seq > 0}, nil
}

type brokenKernel struct {
	modapi.Kernel
	fault string
}

// Store loses changes, or has its own idea of what is valid.
func (k brokenKernel) Store(mount abi.Fsid) modapi.Store {
	return &brokenStore{k.Kernel.Store(mount), k, mount}
}

type brokenStore struct {
	modapi.Store
	k     brokenKernel
	mount abi.Fsid
}

func (s *brokenStore) Write(ctx context.Context, ops []modapi.StoreOp) error {
	if s.k.fault == "forgets-changes" && len(ops) > 3 {
		ops = ops[1:]
	}
	err := s.Store.Write(ctx, ops)
	if k, ok := s.k.Kernel.(*modtest.Kernel); ok && s.k.fault == "valid-at-once" {
		st := k.StoreOf(s.mount)
		st.Commit(st.Seq()) // of a kernel that does not keep its word
	}
	return err
}

func (k brokenKernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	if k.fault == "claims" {
		c &^= vfsops.CapFixedids
	}
	return k.Kernel.AttachFS(name, brokenType{t, k.fault}, c)
}

type brokenModule struct {
	modapi.Module
	fault string
}

func (m brokenModule) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return m.Module.Init(ctx, brokenKernel{k, m.fault}, r, p)
}

// TestBrokenFS is what the child runs.
func TestBrokenFS(t *testing.T) {
	fault, ok := os.LookupEnv(brokenEnv)
	if !ok {
		t.Skip("run by TestKitNotices")
	}
	modtest.TestFS(t, func(*testing.T) modtest.FSUnderTest {
		return modtest.FSUnderTest{Mods: []modapi.Module{brokenModule{tmpfs.New(), fault}}, Type: "tmpfs"}
	})
}

// TestKitNotices: the kit finds each fault by the rule it is meant for, and
// nothing to complain about without one.
func TestKitNotices(t *testing.T) {
	for fault, rule := range map[string]string{
		"none":      "",
		"enoent":    "lookup",
		"one-name":  "lookup",
		"stop":      "lookup-stops",
		"stale-dir": "create",
		"victim":    "remove",
		"skip":      "readdir",
		"dots":      "readdir",
		"leak":      "pin",
		"dir2":      "rename",

		"claims":             "checkpoint-caps",
		"forgets-checkpoint": "checkpoint",
		"forgets-changes":    "checkpoint",
		"new-cookies":        "checkpoint-readdir",
		"own-clock":          "checkpoint-replay",
		"own-ids":            "checkpoint-ids",
		"forgets-pins":       "checkpoint-pin",
		"reserves-less":      "checkpoint-reserve",
		"valid-at-once":      "checkpoint-uncommitted",
	} {
		t.Run(fault, func(t *testing.T) {
			only := "." // all of them, without a fault
			if rule != "" {
				only = "^" + rule + "$"
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenFS$/"+only+"/direct", "-test.v")
			cmd.Env = append(os.Environ(), brokenEnv+"="+fault)
			out, err := cmd.CombinedOutput()
			if rule == "" {
				if err != nil {
					t.Errorf("without a fault: %v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBrokenFS/"+rule+" ") {
				t.Errorf("rule %s did not notice (%v)\n%s", rule, err, out)
			}
		})
	}
}
