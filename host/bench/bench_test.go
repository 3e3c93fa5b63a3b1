package main

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMain plays the other processes as well.
func TestMain(m *testing.M) {
	if isComponent() || os.Getenv(roleEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestEveryRow runs every row for a moment, so that the benchmark cannot rot.
func TestEveryRow(t *testing.T) {
	var out, notes bytes.Buffer
	if code := run([]string{"--json", "-t", "5ms", "-idle", "100ms"}, &out, &notes); code != 0 {
		t.Fatalf("exit code %d: %s", code, &notes)
	}
	t.Log(&notes)
	var rows []Row
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int) // "operation/path": rows
	for _, r := range rows {
		got[r.Operation+"/"+r.Path]++
		if slices.Contains(states, r.Operation) || r.Operation == stUntar || r.Operation == stBuild {
			if r.Unit == "" && (r.P50 <= 0 || r.P99 < r.P50) || r.Unit != "" && r.Value <= 0 && r.Operation != stIdle {
				t.Errorf("impossible: %+v", r)
			}
			continue
		}
		if r.P50 <= 0 || r.P99 < r.P50 || r.Ops <= 0 || r.CPU <= 0 {
			t.Errorf("impossible: %+v", r)
		}
		if r.Path == pathLinux && r.Ratio != 1 {
			t.Errorf("Linux's ratio to itself: %+v", r)
		}
	}
	for _, op := range operations {
		paths := []string{pathInproc, "b-stream", "c-stream"}
		_, disk := diskOps[op]
		if op == opXTS1M {
			if got[op+"/"+pathInproc] != 1 {
				t.Errorf("no row of %s", op)
			}
			continue
		}
		if !disk && !strings.HasSuffix(op, "rtt 1 byte") && !oneWay[op] {
			paths = append(paths, pathGRPC1, pathGRPC2)
		}
		for _, p := range []string{"b-ring", "c-ring"} {
			if !strings.Contains(notes.String(), "no rows of rings") && !strings.Contains(notes.String(), "no rows of "+p) {
				paths = append(paths, p)
			}
		}
		for _, p := range paths {
			if n := got[op+"/"+p]; n != len(callersOf(op)) {
				t.Errorf("%s on %s: %d rows, want one each for %v callers", op, p, n, callersOf(op))
			}
		}
	}
	if got[stBoot+"/"+pathInproc] != 1 {
		t.Error("no row of a boot in one process")
	}
	for _, st := range states {
		if !strings.Contains(notes.String(), "no rows of processes") && got[st+"/"+pathHost] == 0 && got[st+"/host"] == 0 {
			t.Errorf("no row of %s", st)
		}
	}
	if strings.Contains(notes.String(), "no rows of fuse") == (got[opStat+"/"+pathFuse] > 0) {
		t.Errorf("rows of fuse: %d; said %q", got[opStat+"/"+pathFuse], &notes)
	}
}

// TestSoak makes some operations, so that the long run cannot rot, and sees what
// counts as growth.
func TestSoak(t *testing.T) {
	if hostProgram() == "" {
		t.Skip("no program rumpus: make build")
	}
	var out, notes bytes.Buffer
	if code := run([]string{"-soak", "3000"}, &out, &notes); code != 0 {
		t.Fatalf("exit code %d: %s", code, &notes)
	}
	for _, who := range []string{"client", "host", "component 3"} {
		if strings.Count(out.String(), ": "+who+": ") != 2 {
			t.Errorf("%s is not there before and after:\n%s", who, &out)
		}
	}
	base := usageOf{rss: 20e6, shm: 1e6, fds: 10, threads: 10}
	for what, now := range map[string]usageOf{
		"":                           {rss: 30e6, shm: 1.5e6, fds: 11, threads: 12},
		"memory":                     {rss: 60e6, shm: 1e6, fds: 10, threads: 10},
		"shared memory (ring slots)": {rss: 20e6, shm: 3e6, fds: 10, threads: 10},
		"descriptors":                {rss: 20e6, shm: 1e6, fds: 13, threads: 10},
		"threads":                    {rss: 20e6, shm: 1e6, fds: 10, threads: 15},
	} {
		if got := now.grown(base); got != what {
			t.Errorf("%+v after %+v: %q, want %q", now, base, got, what)
		}
	}
}

// TestPattern checks the choice of rows, and that the table goes to the file.
func TestPattern(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.md")
	for range 2 {
		var out, notes bytes.Buffer
		if code := run([]string{"-t", "1ms", "--results", file, "^stat hit/in-process/1"}, &out, &notes); code != 0 {
			t.Fatalf("exit code %d: %s", code, &notes)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[2], opStat+"   ") {
			t.Fatalf("machine, head and one row wanted:\n%s", &out)
		}
		unit := regexp.MustCompile(` [num]s `).FindStringIndex(lines[2])
		if head, row := lines[1], lines[2]; unit == nil || strings.Index(head, "p50")+4 != unit[1] {
			t.Errorf("the columns do not line up:\n%s\n%s", head, row)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n## "); n != 2 || strings.Count(string(b), "\n# ")+1 != 1 || !strings.Contains(string(b), "\n| stat hit ") {
		t.Errorf("%d sections after two runs:\n%s", n, b)
	}
}

func TestWrongCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-t", "0"}, {"-t", "x"}, {"a", "b"}, {"("}, {"--no-such"}} {
		var out, notes bytes.Buffer
		if code := run(args, &out, &notes); code != 2 || notes.Len() == 0 || out.Len() != 0 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, &out, &notes)
		}
	}
}

// TestHist compares the histogram with sorting.
func TestHist(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h, a, b := new(hist), new(hist), new(hist)
	var all []float64
	for i := range 20000 {
		v := uint64(math.Exp(r.Float64() * 25)) // 1 ns to a minute
		all = append(all, float64(v))
		if i%2 == 0 {
			a.add(v)
		} else {
			b.add(v)
		}
	}
	h.merge(a)
	h.merge(b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.99, 1} {
		want := all[max(int(q*float64(len(all))+0.5)-1, 0)]
		if got := h.quantile(q); math.Abs(got-want) > want*0.016+0.5 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 127, 128, 1 << 40, math.MaxUint64} {
		h.add(v) // stays in the array
		if i := bucket(v); i > 0 && i < len(h.n) && value(i-1) >= value(i) {
			t.Errorf("bucket of %d: values do not grow", v)
		}
	}
}

func TestTexts(t *testing.T) {
	for ns, want := range map[float64]string{0: "0 ns", 55.4: "55 ns", 999.6: "1.00 us", 12345: "12.3 us", 123456: "123 us", 999600: "1.00 ms", 5e7: "50.00 ms"} {
		if got := dur(ns); got != want {
			t.Errorf("dur(%v) = %q, want %q", ns, got, want)
		}
	}
	rows := []Row{{Operation: opStat, Path: "c-stream", Callers: 1, P50: 100}, {Operation: opStat, Path: pathGRPC1, Callers: 1, P50: 5000},
		{Operation: opStatX, Path: "c-stream", Callers: 1, P50: 100}, {Operation: opStatX, Path: pathGRPC2, Callers: 1, P50: 50}}
	if got := cells(rows[0], grpcOf(rows, rows[0]))[9]; got != "1/50" {
		t.Errorf("a hit against one hop: %q", got)
	}
	if got := cells(rows[2], grpcOf(rows, rows[2]))[9]; got != "2.0" {
		t.Errorf("a crossing against two hops: %q", got)
	}
}
