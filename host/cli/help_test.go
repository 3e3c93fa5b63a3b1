package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestGolden holds the manual and some pages against testdata/*.golden;
// -update rewrites these.
func TestGolden(t *testing.T) {
	pages := map[string]func(b *bytes.Buffer){
		"help":  func(b *bytes.Buffer) { writeManual(b) },
		"table": func(b *bytes.Buffer) { b.WriteString(Table()) },
	}
	for _, name := range []string{"run", "cp", "nc", "modstat", "config"} {
		pages["help-"+name] = func(b *bytes.Buffer) { writePage(b, verbNamed(name)) }
	}
	for name, write := range pages {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			write(&b)
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s differs (go test -update rewrites it):\n%s", file, b.Bytes())
			}
		})
	}
}

// TestManual checks that every verb has a whole page, within the width of a
// terminal, and stands in the manual and the table.
func TestManual(t *testing.T) {
	var manual bytes.Buffer
	writeManual(&manual)
	checkWidth(t, "help", manual.String())
	seen := make(map[string]bool)
	for _, v := range verbs {
		if seen[v.name] {
			t.Errorf("%s is there twice", v.name)
		}
		seen[v.name] = true
		if !strings.Contains(manual.String(), "\n     "+v.name+" ") {
			t.Errorf("%s is not in the manual", v.name)
		}
		if !strings.Contains(Table(), "`"+v.name+"`") {
			t.Errorf("%s is not in the table", v.name)
		}
		if len(v.synopsis) == 0 || len(v.long) == 0 || v.short == "" || strings.HasSuffix(v.short, ".") {
			t.Errorf("%s: its page is not whole", v.name)
		}
		if len(v.examples) == 0 && v.name != "version" {
			t.Errorf("%s has no example", v.name)
		}
		for _, p := range v.long {
			if !strings.HasPrefix(p, " ") && !strings.HasSuffix(p, ".") && !strings.HasSuffix(p, ":") && !strings.HasSuffix(p, ")") {
				t.Errorf("%s: paragraph without an end: %q", v.name, p)
			}
		}
		var page bytes.Buffer
		writePage(&page, v)
		if v.name != "run" { // which shows the ready line as it is
			checkWidth(t, v.name, page.String())
		}
		fs := newFlags(v.name)
		v.setup(fs)
		fs.VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" && !f.Hidden {
				t.Errorf("%s: flag --%s says nothing", v.name, f.Name)
			}
			// A shorthand must be in the synopsis.
			if f.Shorthand != "" && !f.Hidden && !strings.Contains(synopsisLetters(v), f.Shorthand) {
				t.Errorf("%s: -%s is not in the synopsis", v.name, f.Shorthand)
			}
		})
	}
	for from, to := range aliases {
		if verbNamed(to) == nil || verbNamed(from) != nil {
			t.Errorf("alias %s for %s", from, to)
		}
	}
}

// synopsisLetters are the letters behind a "-" in a synopsis.
func synopsisLetters(v *verb) string {
	var b strings.Builder
	for _, s := range v.synopsis {
		for _, w := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" []|", r) }) {
			if len(w) > 1 && w[0] == '-' && w[1] != '-' {
				b.WriteString(w[1:])
			}
		}
	}
	return b.String()
}

func checkWidth(t *testing.T, name, text string) {
	for line := range strings.Lines(text) {
		if len(line) > 80 && !strings.Contains(line, "$ ") && !strings.Contains(line, "rumpus "+name) {
			t.Errorf("%s: line of %d columns: %q", name, len(line), line)
		}
	}
}

// TestReadme holds the table of verbs in README.md against Table.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), Table()) {
		t.Errorf("README.md must have this table, which is testdata/table.golden:\n%s", Table())
	}
}

func TestSuggest(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"modlod", "modload"}, {"sl", "ls"}, {"hlat", "halt"}, {"lsmod", "modstat"}, {"umont", "umount"},
		{"xyzzy", ""}, {"q", ""}, {"", ""}, {strings.Repeat("a", 10000), ""},
	} {
		if got := suggest(c.name); got != c.want {
			t.Errorf("suggest(%.20q) = %q, not %q", c.name, got, c.want)
		}
	}
}
