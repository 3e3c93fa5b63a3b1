package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// head is the first line of the table.
var head = []string{"operation", "path", "callers", "p50", "p99", "op/s", "cpu/op", "GB/s", "x linux", "x grpc"}

// cells are a row as text. grpc is the median of the gRPC peer with the same
// hops, 0 if there is none.
func cells(r Row, grpc float64) []string {
	c := []string{r.Operation, r.Path, fmt.Sprint(r.Callers), dur(r.P50), dur(r.P99), rate(r.Ops), dur(r.CPU), "", "", ""}
	if r.Unit != "" {
		return []string{r.Operation, r.Path, "", strconv.FormatFloat(r.Value, 'f', -1, 64) + " " + r.Unit, "", "", "", "", "", ""}
	}
	if n := bytesOf[r.Operation]; n > 0 {
		c[7] = fmt.Sprintf("%.2f", n*r.Ops/1e9)
	}
	if r.Ratio > 0 {
		c[8] = fmt.Sprintf("%.2f", r.Ratio)
	}
	if grpc > 0 && r.P50 > 0 {
		switch x := grpc / r.P50; {
		case x < 1:
			c[9] = fmt.Sprintf("%.1f", 1/x)
		case x < 9.95:
			c[9] = fmt.Sprintf("1/%.1f", x)
		default:
			c[9] = fmt.Sprintf("1/%.0f", x)
		}
	}
	return c
}

// dur is a time with three digits and its unit.
func dur(ns float64) string {
	switch {
	case ns < 999.5:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 9_995:
		return fmt.Sprintf("%.2f us", ns/1e3)
	case ns < 99_950:
		return fmt.Sprintf("%.1f us", ns/1e3)
	case ns < 999_500:
		return fmt.Sprintf("%.0f us", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}

// rate is a number a second with three digits.
func rate(n float64) string {
	switch {
	case n < 9_995:
		return fmt.Sprintf("%.0f", n)
	case n < 999_500:
		return fmt.Sprintf("%.0f k", n/1e3)
	}
	return fmt.Sprintf("%.2f M", n/1e6)
}

// grpcOf finds the median of the gRPC peer with the hops of a row: our rows
// with a client process against one hop for a hit and two for a crossing, the
// embedded client's crossings against one.
func grpcOf(rows []Row, r Row) float64 {
	peer := ""
	switch {
	case strings.HasPrefix(r.Path, "c-") && crossing[r.Operation]:
		peer = pathGRPC2
	case strings.HasPrefix(r.Path, "c-"), strings.HasPrefix(r.Path, "b-") && crossing[r.Operation]:
		peer = pathGRPC1
	}
	for _, o := range rows {
		if o.Path == peer && o.Operation == r.Operation && o.Callers == r.Callers {
			return o.P50
		}
	}
	return 0
}

// writeTable writes rows as a table whose columns line up; in Markdown if md.
func writeTable(w io.Writer, rows []Row, md bool) error {
	lines := [][]string{head}
	for _, r := range rows {
		lines = append(lines, cells(r, grpcOf(rows, r)))
	}
	width := make([]int, len(head))
	for _, l := range lines {
		for i, c := range l {
			width[i] = max(width[i], len(c))
		}
	}
	b := bufio.NewWriter(w)
	for n, l := range lines {
		if n > 0 && !md && rows[n-1].Operation != lines[max(n-1, 1)][0] {
			b.WriteByte('\n')
		}
		var s strings.Builder
		for i, c := range l {
			if md {
				s.WriteString("| ")
			} else if i > 0 {
				s.WriteString("  ")
			}
			if i < 2 {
				fmt.Fprintf(&s, "%-*s", width[i], c)
			} else {
				fmt.Fprintf(&s, "%*s", width[i], c)
			}
			if md {
				s.WriteByte(' ')
			}
		}
		if md {
			s.WriteByte('|')
		}
		fmt.Fprintln(b, strings.TrimRight(s.String(), " "))
		if n == 0 && md {
			for i := range head {
				dash := strings.Repeat("-", width[i]+1)
				if i < 2 {
					fmt.Fprintf(b, "|%s-", dash)
				} else {
					fmt.Fprintf(b, "|%s:", dash)
				}
			}
			fmt.Fprintln(b, "|")
		}
	}
	return b.Flush()
}

// machine is one line about where the figures are from.
func machine() string {
	model := "unknown CPU"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	release := "unknown"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	load := ""
	if p, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(p), " ")
	}
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s, load %s", model, runtime.NumCPU(), release, runtime.Version(), load)
}

// appendResults adds a dated section to the file of results.
func appendResults(file string, rows []Row, t time.Duration) error {
	commit := "unknown commit"
	if p, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		commit = strings.TrimSpace(string(p))
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() == 0 {
		fmt.Fprint(f, "# Benchmark results\n\n`make bench` appends here. The package comment of host/bench says what is measured; compare ratios, in one run.\n")
	}
	fmt.Fprintf(f, "\n## %s, %s\n\n%s; %v a row.\n\n", time.Now().UTC().Format("2006-01-02 15:04"), commit, machine(), t)
	if err := writeTable(f, rows, true); err != nil {
		return err
	}
	return f.Close()
}
