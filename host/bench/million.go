package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The figures of many files: what a host and its components take for them.
const (
	filesCeiling  = 700e6   // bytes (PSS) of a million empty files, host and components together
	filesLeast    = 300_000 // files; with fewer, what the processes take anyway would count too much
	churnNames    = 100     // names that are made and removed again and again
	churnPerFile  = 10      // times as many of these as there are files
	filesCallers  = 8
	hugeSize      = 16 << 30
	settleTime    = 150 * time.Second // how long memory that was freed may take to go back: Go collects every 2 minutes when nothing asks
	settleStep    = 500 * time.Millisecond
	filesProgress = 250 * time.Millisecond
)

// manyFiles makes n empty files in one directory of a host with components, as
// a remote client, lists them, looks at some, and removes them again; then it
// makes and removes files under few names, ten times as often; then it makes a
// file of 16 GiB that is nearly all hole. It says what each step took and what
// memory there was after it. More than 700 bytes a file, the processes themselves
// included, or growth, is an error.
func manyFiles(n int, w io.Writer) (rows []Row, err error) {
	exe := hostProgram()
	if exe == "" {
		return nil, errors.New("there is no program rumpus beside this one nor in bin: make build")
	}
	dir, err := os.MkdirTemp("", "rumpus-files-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	h, err := startHost(exe, filepath.Join(dir, "s"))
	if err != nil {
		return nil, err
	}
	defer h.close()
	f := &filesRun{w: w, h: h, n: n, pids: append([]int{h.pid()}, h.comps...)}
	for range filesCallers {
		c, err := rumpclient.Open(bg, "unix://"+h.socket)
		if err != nil {
			return nil, err
		}
		defer c.Exit()
		f.clients = append(f.clients, c)
	}
	err = f.run()
	return f.rows, err
}

// filesRun is one run of manyFiles.
type filesRun struct {
	w       io.Writer
	h       *hostProc
	n       int
	pids    []int
	clients []*rumpclient.Client
	rows    []Row
}

// add makes a row of what was found.
func (f *filesRun) add(what string, v float64, unit string) {
	f.rows = append(f.rows, Row{Operation: what, Path: pathHost, Callers: filesCallers, Value: round(v, 1), Unit: unit})
}

func (f *filesRun) run() error {
	c := f.clients[0]
	// The root may have limits; here the limit is what is asked for.
	opts := map[string]string{"nodes": fmt.Sprint(f.n + 100), "size": "320m"}
	if err := c.Mkdir(bg, "/many", 0o755); err != nil {
		return err
	}
	if err := c.Mount(bg, "tmpfs", "/many", 0, "", opts); err != nil {
		return err
	}
	// What comes with the first files is not theirs.
	if err := f.each(1000, func(c *rumpclient.Client, i int) error { return f.create(c, "/many/warm%d", i) }); err != nil {
		return err
	}
	if err := f.each(1000, func(c *rumpclient.Client, i int) error { return c.Unlink(bg, fmt.Sprintf("/many/warm%d", i)) }); err != nil {
		return err
	}
	empty, err := f.settle(0)
	if err != nil {
		return err
	}
	fmt.Fprintf(f.w, "empty: %s\n", f.parts())
	if err := f.step("create", f.n, func(c *rumpclient.Client, i int) error { return f.create(c, "/many/file%07d", i) }); err != nil {
		return err
	}
	full, err := pssOf(f.pids)
	if err != nil {
		return err
	}
	fmt.Fprintf(f.w, "%d files: %.1f MB, %.0f bytes a file: %s\n", f.n, full/1e6, (full-empty)/float64(f.n), f.parts())
	f.add(fmt.Sprintf("%d files", f.n), full/1e6, "MB")
	f.add("an empty file", (full-empty)/float64(f.n), "B")
	if err := f.list(); err != nil {
		return err
	}
	if err := f.step("stat", f.n/10, func(c *rumpclient.Client, i int) error {
		_, err := c.Stat(bg, fmt.Sprintf("/many/file%07d", i*7919%f.n))
		return err
	}); err != nil {
		return err
	}
	if err := f.step("unlink", f.n, func(c *rumpclient.Client, i int) error {
		return c.Unlink(bg, fmt.Sprintf("/many/file%07d", i))
	}); err != nil {
		return err
	}
	back, err := f.settle(empty * 1.2)
	if err != nil {
		return err
	}
	fmt.Fprintf(f.w, "removed: %.1f MB: %s\n", back/1e6, f.parts())
	f.add("all removed", back/1e6, "MB")
	if err := f.churn(); err != nil {
		return err
	}
	if err := f.huge(); err != nil {
		return err
	}
	if most := filesCeiling / 1e6 * max(float64(f.n), filesLeast); full > most {
		return fmt.Errorf("%d files: %.1f MB, more than %.1f", f.n, full/1e6, most/1e6)
	}
	return nil
}

// create makes an empty file.
func (f *filesRun) create(c *rumpclient.Client, format string, i int) error {
	fd, err := c.Open(bg, fmt.Sprintf(format, i), abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return c.Close(bg, fd)
}

// each calls fn for 0 to n-1, from all clients at a time.
func (f *filesRun) each(n int, fn func(c *rumpclient.Client, i int) error) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for _, c := range f.clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				if err := fn(c, i); err != nil {
					once.Do(func() { first = err })
					next.Store(int64(n))
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// step is each, and says how long it took.
func (f *filesRun) step(what string, n int, fn func(c *rumpclient.Client, i int) error) error {
	begin := time.Now()
	if err := f.each(n, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took := time.Since(begin)
	fmt.Fprintf(f.w, "%s %d: %.1f s, %.1f us each\n", what, n, took.Seconds(), float64(took.Microseconds())/float64(max(n, 1)))
	return nil
}

// list reads the whole directory and counts what it finds.
func (f *filesRun) list() error {
	begin := time.Now()
	c := f.clients[0]
	fd, err := c.Open(bg, "/many", abi.O_RDONLY|abi.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer c.Close(bg, fd)
	buf := make([]byte, 256<<10)
	seen := 0
	for {
		ds, err := c.Getdents(bg, fd, buf)
		if err != nil {
			return fmt.Errorf("readdir: %w", err)
		}
		if len(ds) == 0 {
			break
		}
		for i := range ds {
			if ds[i].Name != "." && ds[i].Name != ".." {
				seen++
			}
		}
	}
	fmt.Fprintf(f.w, "readdir: %d entries in %.2f s\n", seen, time.Since(begin).Seconds())
	if seen < f.n {
		return fmt.Errorf("readdir found %d of %d files", seen, f.n)
	}
	return nil
}

// churn makes and removes files under few names.
func (f *filesRun) churn() error {
	n := f.n * churnPerFile
	one := func(c *rumpclient.Client, i int) error {
		name := fmt.Sprintf("/many/churn%d", i%churnNames)
		fd, err := c.Open(bg, name, abi.O_CREAT|abi.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if err := c.Close(bg, fd); err != nil {
			return err
		}
		if err := c.Unlink(bg, name); err != nil && abi.ErrnoOf(err) != abi.ENOENT {
			return err // another caller has the same name
		}
		return nil
	}
	if err := f.each(n/20, one); err != nil {
		return err
	}
	before, err := f.settle(0)
	if err != nil {
		return err
	}
	if err := f.step("create and remove", n, one); err != nil {
		return err
	}
	after, err := f.settle(before)
	if err != nil {
		return err
	}
	fmt.Fprintf(f.w, "before %.1f MB, after %.1f MB\n", before/1e6, after/1e6)
	f.add(fmt.Sprintf("%d create+unlink, before", n), before/1e6, "MB")
	f.add(fmt.Sprintf("%d create+unlink, after", n), after/1e6, "MB")
	if after > before*1.25+16e6 {
		return fmt.Errorf("grown by %.1f MB in %d creates and removes", (after-before)/1e6, n)
	}
	return nil
}

// huge makes a file that is a hole but for two pages.
func (f *filesRun) huge() error {
	begin := time.Now()
	c := f.clients[0]
	fd, err := c.Open(bg, "/many/huge", abi.O_CREAT|abi.O_EXCL|abi.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer c.Close(bg, fd)
	const at = hugeSize / 2
	if _, err := c.Pwrite(bg, fd, []byte("x"), at); err != nil {
		return err
	}
	if err := c.Ftruncate(bg, fd, hugeSize); err != nil {
		return err
	}
	var b [16]byte
	if n, err := c.Pread(bg, fd, b[:], hugeSize-1); n != 1 || err != nil || b[0] != 0 {
		return fmt.Errorf("the last byte of %d: %d, %v", int64(hugeSize), n, err)
	}
	data, err := c.Lseek(bg, fd, 0, abi.SEEK_DATA)
	if err != nil || data != at {
		return fmt.Errorf("SEEK_DATA: %d, %v", data, err)
	}
	hole, err := c.Lseek(bg, fd, at, abi.SEEK_HOLE)
	if err != nil || hole <= at || hole > at+64<<10 {
		return fmt.Errorf("SEEK_HOLE: %d, %v", hole, err)
	}
	st, err := c.Fstat(bg, fd)
	if err != nil || st.Size != hugeSize {
		return fmt.Errorf("size %d, %v", st.Size, err)
	}
	fmt.Fprintf(f.w, "16 GiB of holes: %d bytes held, %v\n", st.Bytes, time.Since(begin).Round(time.Microsecond))
	return nil
}

// settle waits until the processes take no more than below, or until it gets no
// better, and answers what they take.
func (f *filesRun) settle(below float64) (float64, error) {
	ctx, cancel := context.WithTimeout(bg, settleTime)
	defer cancel()
	t := time.NewTicker(settleStep)
	defer t.Stop()
	best, stale := 0.0, 0
	for {
		now, err := pssOf(f.pids)
		if err != nil {
			return 0, err
		}
		switch {
		case below > 0 && now <= below:
			return now, nil
		case best == 0 || now < best*0.99:
			best, stale = now, 0
		default:
			stale++
		}
		if below == 0 && stale > 4 {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, nil
		case <-t.C:
		}
	}
}

// parts is what each process takes.
func (f *filesRun) parts() (s string) {
	for i, pid := range f.pids {
		pss, err := pssOf([]int{pid})
		if err != nil {
			return err.Error()
		}
		name := "host"
		if i > 0 {
			name = fmt.Sprintf("component %d", i)
		}
		s += fmt.Sprintf("%s %.1f MB; ", name, pss/1e6)
	}
	return s
}
