package cli

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		fold, want bool
	}{
		{"", "", false, true}, {"", "a", false, false}, {"*", "", false, true}, {"*", "a/b", false, true},
		{"a*b*c", "axxbyyc", false, true}, {"a*b*c", "axxbyy", false, false}, {"**", "x", false, true},
		{"?", "é", false, true}, {"??", "é", false, false}, {"?", "", false, false}, {"?", "\xff", false, true},
		{"[a-c]x", "bx", false, true}, {"[!a-c]x", "bx", false, false}, {"[^a-c]x", "dx", false, true},
		{"[]x]", "]", false, true}, {"[]", "[]", false, true}, {"[a", "[a", false, true}, {"[a-]", "-", false, true},
		{"[[:digit:][:upper:]]", "7", false, true}, {"[[:digit:]]", "x", false, false}, {"[[:nope:]]", "n]", false, true},
		{`\*`, "*", false, true}, {`\*`, "x", false, false}, {`a\`, `a\`, false, true}, {`[\]]`, "]", false, true},
		{"*.GO", "x.go", true, true}, {"*.GO", "x.go", false, false}, {".*", ".x", false, true}, {"*", ".x", false, true},
		{"\xff*", "\xffx", false, true}, {strings.Repeat("a*", 100) + "b", strings.Repeat("a", 5000), false, false},
	} {
		if got := globMatch(c.pattern, c.s, c.fold); got != c.want {
			t.Errorf("%q matches %.20q: %v", c.pattern, c.s, got)
		}
	}
}

// FuzzGlob: any pattern ends, and where path.Match knows the same syntax it says
// the same.
func FuzzGlob(f *testing.F) {
	for _, p := range []string{"*", "a?c", "[a-c]*", `\[x`, "[!a]", "[", "***a", "[[:alpha:]]"} {
		f.Add(p, "abc")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 100 || len(s) > 100 {
			return
		}
		got := globMatch(pattern, s, false)
		globMatch(pattern, s, true)
		if strings.ContainsAny(pattern+s, `/[]\`) || slices.ContainsFunc([]rune(pattern+s), func(r rune) bool { return r > 0x7e || r < ' ' }) {
			return
		}
		if want, err := path.Match(pattern, s); err == nil && got != want {
			t.Errorf("%q matches %q: %v", pattern, s, got)
		}
	})
}

// TestFindArgs: what are flags and what is the expression.
func TestFindArgs(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"/t", "-- /t"}, {"-name x", "-- -name x"}, {"-L /t -name x", "-L -- /t -name x"}, {"-dsx -print", "-dsx -- -print"},
		{"--json -H /t", "--json -H -- /t"}, {"--timeout 5s /t", "--timeout 5s -- /t"}, {"--timeout=5s -P", "--timeout=5s -P"},
		{"-- -x", "-- -x"}, {"-x -- -print", "-x -- -print"}, {"! -name x", "-- ! -name x"}, {"-", "-- -"}, {"--timeout", "--timeout"},
	} {
		if got := strings.Join(findArgs(strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%q becomes %q, not %q", c.in, got, c.want)
		}
	}
}

// TestFindLogic: how tests are joined, on one file.
func TestFindLogic(t *testing.T) {
	for _, c := range []struct {
		expr string
		want bool
		bad  string
	}{
		{expr: "-true", want: true}, {expr: "-false"}, {expr: "! -false", want: true}, {expr: "! ! -true", want: true},
		{expr: "-true -false"}, {expr: "-true -a -true", want: true}, {expr: "-false -o -true", want: true},
		{expr: "-true -o -true -false", want: true}, {expr: "( -true -o -true ) -false"}, {expr: "! ( -false -or -false )", want: true},
		{expr: "! -true -o -true", want: true}, {expr: "-not -false -and -true", want: true},
		{expr: "-name f", want: true}, {expr: "-path /d/*", want: true}, {expr: "-iname F", want: true}, {expr: "-ipath /D*", want: true},
		{expr: "-type f", want: true}, {expr: "-type d,f", want: true}, {expr: "-type d"}, {expr: "-size 3", want: true}, {expr: "-size -3"},
		{expr: "-size +1024c", want: true}, {expr: "-size 1025c", want: true}, {expr: "-size 2k", want: true}, {expr: "-size 1M", want: true},
		{expr: "-mtime 1", want: true}, {expr: "-mtime +0", want: true}, {expr: "-mtime +1"}, {expr: "-mmin -1442", want: true}, {expr: "-mmin 1441", want: true},
		{expr: "-atime -0", want: true}, {expr: "-atime -1", want: true}, {expr: "-atime 0"}, {expr: "-ctime +10000", want: true},
		{expr: "-perm 640", want: true}, {expr: "-perm u=rw,g=r", want: true}, {expr: "-perm -g+r", want: true}, {expr: "-perm -o+r"}, {expr: "-perm /o+r,u+r", want: true}, {expr: "-perm /0", want: true},
		{expr: "-uid 7 -user 7 -gid 8 -group 8 -links 2 -inum 99", want: true}, {expr: "-links +2"}, {expr: "-empty"},
		{expr: "", want: true}, {expr: "-o", bad: "before -o"}, {expr: "-true -o", bad: "missing behind -o"}, {expr: "!", bad: "missing behind !"},
		{expr: "( -true", bad: "without a )"}, {expr: "-true )", bad: "without a ("}, {expr: "( )", bad: "before )"}, {expr: "-true x", bad: `"x" is no test`},
		{expr: "-type x", bad: "none of the types"}, {expr: "-type -", bad: "none of the types"}, {expr: "-size k", bad: "is no size"}, {expr: "-mtime x", bad: "is no number"},
		{expr: "-perm 9", bad: "-perm: "}, {expr: "-user root", bad: "no database"}, {expr: "-maxdepth -1", bad: "is no number"}, {expr: "-links", bad: "argument is missing"},
		{expr: strings.Repeat("( ", 2000), bad: "nested"},
	} {
		f := &finder{c: newCall(streams{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}, globals{}, findVerb), now: time.Unix(2e9, 0)}
		p := &findParser{f: f, args: strings.Fields(c.expr)}
		expr, err := p.parse()
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%.40q: %v, not %q", c.expr, err, c.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		const day = 24 * 3600
		e := &entry{path: "/d/f", name: "f", typ: abi.VREG, known: true, st: abi.Stat{Vattr: abi.Vattr{Type: abi.VREG, Mode: 0o640, Uid: 7, Gid: 8, Nlink: 2,
			Fileid: 99, Size: 1025, Mtime: abi.Timespec{Sec: 2e9 - day - 60}, Atime: abi.Timespec{Sec: 2e9 + 1}}}}
		if got, err := expr(t.Context(), e); got != c.want || err != nil {
			t.Errorf("%q: %v, %v", c.expr, got, err)
		}
	}
}

// TestFindHostile: names that are none are told and left alone, a directory
// that contains itself ends, and nothing drives a terminal.
func TestFindHostile(t *testing.T) {
	nodes := map[string]node{
		"/t":         {typ: abi.VDIR, entries: append(dirents("../x", "..", "\x1b[2J", "gone"), abi.Dirent{Name: "t2", Type: abi.VDIR})},
		"/t/t2":      {typ: abi.VDIR, entries: []abi.Dirent{{Name: "u", Type: abi.VDIR}}},
		"/t/\x1b[2J": {typ: abi.VREG},
		"/../x":      {typ: abi.VREG},
	}
	// Each directory below says that it is another one, with itself in it.
	deep := "/t/t2"
	for range maxDepth + 2 {
		deep += "/u"
		nodes[deep] = node{typ: abi.VDIR, entries: []abi.Dirent{{Name: "u", Type: abi.VDIR}}}
	}
	for _, args := range [][]string{{"find", "/t", "-type", "d"}, {"find", "/t", "-ls"}, {"du", "-a", "/t"}, {"tree", "/t"}, {"tree", "-s", "/t"}} {
		c, out, errs := fakeCall(t, newFake(nodes), args[0], nil)
		c.tty = true
		code := runFake(t, c, append([]string{"--"}, args[1:]...)...)
		if code != exitRefused || !strings.Contains(errs.String(), `it has an entry named "../x"`) || !strings.Contains(errs.String(), "directories deep") {
			t.Errorf("%v: exit %d, %.300s", args, code, errs)
		}
		if s := out.String() + errs.String(); strings.ContainsAny(s, "\x1b") || !strings.Contains(s, "/t") || strings.Contains(out.String(), "../x") {
			t.Errorf("%v writes %.300q", args, s)
		}
	}
}

// TestStatFormat: the formats of stat -f.
func TestStatFormat(t *testing.T) {
	fi := &fileInfo{name: "n\x1bame", target: "to", st: abi.Stat{Dev: 5, Vattr: abi.Vattr{Type: abi.VLNK, Mode: 0o4751, Nlink: 2, Uid: 7, Gid: 8, Fileid: 255,
		Rdev: abi.Makedev(3, 9), Size: 1000, Bytes: 4096, Blksize: 512, Mtime: abi.Timespec{Sec: -1, Nsec: 5}}}}
	for _, c := range []struct{ format, want, bad string }{
		{format: "", want: ""}, {format: "a%%b%n%t", want: "a%b\n\t"}, {format: "%N %Y", want: "n?ame to"}, {format: "%@", want: "3"},
		{format: "%p %Lp %Mp %Hp %OLp %XLp", want: "124751 751 4 12 751 1e9"}, {format: "%Sp %SHp %SMp %SLp", want: "lrwsr-x--x rws r-x --x"},
		{format: "%T %HT", want: "@ Symbolic Link"}, {format: "%10z|%-10z|%010z|%+Dz", want: "      1000|1000      |0000001000|+1000"},
		{format: "%#Xi %#Oi", want: "0xff 0377"}, {format: "%Hr,%Lr %d", want: "3,9 5"}, {format: "%5.3N|%-5.1Y|", want: "  n?a|t    |"},
		{format: "%m %Fm %.3Fm %.0Fm", want: "-1 -1.000000005 -1.000 -1"}, {format: "%Sm", want: "1969-12-31T23:59:59.000000005Z"}, {format: "%l %u %g %b %k %Z", want: "2 7 8 8 512 1000"},
		{format: "%", bad: "has no end"}, {format: "%q", bad: "names nothing"}, {format: "%SN%Ol%FN", bad: "cannot be shown as F"}, {format: "%Hz", bad: "has no part"},
		{format: "%99999z", bad: "more than 1000"}, {format: "%.99999999999999999999z", bad: "more than 1000"}, {format: "%-", bad: "has no end"},
	} {
		fields, err := parseStatFormat(c.format)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v, not %q", c.format, err, c.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.format, err)
		} else if got := string(appendStat(nil, fields, fi, 3, printable)); got != c.want {
			t.Errorf("%q: %q, not %q", c.format, got, c.want)
		}
	}
}

// FuzzStatFormat: no format makes stat fall over.
func FuzzStatFormat(f *testing.F) {
	f.Add("%SHT %Lp %z")
	f.Add("%-+# 010.5Xi%%")
	f.Fuzz(func(t *testing.T, format string) {
		if fields, err := parseStatFormat(format); err == nil {
			if s := string(appendStat(nil, fields, &fileInfo{}, 1, printable)); strings.Contains(s, "%!") && !strings.Contains(format, "!") {
				t.Errorf("%q writes %q", format, s)
			}
		}
	})
}
