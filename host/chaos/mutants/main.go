package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// mutant is one fault that is put into the code.
type mutant struct {
	name string
	file string // of the module, by slashes
	old  string // in it exactly once
	new  string
	pkg  string // with the tests that should notice
	run  string // which of them, as for go test -run
}

// verdict is what came of a mutant.
type verdict string

const (
	caught   verdict = "caught"
	survived verdict = "SURVIVED"
	broken   verdict = "BROKEN"
)

// result is a verdict with its reason.
type result struct {
	mutant
	verdict verdict
	by      string // the tests that failed, or what is broken
	took    time.Duration
}

// text answers the file with the mutation.
func (m *mutant) text(root string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(b, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s: the old text is there %d times: %q", m.file, n, m.old)
	}
	if m.old == m.new {
		return nil, fmt.Errorf("%s: nothing is changed: %q", m.file, m.old)
	}
	return bytes.Replace(b, []byte(m.old), []byte(m.new), 1), nil
}

// testTimeout bounds the tests of one mutant: some let them wait without end.
const testTimeout = 2 * time.Minute

// try runs the tests with the mutation.
func (m *mutant) try(ctx context.Context, root string) (r result) {
	begin := time.Now()
	r = result{mutant: *m, verdict: broken}
	defer func() { r.took = time.Since(begin) }()
	text, err := m.text(root)
	if err != nil {
		r.by = err.Error()
		return r
	}
	dir, err := os.MkdirTemp("", "rumpus-mutant-")
	if err != nil {
		r.by = err.Error()
		return r
	}
	defer os.RemoveAll(dir)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	abs, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(m.file)))
	list, err2 := json.Marshal(map[string]any{"Replace": map[string]string{abs: changed}})
	if err := errors.Join(err, err2, os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		r.by = err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, 5*testTimeout) // the build is part of it
	defer cancel()
	c := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-vet=off", "-failfast", "-timeout", testTimeout.String(), "-run", m.run, "./"+m.pkg)
	c.Dir = root
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && bytes.Contains(out, []byte("[no tests to run]")):
		r.by = "no test is called " + m.run
	case err == nil:
		r.verdict = survived
	case ctx.Err() != nil:
		r.by = ctx.Err().Error()
	case !errors.As(err, &exit):
		r.by = err.Error()
	default:
		if r.by = reason(out); r.by == "" {
			r.by = fmt.Sprintf("%.1000s", out)
			break
		}
		r.verdict = caught
	}
	return r
}

var (
	failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	panics = regexp.MustCompile(`(?m)^(panic: [^\n\[]{1,60}|fatal error: [^\n]{1,60})`)
)

// reason is which tests failed, "" if none was run.
func reason(out []byte) string {
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		return ""
	}
	if p := panics.FindSubmatch(out); p != nil {
		return string(p[1])
	}
	if f := failed.FindSubmatch(out); f != nil {
		return string(f[1])
	}
	return ""
}

// all tries mutants, j at a time, and shows a table.
func all(ctx context.Context, root string, ms []mutant, j int, out io.Writer) (bad int) {
	rs := make([]result, len(ms))
	slots := make(chan struct{}, j)
	var wg sync.WaitGroup
	for i := range ms {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rs[i] = ms[i].try(ctx, root)
			fmt.Fprintf(os.Stderr, "%s: %s\n", ms[i].name, rs[i].verdict)
		})
	}
	wg.Wait()
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "mutant\tfile\tverdict\tby\ttime")
	n := map[verdict]int{}
	for _, r := range rs {
		n[r.verdict]++
		by, _, _ := strings.Cut(r.by, "\n")
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%v\n", r.name, r.file, r.verdict, by, r.took.Round(100*time.Millisecond))
	}
	tw.Flush()
	for _, r := range rs {
		if r.verdict == broken {
			fmt.Fprintf(out, "%s is broken: %s\n", r.name, r.by)
		}
	}
	if n[broken] > 0 {
		fmt.Fprintf(out, "%d broken\n", n[broken])
	}
	fmt.Fprintf(out, "%d caught, %d survived\n", n[caught], n[survived])
	return n[survived] + n[broken]
}

func main() {
	root := flag.String("root", ".", "the module's `folder`")
	only := flag.String("only", "", "only mutants with this `text` in their name")
	j := flag.Int("j", 2, "how many at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var ms []mutant
	for _, m := range mutants {
		if strings.Contains(m.name, *only) {
			ms = append(ms, m)
		}
	}
	if all(ctx, *root, ms, max(*j, 1), os.Stdout) > 0 {
		os.Exit(1)
	}
}
