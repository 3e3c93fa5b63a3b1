package posixtest

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// RaceRenames has workers move and exchange files and directories of one small
// tree against each other, and then looks at what is left: every name and every
// file is there once and has its contents, ".." of every directory is the one it
// is found in, link counts are right, and no directory is below itself (it would
// be found nowhere). seed chooses the moves.
func RaceRenames(t *testing.T, w World, seed uint64, workers, moves int) {
	p := newP(t, &w, 0, 0)
	p.dir = path.Join(w.Dir, fmt.Sprintf("race%d", seed))
	p.mkdir(p.dir, 0o755)
	p.chdir(p.dir)
	const dirs, files = 8, 6
	want := map[abi.Fileid]string{}
	at := "."
	for i := range dirs { // a chain, so that there is much to be below
		d := fmt.Sprintf("%s/d%d", at, i)
		p.mkdir(d, 0o755)
		want[p.lstat(d).Fileid] = "directory"
		if i%3 != 2 {
			at = d
		}
	}
	for i := range files {
		f := fmt.Sprintf("f%d", i)
		p.file(f, f)
		want[p.lstat(f).Fileid] = f
	}
	var wg sync.WaitGroup
	var moved atomic.Int64
	for i := range workers {
		q := p.again()
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range moves {
				ok, err := q.move(r)
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					moved.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	p.that("nothing moved", moved.Load() > int64(moves/4))
	names := map[string]bool{}
	p.survey(".", p.lstat(".").Fileid, p.lstat("..").Fileid, want, names)
	for id, what := range want {
		t.Errorf("lost: %s, number %d", what, id)
	}
	eq(p, "names", len(names), dirs+files)
}

// move makes one random move and says whether it was done. What can come of a
// race is right; anything else is an error.
func (p *P) move(r *rand.Rand) (bool, error) {
	from, to := p.stroll(r, 0.3), p.stroll(r, 0.5)
	if from == "." {
		return false, nil
	}
	flags := 0
	switch {
	case r.IntN(4) == 0 && to != "." && p.w.Lacks["rename2"] == "":
		flags = exchange
	case r.IntN(2) == 0:
		to = path.Join(to, path.Base(from))
	default:
		to = path.Join(path.Dir(to), path.Base(from))
	}
	err := p.s.Renameat(cwd, from, cwd, to, flags)
	switch abi.ErrnoOf(err) {
	case 0:
		return true, nil
	case abi.ENOENT, abi.ENOTDIR, abi.EINVAL, abi.ENOTEMPTY, abi.EEXIST:
		return false, nil
	}
	return false, fmt.Errorf("rename %s %s %#x: %w", from, to, flags, err)
}

// stroll walks down the tree at random and answers where it ended.
func (p *P) stroll(r *rand.Rand, stop float64) string {
	at := "."
	buf := make([]byte, 4096)
	for {
		fd, err := p.s.Openat(cwd, at, rdonly|abi.O_DIRECTORY, 0)
		if err != nil {
			return at // a file, or gone
		}
		ds, err := p.s.Getdents(fd, buf)
		p.s.Close(fd)
		var names []string
		for _, d := range ds {
			if d.Name != "." && d.Name != ".." {
				names = append(names, d.Name)
			}
		}
		if err != nil || len(names) == 0 {
			return at
		}
		at = path.Join(at, names[r.IntN(len(names))])
		if r.Float64() < stop {
			return at
		}
	}
}

// survey checks a directory and what is below it, and takes what it finds out
// of want.
func (p *P) survey(dir string, id, parent abi.Fileid, want map[abi.Fileid]string, names map[string]bool) {
	p.t.Helper()
	eq(p, ".. of "+dir, p.lstat(path.Clean(dir)+"/..").Fileid, parent)
	sub := uint32(0)
	for _, n := range p.ls(dir) {
		at := path.Join(dir, n)
		st := p.lstat(at)
		what := want[st.Fileid]
		if what == "" || names[n] {
			p.t.Fatalf("%s, number %d, is there twice", at, st.Fileid)
		}
		delete(want, st.Fileid)
		names[n] = true
		if what != "directory" {
			p.holds(at, what)
			eq(p, "links of "+at, st.Nlink, 1)
			continue
		}
		eq(p, "type of "+at, st.Type, abi.VDIR)
		sub++
		p.survey(at, st.Fileid, id, want, names)
	}
	if p.w.Lacks["dirlinks"] == "" {
		eq(p, "links of "+dir, p.lstat(dir).Nlink, 2+sub)
	}
}

// RaceReplace has writers replace one file by renames, while readers open it by
// its name: it is always there, and always a whole one.
func RaceReplace(t *testing.T, w World, writers, times int) {
	p := newP(t, &w, 0, 0)
	p.dir = path.Join(w.Dir, "replace")
	p.mkdir(p.dir, 0o755)
	p.chdir(p.dir)
	text := func(i int) string { return strings.Repeat(string(rune('a'+i)), 5000) }
	p.file("t", text(0))
	stop := make(chan struct{})
	var wg, readers sync.WaitGroup
	for range 2 {
		q := p.again()
		readers.Go(func() {
			buf := make([]byte, 6000)
			for {
				select {
				case <-stop:
					return
				default:
				}
				fd, err := q.s.Openat(cwd, "t", rdonly, 0)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				n, err := q.s.Pread(fd, buf, 0)
				q.s.Close(fd)
				if got := string(buf[:max(n, 0)]); err != nil || n != 5000 || strings.Count(got, got[:1]) != n {
					t.Errorf("read %d, %v", n, err)
					return
				}
			}
		})
	}
	for i := range writers {
		q := p.again()
		name, data := fmt.Sprint("new", i), []byte(text(i))
		wg.Go(func() {
			for range times {
				fd, err := q.s.Openat(cwd, name, creat|excl|wronly, 0o644)
				if err == nil {
					_, err = q.s.Write(fd, data)
					q.s.Close(fd)
				}
				if err == nil {
					err = q.s.Renameat(cwd, name, cwd, "t", 0)
				}
				if err != nil {
					t.Errorf("replace: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	eq(p, "names", strings.Join(p.ls("."), " "), "t")
	p.nlink("t", 1)
}
