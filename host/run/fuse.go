package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/export/fuse"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fuseMounts are the mounts of the kernel's files in the host's tree: those of
// exports/fuse, and those of `rumpus fuse`, which asks for them by the variables
// below host.fuse. They are in this process and not in the command's, so that
// the host's caches learn of every change before it is acknowledged, and so that
// a mount ends with the kernel and not with a terminal.
type fuseMounts struct {
	h *host

	mu     sync.Mutex // protects closed and mounts; one mount or unmount at a time
	closed bool
	mounts []*fuse.Server
}

// fuseWait bounds a mount that is asked for while the kernel runs.
const fuseWait = 20 * time.Second

// startFuse mounts what the configuration wants.
func (h *host) startFuse(ctx context.Context, m *fuseMounts) error {
	for i, e := range h.cfg.Exports.Fuse {
		if err := m.mount(ctx, e); err != nil {
			return fmt.Errorf("exports/fuse/%d: %w", i, err)
		}
	}
	for _, n := range []sysctl.Node{
		{Name: "host.fuse.mounts", Type: sysctl.TypeString, Owner: "fuse", Desc: "Mounts of the kernel's files in the host's tree, as JSON", Get: m.list},
		{Name: "host.fuse.mount", Type: sysctl.TypeString, Owner: "fuse", Desc: "Mounts when it is set: an entry of exports/fuse, as JSON",
			Get: sysctl.Const(""), Set: m.setMount},
		{Name: "host.fuse.unmount", Type: sysctl.TypeString, Owner: "fuse", Desc: "Unmounts a directory of the host when it is set",
			Get: sysctl.Const(""), Set: m.unmount},
	} {
		if err := h.k.Sysctl.Create(n); err != nil {
			return err
		}
	}
	return nil
}

func (m *fuseMounts) mount(ctx context.Context, e config.Fuse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("the kernel is ending: %w", abi.ESHUTDOWN)
	}
	s, err := fuse.Mount(ctx, m.h.k.VFS, m.h.fuseOptions(e))
	if err != nil {
		return err
	}
	m.mounts = append(m.gone(), s)
	return nil
}

// fuseOptions are those of an entry of exports/fuse.
func (h *host) fuseOptions(e config.Fuse) fuse.Options {
	o := fuse.Options{Dir: e.Dir, Path: e.Path, RO: e.RO, NoCache: e.NoCache, Xattr: e.Xattr,
		AllowOther: e.AllowOther, Log: h.k.Msg.Logger("fuse"), Evcnt: h.k.Evcnt.Attach}
	if e.Passthrough {
		o.Backing = h.backing
	}
	return o
}

// gone forgets mounts that somebody has unmounted. Preconditions: mu is held.
func (m *fuseMounts) gone() []*fuse.Server {
	m.mounts = slices.DeleteFunc(m.mounts, func(s *fuse.Server) bool {
		select {
		case <-s.Done():
			s.Close()
			return true
		default:
			return false
		}
	})
	return m.mounts
}

// setMount is what setting host.fuse.mount does.
func (m *fuseMounts) setMount(text string) error {
	var e config.Fuse
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || !filepath.IsAbs(e.Dir) {
		return fmt.Errorf("wanted an entry of exports/fuse with an absolute dir: %w", abi.EINVAL)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fuseWait)
	defer cancel()
	return m.mount(ctx, e)
}

// unmount is what setting host.fuse.unmount does. EINVAL if nothing of ours is
// mounted there.
func (m *fuseMounts) unmount(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.gone() {
		if s.Dir() == filepath.Clean(dir) {
			if err := s.Close(); err != nil {
				return err
			}
			m.mounts = slices.Delete(m.mounts, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("%s is no mount of this kernel: %w", dir, abi.EINVAL)
}

// fuseMount is a mount in a list.
type fuseMount struct {
	Dir  string `json:"dir"`
	Path string `json:"path"`
}

// list is the value of host.fuse.mounts.
func (m *fuseMounts) list() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := []fuseMount{}
	for _, s := range m.gone() {
		r = append(r, fuseMount{s.Dir(), s.Path()})
	}
	b, _ := json.Marshal(r)
	return string(b)
}

// close ends all mounts, beside each other.
func (m *fuseMounts) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	errs := make([]error, len(m.mounts))
	var wg sync.WaitGroup
	for i, s := range m.mounts {
		wg.Go(func() { errs[i] = s.Close() })
	}
	wg.Wait()
	m.mounts = nil
	return errors.Join(errs...)
}
