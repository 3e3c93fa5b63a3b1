package posixtest

import (
	"fmt"
	"path"
	"sort"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Case is one thing that POSIX, or where it leaves it open NetBSD, says.
type Case struct {
	Group string // "open", "rename": what Table counts by
	Name  string
	Root  bool   // needs other users, or the super-user's rights
	Needs string // one or more words that World.Lacks may have
	Run   func(p *P)
}

// cases collects the groups' tables; each file of cases adds its own.
var cases []Case

// group adds cases to the table.
func group(name string, cs ...Case) bool {
	for i := range cs {
		cs[i].Group = name
	}
	cases = append(cases, cs...)
	return true
}

// Cases answers the table, ordered by group.
func Cases() []Case {
	cs := append([]Case(nil), cases...)
	sort.SliceStable(cs, func(i, j int) bool { return cs[i].Group < cs[j].Group })
	return cs
}

// Count is what became of the cases of a group.
type Count struct{ Pass, Fail, Skip int }

// Result counts by group.
type Result map[string]*Count

// Run judges a file system by the whole table, and answers the count.
func Run(t *testing.T, w World) Result {
	res := Result{}
	for i, c := range Cases() {
		n := res[c.Group]
		if n == nil {
			n = &Count{}
			res[c.Group] = n
		}
		why := ""
		for _, word := range strings.Fields(c.Needs) {
			if s := w.Lacks[word]; s != "" {
				why = word + ": " + s
			}
		}
		if strings.Contains(c.Needs, "small") && w.Small == "" && why == "" {
			why = "no small file system"
		}
		if c.Root && !w.Root {
			why = "needs the super-user"
		}
		if why != "" {
			n.Skip++
			continue
		}
		if t.Run(c.Group+"/"+strings.ReplaceAll(c.Name, " ", "_"), func(t *testing.T) { run(t, &w, c, i) }) {
			n.Pass++
		} else {
			n.Fail++
		}
	}
	return res
}

func run(t *testing.T, w *World, c Case, i int) {
	p := newP(t, w, 0, 0)
	p.check("umask", second(p.s.Umask(0o022)), nil)
	dir := path.Join(w.Dir, fmt.Sprintf("c%03d", i))
	if err := p.s.Mkdirat(abi.AT_FDCWD, dir, 0o755); err != nil {
		t.Fatalf("directory of the case: %v", err)
	}
	p.dir = dir
	p.check("chdir", p.s.Chdir(dir), nil)
	c.Run(p)
}

func second[A any](_ A, err error) error { return err }

// Table formats results as a table in Markdown: one line a group, one column a
// file system, "passed" or "passed/cases" where not all did.
func Table(names []string, results []Result) string {
	var b strings.Builder
	groups := map[string]bool{}
	for _, r := range results {
		for g := range r {
			groups[g] = true
		}
	}
	var sorted []string
	for g := range groups {
		sorted = append(sorted, g)
	}
	sort.Strings(sorted)
	fmt.Fprintf(&b, "| group | cases |")
	for _, n := range names {
		fmt.Fprintf(&b, " %s |", n)
	}
	fmt.Fprintf(&b, "\n|---|---|%s\n", strings.Repeat("---|", len(names)))
	sum := make([]Count, len(results))
	total := 0
	for _, g := range sorted {
		all := 0
		for _, c := range cases {
			if c.Group == g {
				all++
			}
		}
		total += all
		fmt.Fprintf(&b, "| %s | %d |", g, all)
		for i, r := range results {
			c := r[g]
			if c == nil {
				c = &Count{}
			}
			sum[i].Pass, sum[i].Fail, sum[i].Skip = sum[i].Pass+c.Pass, sum[i].Fail+c.Fail, sum[i].Skip+c.Skip
			b.WriteString(cell(c))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "| all | %d |", total)
	for i := range sum {
		b.WriteString(cell(&sum[i]))
	}
	b.WriteByte('\n')
	return b.String()
}

func cell(c *Count) string {
	s := fmt.Sprintf(" %d", c.Pass)
	if c.Fail > 0 {
		s += fmt.Sprintf(", %d fail", c.Fail)
	}
	if c.Skip > 0 {
		s += fmt.Sprintf(", %d skipped", c.Skip)
	}
	return s + " |"
}
