package cli

import (
	"reflect"
	"strings"
	"testing"
)

func TestShWords(t *testing.T) {
	for _, x := range []struct {
		line string
		want []string
		rest string
		bad  string
	}{
		{"", nil, "", ""},
		{"  ls   -l\tx\n", []string{"ls", "-l", "x"}, "", ""},
		{"a;b;c", []string{"a"}, "b;c", ""},
		{`a 'b c' "d e" f\ g`, []string{"a", "b c", "d e", "f g"}, "", ""},
		{`a ''`, []string{"a", ""}, "", ""},
		{`a"b"'c'd`, []string{"abcd"}, "", ""},
		{`"a\"b\\c\d"`, []string{`a"b\c\d`}, "", ""},
		{`'a;b#c' # d ; e`, []string{"a;b#c"}, "", ""},
		{"a#b", []string{"a#b"}, "", ""},
		{"# all of it\nls", nil, "ls", ""},
		{"'a", nil, "", "not closed"},
		{`"a`, nil, "", "not closed"},
		{`a \`, nil, "", "nothing behind"},
	} {
		words, rest, err := shWords(x.line)
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		switch {
		case x.bad != "":
			if err == nil || !strings.Contains(err.Error(), x.bad) {
				t.Errorf("%q: %v, wanted %s", x.line, err, x.bad)
			}
		case err != nil || !reflect.DeepEqual(got, x.want) || rest != x.rest:
			t.Errorf("%q: %q, rest %q, %v; wanted %q, %q", x.line, got, rest, err, x.want, x.rest)
		}
	}
}

func TestShGlob(t *testing.T) {
	words, _, err := shWords(`a* 'b*' c\* "d"?`)
	if err != nil || len(words) != 4 {
		t.Fatal(words, err)
	}
	for i, glob := range []bool{true, false, false, true} {
		if w := words[i]; w.glob != glob || globMatch(w.pattern, "b*", false) != (i == 1) {
			t.Errorf("%+v", w)
		}
	}
}

func FuzzShWords(f *testing.F) {
	f.Add(`a 'b c' "d\"" \e *.c; f # g`)
	f.Fuzz(func(t *testing.T, line string) {
		for len(line) > 0 {
			words, rest, err := shWords(line)
			if err != nil {
				return
			}
			if len(rest) >= len(line) {
				t.Fatalf("%q goes on with %q", line, rest)
			}
			for _, w := range words {
				if unescape(w.pattern) != w.text {
					t.Fatalf("%q: the pattern of %q is %q", line, w.text, w.pattern)
				}
			}
			line = rest
		}
	})
}
