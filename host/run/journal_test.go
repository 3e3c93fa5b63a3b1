package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// steady is a client of the kernel that changes a directory of its own, and
// knows exactly what must be there.
type steady struct {
	c     *client
	n     int
	dir   string
	rng   *rand.Rand
	files map[string][]byte
	mode  map[string]uint32
	keep  int    // an open file without a name
	kept  []byte // what is in it
	tag   int
	ops   *atomic.Int64
}

func (s *steady) fail(what, path string, err error) bool {
	if err != nil {
		s.c.t.Errorf("client %d: %s %s: %v", s.n, what, path, err)
	}
	return err != nil
}

// start makes the directory, and a file that is open and has no name.
func (s *steady) start(ctx context.Context) {
	s.dir = "/c" + strconv.Itoa(s.n)
	s.c.must(s.c.Mkdir(ctx, s.dir, 0o755))
	fd, err := s.c.Open(ctx, s.dir+"/nameless", abi.O_CREAT|abi.O_RDWR|abi.O_APPEND, 0o600)
	s.c.must(err)
	s.c.must(s.c.Unlink(ctx, s.dir+"/nameless"))
	s.keep = fd
}

// step does one thing.
func (s *steady) step(ctx context.Context) {
	c := s.c
	s.tag++
	name := "f" + strconv.Itoa(s.rng.IntN(10))
	path := s.dir + "/" + name
	data, there := s.files[name]
	tag := fmt.Appendf(nil, "<%d.%d>", s.n, s.tag)
	switch k := s.rng.IntN(9); {
	case !there:
		fd, err := c.Open(ctx, path, abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o600)
		if s.fail("create", path, err) {
			return
		}
		s.files[name], s.mode[name] = []byte{}, 0o600
		s.fail("close", path, c.Close(ctx, fd))
	case k < 3:
		fd, err := c.Open(ctx, path, abi.O_WRONLY|abi.O_APPEND, 0)
		if s.fail("open", path, err) {
			return
		}
		n, err := c.Write(ctx, fd, tag)
		if !s.fail("write", path, err) {
			s.files[name] = append(data, tag[:n]...)
		}
		s.fail("close", path, c.Close(ctx, fd))
	case k == 3:
		if !s.fail("unlink", path, c.Unlink(ctx, path)) {
			delete(s.files, name)
		}
	case k == 4:
		to := "f" + strconv.Itoa(s.rng.IntN(10))
		if to != name && !s.fail("rename", path, c.Rename(ctx, path, s.dir+"/"+to)) {
			delete(s.files, name)
			s.files[to], s.mode[to] = data, s.mode[name]
		}
	case k == 5:
		size := s.rng.IntN(len(data) + 1)
		if !s.fail("truncate", path, c.Truncate(ctx, path, int64(size))) {
			s.files[name] = data[:size:size]
		}
	case k == 6:
		mode := uint32(0o600 + s.tag%64)
		if !s.fail("chmod", path, c.Chmod(ctx, path, mode)) {
			s.mode[name] = mode
		}
	case k == 7:
		n, err := c.Write(ctx, s.keep, tag)
		if !s.fail("write", "(nameless)", err) {
			s.kept = append(s.kept, tag[:n]...)
		}
	default:
		s.check(ctx, name)
	}
	s.ops.Add(1)
}

// check compares a file with what must be in it.
func (s *steady) check(ctx context.Context, name string) {
	path, want := s.dir+"/"+name, s.files[name]
	got, err := s.c.ReadFile(ctx, path)
	if s.fail("read", path, err) {
		return
	}
	if !bytes.Equal(got, want) {
		s.c.t.Errorf("client %d: %s has %q, not %q", s.n, path, got, want)
	}
	st, err := s.c.Stat(ctx, path)
	if !s.fail("stat", path, err) && (st.Mode&0o777 != s.mode[name] || st.Size != int64(len(want))) {
		s.c.t.Errorf("client %d: %s: mode %o, size %d, not %o, %d", s.n, path, st.Mode, st.Size, s.mode[name], len(want))
	}
}

// finish compares everything.
func (s *steady) finish(ctx context.Context) {
	for name := range s.files {
		s.check(ctx, name)
	}
	ents, err := s.c.ReadDir(ctx, s.dir)
	if s.fail("readdir", s.dir, err) {
		return
	}
	for _, e := range ents {
		if _, ok := s.files[e.Name]; !ok && e.Name != "." && e.Name != ".." {
			s.c.t.Errorf("client %d: %s/%s is there", s.n, s.dir, e.Name)
		}
	}
	buf := make([]byte, len(s.kept)+16)
	n, err := s.c.Pread(ctx, s.keep, buf, 0)
	if !s.fail("pread", "(nameless)", err) && !bytes.Equal(buf[:n], s.kept) {
		s.c.t.Errorf("client %d: the nameless file has %q, not %q", s.n, buf[:n], s.kept)
	}
}

// killUnderLoad lets clients work while vfs is killed so many times.
func killUnderLoad(t *testing.T, h *host0, kills int) {
	c := h.client()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var ops atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	for i := range 4 {
		s := &steady{c: h.client(), n: i, rng: rand.New(rand.NewPCG(uint64(i), 5)), files: map[string][]byte{}, mode: map[string]uint32{}, ops: &ops}
		s.start(ctx)
		all.Go(func() {
			for !stop.Load() && !t.Failed() {
				s.step(ctx)
			}
			s.finish(ctx)
		})
	}
	for k := range kills {
		if t.Failed() {
			break
		}
		from := ops.Load()
		eventually(t, patience, "work between two deaths", func() bool { return t.Failed() || ops.Load() >= from+20 })
		kill(t, c.pids()["vfs"], syscall.SIGKILL)
		eventually(t, patience, "the return of vfs", func() bool { r := c.row("vfs"); return r.Restarts == k+1 && r.State == "running" })
	}
	stop.Store(true)
	all.Wait()
	text, err := c.Sysctl(ctx, "kern.evcnt")
	c.must(err)
	var rows []struct {
		Group, Name string
		Count       uint64
	}
	c.must(json.Unmarshal([]byte(text), &rows))
	n := map[string]uint64{}
	for _, r := range rows {
		if r.Group == "journal" {
			n[r.Name] = r.Count
		}
	}
	t.Logf("%d operations, %d kills; journal: %v", ops.Load(), kills, n)
	if n["diverged"] != 0 || n["poison"] != 0 {
		t.Errorf("journal: %v", n)
	}
}

// TestKilledFiftyTimes: nothing that was answered is lost or done twice, and no
// client sees an error, when vfs is killed fifty times while it works.
func TestKilledFiftyTimes(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 10
	}
	if n, err := strconv.Atoi(os.Getenv("RUMPUS_KILLS")); err == nil {
		kills = n
	}
	killUnderLoad(t, boot(t, "components:\n  vfs: {}\nmounts:\n  - {dir: /, type: tmpfs}\n"), kills)
}

// TestHaltWhileDown: the kernel halts and unmounts while vfs is away.
func TestHaltWhileDown(t *testing.T) {
	h := boot(t, "components:\n  vfs: {}\nmounts:\n  - {dir: /, type: tmpfs}\n")
	c := h.client()
	ctx := limited(t)
	c.must(c.Mkdir(ctx, "/mnt", 0o755))
	c.must(c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil))
	c.write("/mnt/x", "there")
	kill(t, c.pids()["vfs"], syscall.SIGKILL)
	if err := c.Unmount(ctx, "/mnt", 0); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if _, err := c.Stat(ctx, "/mnt/x"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("stat: %v", err)
	}
	// Between the end of a process and the news of the next there is none.
	eventually(t, 60*time.Second, "a process of vfs", func() bool { return c.pids()["vfs"] != 0 })
	kill(t, c.pids()["vfs"], syscall.SIGKILL)
}
