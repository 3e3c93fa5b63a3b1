package sysctl

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// parts is a tree with a dynamic branch proc and a branch without anything.
func parts(t *testing.T) (*Tree, map[string]string) {
	tr := New()
	live := map[string]string{"3": "three", "40": "forty"}
	tr.Dynamic("proc", Dynamic{
		Parts: func() []string { return []string{"3", "40"} },
		Nodes: func(p string) []Node {
			if live[p] == "" {
				return nil
			}
			return []Node{
				{Name: "corename", Type: TypeString, Desc: "Core file", Get: func() string { return live[p] }, Set: func(s string) error { live[p] = s; return nil }},
				{Name: "rlimit.cpu.soft", Type: TypeQuad, Get: Const("7")},
			}
		},
	})
	tr.Branch("machdep", "Machine dependent")
	for _, n := range []Node{
		{Name: "kern.ostype", Type: TypeString, Desc: "System", Get: Const("x")},
		{Name: "kern.module.path", Type: TypeString, Get: Const("p")},
		{Name: "hw.ncpu", Type: TypeInt, Get: Const("2")},
		{Name: "own.a", Type: TypeInt, Get: Const("1"), Owner: "m"},
	} {
		if err := tr.Create(n); err != nil {
			t.Fatal(err)
		}
	}
	return tr, live
}

// TestNumbers: NetBSD's numbers, ours behind them, and the way back.
func TestNumbers(t *testing.T) {
	tr, _ := parts(t)
	for name, want := range map[string][]int32{
		"kern.ostype": {1, 1}, "hw.ncpu": {6, 3}, "proc.40.corename": {10, 40, 1}, "machdep": {7}, "proc.3.rlimit": {10, 3, 2},
	} {
		nums, err := tr.Numbers(name)
		if err != nil || !slices.Equal(nums, want) {
			t.Errorf("%s: %v %v, want %v", name, nums, err, want)
		}
	}
	for _, name := range []string{"kern.ostype", "kern.module", "kern.module.path", "own.a", "proc.3.rlimit.cpu.soft", "proc"} {
		for range 2 { // numbers stay
			nums, err := tr.Numbers(name)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := tr.Name(nums); err != nil || back != name {
				t.Errorf("%s: %v is %q %v", name, nums, back, err)
			}
		}
	}
	tr.Destroy("m")
	for _, bad := range [][]int32{{99}, {1, 9999}, {10, 5}} {
		if name, err := tr.Name(bad); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("%v: %q %v", bad, name, err)
		}
	}
	if _, err := tr.Name([]int32{1, 1, 1}); abi.ErrnoOf(err) != abi.ENOTDIR {
		t.Errorf("below a value: %v", err)
	}
	if _, err := tr.Numbers("own.a"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("a node that is gone: %v", err)
	}
}

// TestWords: parts of a name that are numbers.
func TestWords(t *testing.T) {
	tr, _ := parts(t)
	for in, want := range map[string]string{
		"1.1": "kern.ostype", "kern.1": "kern.ostype", "0x1.1": "kern.ostype", "6.ncpu": "hw.ncpu", "1": "kern", "": "", "kern.ostype": "kern.ostype",
		"10.40.1": "proc.40.corename", "proc.40.corename": "proc.40.corename", "proc.3.2": "proc.3.rlimit",
		"1.9999": "kern.9999", "99.1": "99.1", "1.1.1": "kern.ostype.1", "..": "..", "1.": "kern.", "-1": "-1", "proc.77.1": "proc.77.1",
	} {
		if got := tr.Words(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// TestDynamic: parts come and go; reading, writing and listing them.
func TestDynamic(t *testing.T) {
	tr, live := parts(t)
	if v, err := tr.Get("proc.40.corename"); err != nil || v != "forty" {
		t.Errorf("%q %v", v, err)
	}
	if err := tr.Set("proc.40.corename", "four"); err != nil || live["40"] != "four" {
		t.Errorf("%v, now %q", err, live["40"])
	}
	for name, want := range map[string]abi.Errno{
		"proc": abi.EISDIR, "proc.40": abi.EISDIR, "proc.3.rlimit": abi.EISDIR, "proc.5": abi.ENOENT, "proc.3.none": abi.ENOENT, "machdep": abi.EISDIR, "machdep.x": abi.ENOENT,
	} {
		if _, err := tr.Get(name); abi.ErrnoOf(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	names := func(under string) string {
		rows, err := tr.List(under)
		if err != nil {
			return err.Error()
		}
		var s []string
		for _, r := range rows {
			s = append(s, r.Name)
		}
		return strings.Join(s, " ")
	}
	for under, want := range map[string]string{
		"proc.3": "proc.3.corename proc.3.rlimit.cpu.soft", "proc.3.rlimit": "proc.3.rlimit.cpu.soft", "machdep": "",
		"proc": "proc.3.corename proc.3.rlimit.cpu.soft proc.40.corename proc.40.rlimit.cpu.soft",
	} {
		if got := names(under); got != want {
			t.Errorf("%s: %s", under, got)
		}
	}
	if all := names(""); strings.Count(all, "proc.") != 4 {
		t.Errorf("all: %s", all)
	}
	d, _, _, _ := tr.dynamic("proc")
	d.Own = func(c *abi.Caller) string { return fmt.Sprint(c.Pid) }
	tr.Dynamic("proc", d)
	for pid, want := range map[int32]int{3: 2, 40: 2, 5: 0} {
		if rows, err := tr.ListAs(&abi.Caller{Pid: pid}, ""); err != nil || len(rows) != 4+want {
			t.Errorf("all of process %d: %d, %v", pid, len(rows), err)
		}
	}
	if got := names("proc.40"); !strings.HasPrefix(got, "proc.40.corename ") {
		t.Errorf("somebody else's: %s", got)
	}
	delete(live, "3")
	if _, err := tr.Get("proc.3.corename"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("a part that is gone: %v", err)
	}
	if err := tr.Create(Node{Name: "proc.9.x", Get: Const("")}); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("a node in a dynamic branch: %v", err)
	}
	if err := tr.Create(Node{Name: "machdep", Get: Const("")}); abi.ErrnoOf(err) != abi.EISDIR {
		t.Errorf("a value that is a branch: %v", err)
	}
}

// TestChildren is what CTL_QUERY shows.
func TestChildren(t *testing.T) {
	tr, _ := parts(t)
	show := func(name string) string {
		cs, err := tr.Children(name)
		if err != nil {
			return abi.ErrnoOf(err).Error()
		}
		s := ""
		for _, c := range cs {
			s += fmt.Sprintf("%d:%s:%s ", c.Num, c.Name, c.Type)
		}
		return s
	}
	for name, want := range map[string]string{
		"kern": "1:ostype:string 1024:module:node ", "machdep": "", "proc": "3:3:node 40:40:node ", "proc.3": "1:corename:string 2:rlimit:node ",
	} {
		got := show(name)
		if name == "kern" { // module's number is the next free one
			got = got[:strings.Index(got, " ")+1] + "1024" + got[strings.LastIndex(got, ":module"):]
		}
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]abi.Errno{"none": abi.ENOENT, "kern.ostype": abi.ENOTDIR, "kern.ostype.x": abi.ENOTDIR} {
		if _, err := tr.Children(name); abi.ErrnoOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	cs, _ := tr.Children("")
	if len(cs) != 5 || cs[0].Name != "kern" || cs[2].Desc != "Machine dependent" || !cs[0].Permanent || cs[4].Permanent {
		t.Errorf("root %+v", cs)
	}
}

// TestValues: coding values as numbers want them.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		typ  Type
		text string
		len  int
	}{{TypeInt, "-5", 4}, {TypeQuad, "-5000000000", 8}, {TypeBool, "1", 1}, {TypeBool, "0", 1}, {TypeString, "ab", 3}, {TypeStruct, "ab", 2}} {
		b := tc.typ.Encode(tc.text)
		if text, err := tc.typ.Decode(b); err != nil || text != tc.text || len(b) != tc.len {
			t.Errorf("%s %s: %v, %q %v", tc.typ, tc.text, b, text, err)
		}
	}
	for typ, b := range map[Type][]byte{TypeInt: {1}, TypeQuad: {1, 2, 3, 4}, TypeBool: {2}} {
		if _, err := typ.Decode(b); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("%s %v: %v", typ, b, err)
		}
	}
}
