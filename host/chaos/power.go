package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// The tier power: power cuts, played on a recorded disk, and the death of a host.

const (
	powerImage = "/disk.img"
	powerSize  = 2 << 20
)

// powerKernel boots a kernel in this process on a disk in memory, with the FAT of
// the image on /fat.
func powerKernel(ctx context.Context, d *memDisk) (*kernel.Kernel, *rumpclient.Client, error) {
	k := kernel.New(kernel.Options{Hyper: d, Hostname: "power", MemLimit: 64 << 20, Modules: []modapi.Module{tmpfs.New(), fat.New()},
		Devices: []kernel.Device{{Driver: "etfs", Arg: fmt.Appendf(nil, `{"name": "disk0", "host": %q}`, powerImage)}},
		Mounts:  []vfs.MountArgs{{Dir: "/", Type: "tmpfs"}, {Dir: "/dev", Type: "devfs"}, {Dir: "/fat", Type: "msdos", Source: "disk0"}}})
	if err := k.Boot(ctx); err != nil {
		return nil, nil, err
	}
	c, err := k.Client("chaos")
	if err != nil {
		k.Reboot(ctx, 0)
		return nil, nil, err
	}
	return k, c, nil
}

// bytesAt is an io.WriterAt over memory.
type bytesAt []byte

func (b bytesAt) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

// powerRun is a disk that was used, and what was promised.
type powerRun struct {
	base map[string][]byte
	log  []deed
	vows map[string][]vow // by directory
}

// recordPower uses a FAT with two clients for steps steps each.
func recordPower(ctx context.Context, seed uint64, steps int, lose bool) (*powerRun, error) {
	img := make([]byte, powerSize)
	if err := fat.Format(bytesAt(img), powerSize, fat.FormatOptions{Cluster: 1024 << (seed % 3)}); err != nil {
		return nil, err
	}
	p := &powerRun{base: map[string][]byte{powerImage: append([]byte(nil), img...)}, vows: map[string][]vow{}}
	d := newMemDisk(map[string][]byte{powerImage: img})
	d.lose = lose
	k, c, err := powerKernel(ctx, d)
	if err != nil {
		return nil, err
	}
	defer k.Reboot(ctx, 0)
	defer c.Exit()
	var wg sync.WaitGroup
	users := make([]*sworn, 2)
	errs := make([]error, len(users))
	for i := range users {
		wg.Go(func() {
			s, err := newSworn(ctx, c, fmt.Sprintf("/fat/user%d", i), rand.New(rand.NewPCG(seed, uint64(i))), d.at)
			for n := 0; n < steps && err == nil; n++ {
				err = s.step(ctx)
			}
			users[i], errs[i] = s, err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	d.mu.Lock()
	p.log = d.log[:len(d.log):len(d.log)] // what follows is the end of this kernel
	d.mu.Unlock()
	for _, s := range users {
		p.vows[s.dir] = s.vows
	}
	return p, nil
}

// cut plays a power cut after n deeds, and looks what a kernel makes of it.
func (p *powerRun) cut(ctx context.Context, n, leave int, rng *rand.Rand, dir string) error {
	d := newMemDisk(after(p.base, p.log, n, leave, rng))
	k, c, err := powerKernel(ctx, d)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	for dir, vows := range p.vows {
		if err == nil {
			err = kept(ctx, c, dir, vows, n, true)
		}
	}
	err = errors.Join(err, c.Unmount(ctx, "/fat", 0), c.Exit())
	k.Reboot(ctx, 0)
	if err != nil {
		return err
	}
	img := filepath.Join(dir, "cut.img")
	if err := os.WriteFile(img, d.files[powerImage], 0o600); err != nil {
		return err
	}
	return fsck(img)
}

// cuts plays up to max power cuts: each prefix that ends before or behind a sync
// in turn, others at random, with all that may be left.
func (p *powerRun) cuts(ctx context.Context, seed uint64, max int) (int, error) {
	dir, err := os.MkdirTemp("", "rumpus-power")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	rng := rand.New(rand.NewPCG(seed, 0x90))
	var edges []int
	for i, d := range p.log {
		if d.kind == dSync {
			edges = append(edges, i, i+1)
		}
	}
	done := 0
	for ; done < max; done++ {
		n, leave := rng.IntN(len(p.log)+1), done%leaves
		if len(edges) > 0 && done%2 == 0 {
			n = edges[rng.IntN(len(edges))]
		}
		if err := p.cut(ctx, n, leave, rng, dir); err != nil {
			return done, fmt.Errorf("power cut after %d of %d writes and syncs, %s: %w", n, len(p.log), leaveNames[leave], err)
		}
	}
	return done, nil
}

// powerRound is a round of the tier power.
func powerRound(ctx context.Context, s *settings, seed uint64, rep *report) error {
	begin := time.Now()
	p, err := recordPower(ctx, seed, 120, false)
	n := 0
	if err == nil {
		n, err = p.cuts(ctx, seed, s.cuts)
	}
	rep.cuts += int64(n)
	rep.row(row{tier: "power", seed: seed, kind: "power cuts", victim: "disk", moment: "any", failed: err != nil, recovery: time.Since(begin) / time.Duration(max(n, 1))})
	if err != nil {
		return err
	}
	return hostRound(ctx, s, seed, rep)
}

// hostRound kills a host under load and boots it again, a few times, and then
// looks at the image. An encrypted disk has no redo file, in which its contents
// would stand in clear: a host that dies in the middle of a write-out leaves a part
// of it, so that only what was synced is looked at, once.
func hostRound(ctx context.Context, s *settings, seed uint64, rep *report) error {
	kind := []rigKind{rigEtfs, rigCgd}[(seed^seed>>2)%2] // also where every fourth seed is this tier's
	r := &round{seed: seed, rep: rep}
	var err error
	if r.rig, err = newRig(kind, &r.calls); err != nil {
		return err
	}
	defer r.rig.close()
	defer func() { rep.calls += r.calls.Load() }()
	if err := r.rig.boot(ctx); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	rng := r.random(0x4057)
	deaths := s.hosts
	if kind == rigCgd {
		deaths = min(deaths, 1)
	}
	for n := range deaths {
		if err := r.hostDeath(ctx, n, 50+rng.IntN(400)); err != nil {
			return fmt.Errorf("death %d of the host: %w", n, err)
		}
	}
	if kind == rigCgd {
		return nil
	}
	c, err := r.rig.client(ctx)
	if err != nil {
		return err
	}
	defer c.Exit()
	if err := c.Unmount(ctx, "/fat", 0); err != nil {
		return err
	}
	return fsck(r.rig.image("disk0"))
}

// hostDeath has clients work for some steps, kills the host and boots it again.
func (r *round) hostDeath(ctx context.Context, n, steps int) error {
	limit, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	type done struct {
		s   *sworn
		err error
	}
	ends := make(chan done, 3)
	moved := make(chan struct{}, 1<<16)
	for i := range cap(ends) {
		c, err := r.rig.client(limit)
		if err != nil {
			return err
		}
		s, err := newSworn(limit, c, fmt.Sprintf("/fat/n%d.%d", n, i), r.random(n*10+i), func() int { return 0 })
		if err != nil {
			return err
		}
		go func() {
			for err == nil {
				if err = s.step(limit); err == nil {
					select {
					case moved <- struct{}{}:
					default:
					}
				}
			}
			c.Exit()
			ends <- done{s, err}
		}()
	}
	for i := 0; i < steps && len(ends) == 0; i++ {
		select {
		case <-moved:
		case <-limit.Done():
			return limit.Err()
		}
	}
	early := len(ends) > 0
	began := time.Now()
	r.rig.h.kill()
	var all []*sworn
	for range cap(ends) {
		d := <-ends
		if early || !errors.Is(d.err, rumpclient.ErrGone) {
			return d.err
		}
		all = append(all, d.s)
	}
	err := r.rig.again(limit)
	took := time.Since(began)
	if err == nil {
		var c *rumpclient.Client
		if c, err = r.rig.client(limit); err == nil {
			for _, s := range all {
				if err == nil {
					err = kept(limit, c, s.dir, s.vows, 0, r.rig.kind == rigEtfs)
				}
				if err == nil && r.rig.kind == rigEtfs {
					err = c.RemoveAll(limit, s.dir)
				}
			}
			c.Exit()
		}
	}
	r.rep.row(row{tier: "power", seed: r.seed, kind: "SIGKILL", victim: "host on " + r.rig.kind.String(), moment: "any", deaths: 1, failed: err != nil, recovery: took})
	return err
}
