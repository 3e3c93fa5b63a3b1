package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// row is what came of one fault, or of one round of a tier without single ones.
type row struct {
	tier, kind, victim, moment string
	seed                       uint64
	skipped, failed            bool
	deaths                     int
	recovery, own              time.Duration
	err                        error
}

// report collects rows: in a CSV, in totals, as progress.
type report struct {
	out    io.Writer
	csv    *csv.Writer
	file   *os.File
	began  time.Time
	rows   []row
	calls  int64 // system calls, each with its answer checked
	sims   int64 // operations of the tier sim
	cuts   int64 // power cuts of the tier power
	passed int
	failed int
	again  []string // command lines of failing seeds
	shown  time.Time
}

// newReport opens the CSV; path "" is without.
func newReport(out io.Writer, path string) (*report, error) {
	p := &report{out: out, began: time.Now(), shown: time.Now()}
	if path == "" {
		return p, nil
	}
	var err error
	if p.file, err = os.Create(path); err != nil {
		return nil, err
	}
	p.csv = csv.NewWriter(p.file)
	return p, p.csv.Write([]string{"seed", "time", "tier", "kind", "victim", "moment", "deaths", "recovery_ns", "known_ns", "result"})
}

// row adds a row.
func (p *report) row(w row) {
	p.rows = append(p.rows, w)
	result := "ok"
	switch {
	case w.failed:
		result = "failed"
	case w.skipped:
		result = "not reached"
	}
	if p.csv != nil {
		p.csv.Write([]string{strconv.FormatUint(w.seed, 10), time.Now().UTC().Format(time.RFC3339Nano), w.tier, w.kind, w.victim, w.moment,
			strconv.Itoa(w.deaths), strconv.FormatInt(int64(w.recovery), 10), strconv.FormatInt(int64(w.own), 10), result})
		p.csv.Flush()
	}
	if now := time.Now(); now.Sub(p.shown) > 5*time.Second {
		p.shown = now
		fmt.Fprintf(p.out, "%6s  %d faults, %d system calls checked, %d rounds passed, %d failed\n", now.Sub(p.began).Round(time.Second), len(p.rows), p.calls, p.passed, p.failed)
	}
}

// round says how a round ended. again are the arguments that repeat it.
func (p *report) round(again string, err error) {
	if err == nil {
		p.passed++
		return
	}
	p.failed++
	p.again = append(p.again, "rumpus-chaos "+again)
	fmt.Fprintf(p.out, "FAILED: rumpus-chaos %s\n%v\n", again, err)
}

// quantile is the q-th part of sorted times.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	return ds[min(int(q*float64(len(ds))), len(ds)-1)]
}

// close writes the table and the last line, and answers the exit status.
func (p *report) close() int {
	if p.file != nil {
		p.csv.Flush()
		p.file.Close()
	}
	type key struct{ tier, victim, kind string }
	type sum struct {
		n, deaths, skipped, failed int
		took                       []time.Duration
	}
	sums := map[key]*sum{}
	total := sum{}
	for _, w := range p.rows {
		k := key{w.tier, w.victim, w.kind}
		if sums[k] == nil {
			sums[k] = &sum{}
		}
		for _, s := range []*sum{sums[k], &total} {
			if w.skipped {
				s.skipped++
				continue
			}
			s.n++
			if s != &total || w.tier != "sim" { // nobody died but in a simulation
				s.deaths += w.deaths
			}
			if w.failed {
				s.failed++
			} else if w.recovery > 0 {
				s.took = append(s.took, w.recovery)
			}
		}
	}
	keys := make([]key, 0, len(sums))
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return slices.Compare([]string{a.tier, a.victim, a.kind}, []string{b.tier, b.victim, b.kind})
	})
	tw := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "tier\tvictim\tkind\tfaults\tdeaths\tnot reached\tfailed\trecovery p50\tp99")
	line := func(k key, s *sum) {
		slices.Sort(s.took)
		round := func(q float64) string {
			if len(s.took) == 0 {
				return "-"
			}
			return quantile(s.took, q).Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", k.tier, k.victim, k.kind, s.n, s.deaths, s.skipped, s.failed, round(0.5), round(0.99))
	}
	for _, k := range keys {
		line(k, sums[k])
	}
	line(key{"all", "", ""}, &total)
	tw.Flush()
	fmt.Fprintf(p.out, "%d processes died, %d system calls and %d operations of the simulation checked, %d power cuts, in %v\n", total.deaths, p.calls, p.sims, p.cuts, time.Since(p.began).Round(time.Second))
	for _, a := range p.again {
		fmt.Fprintln(p.out, "again:", a)
	}
	fmt.Fprintf(p.out, "%d passed, %d failed\n", p.passed, p.failed)
	if p.failed > 0 {
		return 1
	}
	return 0
}
