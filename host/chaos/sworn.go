package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The two sets of what is durable: what is acknowledged, which the tier kill
// checks, and what a sync or fsync has covered, which is checked here after the
// host's death or a power cut.

// vow says what must be found at a path from some time on.
type vow struct {
	at   int // how long the log of the disk was; 0 where there is none
	path string
	what vowKind
	data []byte
}

type vowKind uint8

const (
	unknown vowKind = iota // it is being changed, or was since the last sync
	there                  // with these contents
	absent
)

// sworn is a client with a directory of its own that notes what is promised.
type sworn struct {
	c     *rumpclient.Client
	dir   string
	rng   *rand.Rand
	at    func() int
	files map[string][]byte // what is acknowledged
	vows  []vow
	tag   int
	syncs int
}

const swornNames = 14

func newSworn(ctx context.Context, c *rumpclient.Client, dir string, rng *rand.Rand, at func() int) (*sworn, error) {
	s := &sworn{c: c, dir: dir, rng: rng, at: at, files: map[string][]byte{}}
	if err := c.Mkdir(ctx, dir, 0o755); err != nil {
		return nil, err
	}
	return s, s.sync(ctx)
}

// vow notes one.
func (s *sworn) vow(path string, what vowKind, data []byte) {
	s.vows = append(s.vows, vow{s.at(), path, what, slices.Clone(data)})
}

// sync makes all that is acknowledged durable.
func (s *sworn) sync(ctx context.Context) error {
	if err := s.c.Sync(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	s.syncs++
	s.vow(s.dir, there, nil)
	for n := range swornNames {
		path := s.path(n)
		if p, is := s.files[path]; is {
			s.vow(path, there, p)
		} else {
			s.vow(path, absent, nil)
		}
	}
	return nil
}

func (s *sworn) path(n int) string { return fmt.Sprintf("%s/File number %d", s.dir, n) }

// step changes something, or syncs.
func (s *sworn) step(ctx context.Context) error {
	path, to := s.path(s.rng.IntN(swornNames)), s.path(s.rng.IntN(swornNames))
	old, is := s.files[path]
	s.tag++
	data := bytes.Repeat(fmt.Appendf(nil, "<%s.%d>", s.dir, s.tag), 1+s.rng.IntN(400))
	switch k := s.rng.IntN(14); {
	case k == 0:
		return s.sync(ctx)
	case !is || k < 4:
		s.vow(path, unknown, nil)
		if err := s.c.WriteFile(ctx, path, data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		s.files[path] = data
	case k < 8:
		s.vow(path, unknown, nil)
		fd, err := s.c.Open(ctx, path, abi.O_WRONLY|abi.O_APPEND, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		data = data[:min(len(data), 3000)]
		if _, err := s.c.Write(ctx, fd, data); err != nil {
			return fmt.Errorf("append to %s: %w", path, err)
		}
		if old = append(slices.Clone(old), data...); len(old) > 40000 {
			if err := s.c.Ftruncate(ctx, fd, 100); err != nil {
				return fmt.Errorf("truncate %s: %w", path, err)
			}
			old = old[:100]
		}
		s.files[path] = old
		if s.rng.IntN(2) == 0 {
			if err := s.c.Fsync(ctx, fd); err != nil {
				return fmt.Errorf("fsync %s: %w", path, err)
			}
			s.syncs++
			s.vow(path, there, old)
		}
		if err := s.c.Close(ctx, fd); err != nil {
			return fmt.Errorf("close %s: %w", path, err)
		}
	case k < 10:
		s.vow(path, unknown, nil)
		if err := s.c.Unlink(ctx, path); err != nil {
			return fmt.Errorf("unlink %s: %w", path, err)
		}
		delete(s.files, path)
	case k < 12 && to != path:
		s.vow(path, unknown, nil)
		s.vow(to, unknown, nil)
		if err := s.c.Rename(ctx, path, to); err != nil {
			return fmt.Errorf("rename %s to %s: %w", path, to, err)
		}
		delete(s.files, path)
		s.files[to] = old
	default:
		got, err := s.c.ReadFile(ctx, path)
		if err != nil || !bytes.Equal(got, old) {
			return fmt.Errorf("read %s: %s: %w", path, differ(got, old), errors.Join(err, abi.EIO))
		}
	}
	return nil
}

// kept compares what is there with the vows that were made when the log was n
// long, by another client. whole: there is a redo file, and so what was not synced
// can be read as well, whatever is in it.
func kept(ctx context.Context, c *rumpclient.Client, dir string, vows []vow, n int, whole bool) error {
	want := map[string]vow{}
	for _, v := range vows {
		if v.at <= n {
			want[v.path] = v
		}
	}
	if want[dir].what != there { // not even the directory was promised
		return nil
	}
	ents, err := c.ReadDir(ctx, dir)
	if err != nil {
		return fmt.Errorf("%s was synced: %w", dir, err)
	}
	is := map[string]bool{}
	for _, e := range ents {
		path := dir + "/" + e.Name
		is[path] = true
		v, known := want[path]
		got, err := c.ReadFile(ctx, path)
		switch {
		case err != nil && !whole && v.what == unknown:
		case err != nil:
			return fmt.Errorf("%s cannot be read: %w", path, err)
		case !known:
			return fmt.Errorf("%s is there, which never was: %w", path, abi.EIO)
		case v.what == absent:
			return fmt.Errorf("%s is there, and its removal was synced: %w", path, abi.EIO)
		case v.what == there && !bytes.Equal(got, v.data):
			return fmt.Errorf("%s was synced: %s: %w", path, differ(got, v.data), abi.EIO)
		}
	}
	for path, v := range want {
		if v.what == there && path != dir && !is[path] {
			return fmt.Errorf("%s was synced and is gone: %w", path, abi.EIO)
		}
	}
	return nil
}
