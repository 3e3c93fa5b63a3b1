package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("/tmp", "rumpus-chaos-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Chmod(dir, 0o755)
	binDir = dir
	program = built
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// binDir is where the program is built: a host and components cannot be the test
// binary, which is linked with cgo under the race detector.
var binDir string

// built is the program, built once.
var built = sync.OnceValues(func() (string, error) { return build("rumpus-chaos") })

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(binDir, name)
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, ".")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building rumpus-chaos: %w\n%s", err, out)
	}
	return path, nil
}

// quiet is a report that shows nothing but failures.
func quiet(t *testing.T) *report {
	t.Helper()
	rep, err := newReport(&bytes.Buffer{}, filepath.Join(t.TempDir(), "chaos.csv"))
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestKillSlice is a slice of the tier kill, a round for each rig.
func TestKillSlice(t *testing.T) {
	defer goleak.VerifyNone(t)
	rep := quiet(t)
	faults := 36
	if testing.Short() {
		faults = 8
	}
	seed := uint64(time.Now().UnixNano()) / 3 % 1e9 * 3
	for n := range uint64(rigs) {
		s := &settings{faults: faults, trees: 2}
		err := killRound(t.Context(), s, seed+n, rep)
		rep.round(fmt.Sprintf("-tier kill -seed %d -rounds 1 -faults %d -slow 0", seed+n, s.faults), err)
	}
	out := rep.out.(*bytes.Buffer)
	if rep.close() != 0 {
		t.Fatalf("%s", out)
	}
	t.Logf("%s", out)
	csv, err := os.ReadFile(rep.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(csv, []byte("\n")); n != len(rep.rows)+1 || n < int(rigs)*faults {
		t.Errorf("%d lines of CSV for %d faults", n, len(rep.rows))
	}
}

// TestEveryMoment: every moment and every kind of a fault is reached, the
// components come back, and nobody notices.
func TestEveryMoment(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	r, err := newRound(ctx, 11, rigEtfs, quiet(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.rig.close()
	if err := r.begin(ctx, 0, load{trees: 1}); err != nil {
		t.Fatal(err)
	}
	var fs []fault
	inside := map[string][]moment{"vfs": {mBefore, mAfter, mRead, mQuick, mCheckpoint, mCheckpoints}, "net": {mBefore, mAfter, mRead, mQuick}, "dev": {mRead}}
	for victim, ms := range inside {
		for _, m := range ms {
			fs = append(fs, fault{victim: victim, order: order{kind: kKill, moment: m, nth: 1}})
		}
	}
	for m := mInit; m < moments; m++ {
		fs = append(fs, fault{victim: "vfs", order: order{kind: kSIGKILL}, again: []order{{kind: kKill, moment: m, nth: 1}}})
	}
	for k := kStop; k < kLoop; k++ {
		fs = append(fs, fault{victim: "vfs", order: order{kind: k, moment: mAfter, nth: 1}})
	}
	fs = append(fs, fault{victim: "net", order: order{kind: kSIGSTOP}})
	for _, f := range fs {
		end := time.Now().Add(patience)
		for reached := false; !reached && time.Now().Before(end); {
			s, err := r.strike(ctx, f)
			if err != nil {
				t.Fatalf("%s of %s, %s: %v", f.kindName(), f.victim, f.momentName(), err)
			}
			// A process that dies as it begins is no death of the component.
			reached = !s.skipped && (s.deaths > len(f.again) || len(f.again) > 0 && f.again[0].moment == mInit)
			if err := r.moves(50); err != nil {
				t.Fatal(err)
			}
			if n, _ := r.wrong(); n > 0 {
				break
			}
			if reached {
				end = time.Time{}
			}
		}
		if !end.IsZero() {
			t.Errorf("%s of %s, %s: not reached", f.kindName(), f.victim, f.momentName())
		}
	}
	r.end(ctx)
	r.watch.c.Exit()
	if _, err := r.wrong(); err != nil {
		t.Error(err)
	}
}

// TestLies: each checker notices each lie that it can be told, in seconds.
func TestLies(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	r, err := newRound(ctx, 1, rigEtfs, quiet(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.rig.close()
	for n, tc := range []struct {
		lie  lie
		who  string
		dir  string
		name string
	}{
		{lieLost, "tree", "", "lost"}, {lieDoubled, "tree", "", "doubled"}, {lieTrimmed, "tree", "/fat", "trimmed"}, {lieRefused, "tree", "", "refused"}, {lieStale, "tree", "/fat", "stale"},
		{lieLost, "shared", "", "lost"}, {lieDoubled, "shared", "/fat", "doubled"}, {lieTrimmed, "shared", "", "trimmed"}, {lieRefused, "shared", "", "refused"}, {lieStale, "shared", "", "stale"},
		{lieStale, "disk", "", "stale"}, {0, "tree", "", "none"}, {0, "shared", "", "none"},
	} {
		t.Run(tc.who+" "+tc.name, func(t *testing.T) {
			w := &round{seed: uint64(n), rig: r.rig, hurts: r.hurts, stop: make(chan struct{})}
			l := &liar{lie: tc.lie, every: 23}
			step, end := userOf(ctx, t, w, tc.who, fmt.Sprintf("%s/lie%d", tc.dir, n), l)
			defer end()
			var err error
			steps := 0
			for limit := 20000; err == nil && steps < limit; steps++ {
				if tc.lie == 0 && steps > 100 {
					break
				}
				err = step(ctx)
			}
			switch {
			case tc.lie == 0 && err != nil:
				t.Errorf("nobody lied, and yet: %v", err)
			case tc.lie == 0:
			case err == nil:
				t.Errorf("%d lies in %d steps, and nobody noticed", l.told.Load(), steps)
			case l.told.Load() == 0:
				t.Errorf("nobody lied: %v", err)
			default:
				t.Logf("after %d lies, %d steps: %.300v", l.told.Load(), steps, err)
			}
		})
	}
	r.watch.c.Exit()
}

// userOf makes one checker, of whom one client is lied to.
func userOf(ctx context.Context, t *testing.T, w *round, who, dir string, l *liar) (step func(context.Context) error, end func()) {
	t.Helper()
	client := func(l *liar) *rumpclient.Client {
		w.rig.lie = l
		c, err := w.rig.client(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := client(l)
	w.rig.lie = nil
	switch who {
	case "tree":
		u, err := newTree(ctx, c, dir, abilities{}, w.random(1))
		if err != nil {
			t.Fatal(err)
		}
		return u.step, func() { c.Exit() }
	case "shared":
		s := &shared{dir: dir, rng: w.random(2), clients: []*rumpclient.Client{client(nil), c, client(nil)}}
		if err := s.clients[0].Mkdir(ctx, dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return s.window, func() {
			for _, c := range s.clients {
				c.Exit()
			}
		}
	}
	u, err := newDiskUser(ctx, c, "disk1", 0, 1<<20, w.random(3))
	if err != nil {
		t.Fatal(err)
	}
	return u.step, func() { c.Exit() }
}

// TestSabotage: kernels whose journal loses an acknowledgement, has an entry
// twice, or trims before the checkpoint is committed are each found out.
func TestSabotage(t *testing.T) {
	defer goleak.VerifyNone(t)
	src, err := os.ReadFile("../../kernel/journal/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := os.ReadFile("testdata/sabotage.txt")
	if err != nil {
		t.Fatal(err)
	}
	const at = "func (f *FS) at("
	if bytes.Count(src, []byte(at)) != 1 {
		t.Fatalf("kernel/journal/fault.go has no %q", at)
	}
	text := strings.Replace(string(src), at, "func (f *FS) honest(", 1)
	text = strings.Replace(text, "package journal\n", "package journal\n\nimport (\n\t\"os\"\n\t\"sync/atomic\"\n)\n", 1) + string(more)
	dir := t.TempDir()
	bad, overlay := filepath.Join(dir, "fault.go"), filepath.Join(dir, "overlay.json")
	real, err := filepath.Abs("../../kernel/journal/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{real: bad}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{bad: []byte(text), overlay: list} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := build("rumpus-sabotage", "-overlay", overlay)
	if err != nil {
		t.Fatal(err)
	}
	program = func() (string, error) { return path, nil }
	defer func() { program, hostEnviron = built, nil }()
	kill := func(m moment) fault {
		return fault{victim: "vfs", order: order{kind: kKill, moment: m, nth: 1}, calls: 300}
	}
	for name, f := range map[string]fault{
		"none": kill(mCheckpoint), "lost": kill(mBefore), "doubled": kill(mBefore), "trimmed": kill(mCheckpoint),
	} {
		t.Run(name, func(t *testing.T) {
			hostEnviron = []string{"RUMPUS_CHAOS_SABOTAGE=" + name}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			n := 30 // faults at most
			if name == "none" {
				n = 3
			}
			r, err := newRound(ctx, 7, rigEtfs, quiet(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.rig.close()
			if err := r.begin(ctx, 0, load{trees: 2, sole: true}); err != nil {
				t.Fatal(err)
			}
			for range n {
				r.faults(ctx, []fault{f})
			}
			r.end(ctx)
			r.watch.c.Exit()
			bad, err := r.wrong()
			if (bad > 0) != (name != "none") {
				t.Errorf("after %d faults: %v", len(r.rep.rows), err)
			}
			t.Logf("after %d faults: %.300v", len(r.rep.rows), err)
		})
	}
}

// TestWrapped: what this program wraps can do what it could.
func TestWrapped(t *testing.T) {
	for name, pair := range map[string][2]vfsops.FS{
		"tmpfs": {(*tmpfs.FS)(nil), tmpfsFS{}}, "msdos": {(*fat.FS)(nil), fatFS{}}, "hostfs": {(*hostfs.FS)(nil), hostfsFS{}},
	} {
		if is, was := vfsops.InterfaceCaps(pair[1]), vfsops.InterfaceCaps(pair[0]); is != was {
			t.Errorf("%s: %#x, not %#x", name, uint64(is), uint64(was))
		}
	}
}

// TestJudge: histories with and without an order.
func TestJudge(t *testing.T) {
	op := func(client int, call, ret int64, in input, out output) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Call: call, Return: ret, Input: in, Output: out}
	}
	app := func(tag string) input { return input{op: doAppend, tag: tag} }
	ok := output{}
	for name, tc := range map[string]struct {
		ops  []porcupine.Operation
		good bool
	}{
		"overlapping appends": {[]porcupine.Operation{op(0, 0, 10, app("a"), ok), op(1, 0, 10, app("b"), ok), op(2, 11, 12, input{op: doRead}, output{text: "ba"})}, true},
		"an append is lost":   {[]porcupine.Operation{op(0, 0, 10, app("a"), ok), op(1, 0, 10, app("b"), ok), op(2, 11, 12, input{op: doRead}, output{text: "b"})}, false},
		"an append is double": {[]porcupine.Operation{op(0, 0, 10, app("a"), ok), op(2, 11, 12, input{op: doRead}, output{text: "aa"})}, false},
		"order is not kept":   {[]porcupine.Operation{op(0, 0, 10, app("a"), ok), op(1, 11, 12, app("b"), ok), op(2, 13, 14, input{op: doRead}, output{text: "ba"})}, false},
		"one of two creates": {[]porcupine.Operation{op(0, 0, 10, input{op: doCreate, name: "a", tag: "1"}, ok),
			op(1, 0, 10, input{op: doCreate, name: "a", tag: "2"}, output{err: abi.EEXIST})}, true},
		"both of two creates": {[]porcupine.Operation{op(0, 0, 10, input{op: doCreate, name: "a", tag: "1"}, ok),
			op(1, 0, 10, input{op: doCreate, name: "a", tag: "2"}, ok)}, false},
		"renamed and still there": {[]porcupine.Operation{op(0, 0, 1, input{op: doCreate, name: "a", tag: "1"}, ok), op(0, 2, 3, input{op: doRename}, ok),
			op(1, 4, 5, input{op: doLook, name: "a"}, ok)}, false},
		"renamed": {[]porcupine.Operation{op(0, 0, 1, input{op: doCreate, name: "a", tag: "1"}, ok), op(0, 2, 3, input{op: doRename}, ok),
			op(1, 4, 5, input{op: doLook, name: "b"}, ok), op(1, 6, 7, input{op: doUnlink, name: "a"}, output{err: abi.ENOENT})}, true},
	} {
		if err := judge(tc.ops); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOrders: an order is what it was after it was a word, and is carried out once,
// at its time, by whom it is meant for.
func TestOrders(t *testing.T) {
	o := order{kind: kDeadlock, moment: mReplay, nth: 12, not: 1<<22 - 1}
	if got := orderOf(o.word()); got != o {
		t.Errorf("%+v, not %+v", got, o)
	}
	p, err := makePage(filepath.Join(t.TempDir(), "page"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.give(order{kind: kExit, moment: mBefore, nth: 2, not: 5})
	for i, tc := range []struct {
		m   moment
		pid uint32
		now bool
	}{{mAfter, 6, false}, {mBefore, 5, false}, {mBefore, 6, false}, {mBefore, 6, true}, {mBefore, 6, false}} {
		if k, now := p.at(tc.m, tc.pid); now != tc.now || now && k != kExit {
			t.Errorf("%d: %v %v", i, k, now)
		}
	}
	if p.fired.Load() != 6 || p.take() {
		t.Errorf("fired by %d", p.fired.Load())
	}
}

// TestUsage: a wrong command line is 2.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"x"}, {"-minutes", "0"}, {"-tier", "x"}, {"-faults", "1"}, {"-nonsense"}} {
		var out, errs bytes.Buffer
		if n := chaos(args, &out, &errs); n != 2 || errs.Len() == 0 {
			t.Errorf("%v: %d %s", args, n, &errs)
		}
	}
}
