package cli

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// test is an expression of find, of one file. An error ends that file.
type test func(ctx context.Context, e *entry) (bool, error)

// findParser reads the expression of find.
type findParser struct {
	f     *finder
	args  []string
	at    int
	depth int // of parentheses
	acts  bool
	dels  bool
	attrs bool // some test looks at attributes: all files are asked for them

	late []func(ctx context.Context) error // to be done once the kernel is there
}

// maxParens bounds how deep an expression is nested.
const maxParens = 1000

// parse reads everything, and adds the -print that goes without saying.
func (p *findParser) parse() (test, error) {
	expr := test(func(context.Context, *entry) (bool, error) { return true, nil })
	if len(p.args) > 0 {
		var err error
		if expr, err = p.or(); err != nil {
			return nil, err
		}
		if p.at < len(p.args) {
			if p.args[p.at] == ")" {
				return nil, usagef("there is a ) without a (")
			}
			return nil, usagef("%q is no test, action or operator", p.args[p.at])
		}
	}
	if p.acts {
		return expr, nil
	}
	return both(expr, p.f.print('\n')), nil
}

func both(a, b test) test {
	return func(ctx context.Context, e *entry) (bool, error) {
		if ok, err := a(ctx, e); !ok || err != nil {
			return false, err
		}
		return b(ctx, e)
	}
}

func (p *findParser) peek() string {
	if p.at < len(p.args) {
		return p.args[p.at]
	}
	return ""
}

func (p *findParser) or() (test, error) {
	a, err := p.and()
	for err == nil && (p.peek() == "-o" || p.peek() == "-or") {
		p.at++
		var b test
		left := a
		if b, err = p.and(); err == nil {
			a = func(ctx context.Context, e *entry) (bool, error) {
				if ok, err := left(ctx, e); ok || err != nil {
					return ok, err
				}
				return b(ctx, e)
			}
		}
	}
	return a, err
}

func (p *findParser) and() (test, error) {
	a, err := p.not()
	for err == nil {
		switch p.peek() {
		case "-a", "-and":
			p.at++
		case "-o", "-or", ")":
			return a, nil
		case "":
			if p.at >= len(p.args) {
				return a, nil
			}
		}
		var b test
		if b, err = p.not(); err == nil {
			a = both(a, b)
		}
	}
	return a, err
}

func (p *findParser) not() (test, error) {
	not := false
	for p.peek() == "!" || p.peek() == "-not" {
		p.at++
		not = !not
	}
	t, err := p.primary()
	if err != nil || !not {
		return t, err
	}
	return func(ctx context.Context, e *entry) (bool, error) {
		ok, err := t(ctx, e)
		return !ok && err == nil, err
	}, nil
}

func (p *findParser) primary() (test, error) {
	if p.at >= len(p.args) {
		if p.at > 0 {
			return nil, usagef("something is missing behind %s", p.args[p.at-1])
		}
		return nil, usagef("an expression is missing")
	}
	word := p.args[p.at]
	p.at++
	if word == "(" {
		if p.depth++; p.depth > maxParens {
			return nil, usagef("the expression is nested more than %d deep", maxParens)
		}
		t, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.peek() != ")" {
			return nil, usagef("there is a ( without a )")
		}
		p.at++
		p.depth--
		return t, nil
	}
	if f := findPlain[word]; f != nil {
		return f(p), nil
	}
	f := findWith[word]
	if f == nil {
		switch word {
		case "-exec", "-execdir", "-ok", "-okdir":
			return nil, usagef("%s: programs are not run, because the kernel's files are not the host's; pipe -print0 into xargs -0", word)
		case ")", "-o", "-or", "-a", "-and":
			return nil, usagef("a test is missing before %s", word)
		}
		return nil, usagef("%q is no test, action or operator", word)
	}
	if p.at >= len(p.args) {
		return nil, usagef("%s: an argument is missing", word)
	}
	arg := p.args[p.at]
	p.at++
	t, err := f(p, word, arg)
	if u, ok := err.(*usageError); ok {
		return nil, usagef("%s: %s", word, u.msg)
	}
	return t, err
}

// always is the test of what holds for the whole walk.
func always(context.Context, *entry) (bool, error) { return true, nil }

// attr is a test of the attributes.
func (p *findParser) attr(ok func(v *abi.Stat) bool) test {
	p.attrs = true
	return func(ctx context.Context, e *entry) (bool, error) { return ok(&e.st), nil }
}

// action notes that something is done, so that nothing is printed unasked.
func (p *findParser) action(t test) test {
	p.acts = true
	return t
}

// findPlain are the words that stand alone.
var findPlain map[string]func(p *findParser) test

// findWith are the words with an argument.
var findWith map[string]func(p *findParser, word, arg string) (test, error)

func init() {
	findPlain = map[string]func(p *findParser) test{
		"-true": func(*findParser) test { return always },
		"-false": func(*findParser) test {
			return func(context.Context, *entry) (bool, error) { return false, nil }
		},
		"-depth": func(p *findParser) test { p.f.depth = true; return always },
		"-xdev":  func(p *findParser) test { p.f.w.oneFS = true; return always },
		"-mount": func(p *findParser) test { p.f.w.oneFS = true; return always },
		"-empty": func(p *findParser) test { p.attrs = true; return p.f.empty },
		"-prune": func(p *findParser) test {
			return func(context.Context, *entry) (bool, error) { p.f.prune = true; return true, nil }
		},
		"-quit": func(p *findParser) test {
			return p.action(func(context.Context, *entry) (bool, error) { return false, errQuit })
		},
		"-print":  func(p *findParser) test { return p.action(p.f.print('\n')) },
		"-print0": func(p *findParser) test { return p.action(p.f.print(0)) },
		"-ls":     func(p *findParser) test { p.attrs = true; return p.action(p.f.ls) },
		"-delete": func(p *findParser) test { p.f.depth, p.dels = true, true; return p.action(p.f.remove) },
	}
	glob := func(what func(e *entry) string, fold bool) func(p *findParser, word, arg string) (test, error) {
		return func(_ *findParser, _, arg string) (test, error) {
			return func(_ context.Context, e *entry) (bool, error) { return globMatch(arg, what(e), fold), nil }, nil
		}
	}
	name, whole := func(e *entry) string { return e.name }, func(e *entry) string { return e.path }
	number := func(get func(st *abi.Stat) uint64) func(p *findParser, word, arg string) (test, error) {
		return func(p *findParser, _, arg string) (test, error) {
			want, err := parseCount(arg)
			return p.attr(func(st *abi.Stat) bool { return want.is(get(st)) }), err
		}
	}
	exact := func(get func(st *abi.Stat) uint64) func(p *findParser, word, arg string) (test, error) {
		return func(p *findParser, _, arg string) (test, error) {
			id, err := strconv.ParseUint(arg, 10, 32)
			if err != nil {
				return nil, usagef("%q is no number, and the kernel has no database of users", arg)
			}
			return p.attr(func(st *abi.Stat) bool { return get(st) == id }), nil
		}
	}
	uid := func(st *abi.Stat) uint64 { return uint64(st.Uid) }
	gid := func(st *abi.Stat) uint64 { return uint64(st.Gid) }
	findWith = map[string]func(p *findParser, word, arg string) (test, error){
		"-name": glob(name, false), "-iname": glob(name, true),
		"-path": glob(whole, false), "-ipath": glob(whole, true),
		"-wholename": glob(whole, false), "-iwholename": glob(whole, true),
		"-uid": number(uid), "-gid": number(gid), "-user": exact(uid), "-group": exact(gid),
		"-links": number(func(st *abi.Stat) uint64 { return uint64(st.Nlink) }),
		"-inum":  number(func(st *abi.Stat) uint64 { return uint64(st.Fileid) }),
		"-type":  findType, "-size": findSize, "-perm": findPerm, "-newer": findNewer, "-anewer": findNewer, "-cnewer": findNewer,
		"-mtime": findAge, "-atime": findAge, "-ctime": findAge, "-mmin": findAge, "-amin": findAge, "-cmin": findAge,
		"-maxdepth": findDepth, "-mindepth": findDepth,
		"-fstype": func(p *findParser, _, arg string) (test, error) {
			p.attrs = true
			return func(ctx context.Context, e *entry) (bool, error) {
				typ, err := p.f.fstype(ctx, e)
				return typ == arg, err
			}, nil
		},
	}
}

// count is N, +N or -N.
type count struct {
	order int // -1: less, 0: equal, 1: more
	n     uint64
}

func (c count) is(n uint64) bool { return cmp.Compare(n, c.n) == c.order }

func parseCount(s string) (count, error) {
	c := count{}
	digits := s
	if s != "" && s[0] == '+' {
		c.order, digits = 1, s[1:]
	} else if s != "" && s[0] == '-' {
		c.order, digits = -1, s[1:]
	}
	var err error
	if c.n, err = strconv.ParseUint(digits, 10, 63); err != nil {
		return c, usagef("%q is no number N, +N or -N", s)
	}
	return c, nil
}

func findType(_ *findParser, _, arg string) (test, error) {
	types := make(map[abi.VType]bool)
	for l := range strings.SplitSeq(arg, ",") {
		found := false
		for t, letter := range typeLetters {
			if letter == '-' {
				letter = 'f'
			}
			if l == string(letter) {
				types[t], found = true, true
			}
		}
		if !found {
			return nil, usagef("%q is none of the types b, c, d, f, l, p and s", l)
		}
	}
	return func(_ context.Context, e *entry) (bool, error) { return types[e.typ], nil }, nil
}

func findSize(p *findParser, _, arg string) (test, error) {
	unit, digits := uint64(abi.S_BLKSIZE), arg
	if n := len(arg) - 1; n >= 0 {
		if i := strings.IndexByte("ckMGT", arg[n]); i >= 0 {
			unit, digits = 1<<(10*i), arg[:n]
		}
	}
	want, err := parseCount(digits)
	if err != nil {
		return nil, usagef("%q is no size N, +N or -N with c, k, M, G, T or nothing behind it", arg)
	}
	return p.attr(func(st *abi.Stat) bool { return want.is((uint64(max(st.Size, 0)) + unit - 1) / unit) }), nil
}

func findPerm(p *findParser, _, arg string) (test, error) {
	how, mode := byte(0), arg
	if arg != "" && strings.IndexByte("-/+", arg[0]) >= 0 {
		how, mode = arg[0], arg[1:]
	}
	change, err := parseMode(mode)
	if err != nil {
		return nil, err
	}
	want := change(0, false)
	return p.attr(func(st *abi.Stat) bool {
		have := st.Mode & abi.ALLPERMS
		switch how {
		case '-':
			return have&want == want
		case '/', '+':
			return want == 0 || have&want != 0
		}
		return have == want
	}), nil
}

// stamp is the time that a word such as -mtime, -amin or -cnewer is about.
func stamp(word string, st *abi.Stat) abi.Timespec {
	switch word[1] {
	case 'a':
		return st.Atime
	case 'c':
		return st.Ctime
	}
	return st.Mtime
}

func findNewer(p *findParser, word, arg string) (test, error) {
	var than abi.Timespec
	p.late = append(p.late, func(ctx context.Context) error {
		st, err := p.f.k.Stat(ctx, arg)
		than = st.Mtime
		return err
	})
	return p.attr(func(st *abi.Stat) bool {
		have := stamp(word, st)
		return cmp.Or(cmp.Compare(have.Sec, than.Sec), cmp.Compare(have.Nsec, than.Nsec)) > 0
	}), nil
}

func findAge(p *findParser, word, arg string) (test, error) {
	want, err := parseCount(arg)
	if err != nil {
		return nil, err
	}
	unit := int64(24 * time.Hour / time.Second)
	if strings.HasSuffix(word, "min") {
		unit = 60
	}
	return p.attr(func(st *abi.Stat) bool {
		t := stamp(word, st)
		now := abi.TimespecOf(p.f.now)
		age := now.Sec - t.Sec
		if now.Nsec < t.Nsec {
			age--
		}
		n := age / unit
		if age < 0 {
			// In the future: less than every N, and equal to none.
			return want.order < 0
		}
		return want.is(uint64(min(n, math.MaxInt64)))
	}), nil
}

func findDepth(p *findParser, word, arg string) (test, error) {
	n, err := strconv.ParseUint(arg, 10, 31)
	if err != nil {
		return nil, usagef("%q is no number", arg)
	}
	if word == "-maxdepth" {
		p.f.max = int(n)
	} else {
		p.f.min = int(n)
	}
	return always, nil
}
