package sysctl

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func tree(t *testing.T) (*Tree, *string) {
	tr := New()
	val := "7"
	for _, n := range []Node{
		{Name: "kern.ostype", Type: TypeString, Get: Const("rumpus")},
		{Name: "kern.maxfiles", Type: TypeInt, Get: func() string { return val }, Set: func(s string) error { val = s; return nil }},
		{Name: "net.on", Type: TypeBool, Get: Const("1"), Set: func(string) error { return nil }},
	} {
		if err := tr.Create(n); err != nil {
			t.Fatal(err)
		}
	}
	return tr, &val
}

func TestErrors(t *testing.T) {
	tr, val := tree(t)
	get := func(n string) error { _, err := tr.Get(n); return err }
	for _, tc := range []struct {
		what string
		err  error
		want abi.Errno
	}{
		{"value", get("kern.ostype"), 0},
		{"branch", get("kern"), abi.EISDIR},
		{"unknown", get("kern.nothing"), abi.ENOENT},
		{"below a value", get("kern.ostype.x"), abi.ENOTDIR},
		{"empty", get(""), abi.ENOENT},
		{"read-only", tr.Set("kern.ostype", "x"), abi.EPERM},
		{"set", tr.Set("kern.maxfiles", "12"), 0},
		{"not a number", tr.Set("kern.maxfiles", "many"), abi.EINVAL},
		{"too large for int", tr.Set("kern.maxfiles", "4294967296"), abi.EINVAL},
		{"bool", tr.Set("net.on", "2"), abi.EINVAL},
		{"twice", tr.Create(Node{Name: "kern.ostype", Get: Const("")}), abi.EEXIST},
		{"value as branch", tr.Create(Node{Name: "kern.ostype.x", Get: Const("")}), abi.ENOTDIR},
		{"branch as value", tr.Create(Node{Name: "kern", Get: Const("")}), abi.EISDIR},
		{"bad name", tr.Create(Node{Name: "kern..x", Get: Const("")}), abi.EINVAL},
	} {
		if got := errnoOrZero(tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, tc.err, tc.want)
		}
	}
	if *val != "12" {
		t.Errorf("value %s", *val)
	}
}

func errnoOrZero(err error) abi.Errno {
	if err == nil {
		return 0
	}
	return abi.ErrnoOf(err)
}

func TestFinalizeAndModules(t *testing.T) {
	tr, _ := tree(t)
	tr.Finalize()
	if err := tr.Create(Node{Name: "kern.late", Get: Const("")}); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("a permanent node after finalize: %v", err)
	}
	if err := tr.Create(Node{Name: "vfs.x.n", Get: Const("1"), Owner: "x"}); err != nil {
		t.Fatal(err)
	}
	rows, err := tr.List("vfs")
	if err != nil || len(rows) != 1 || rows[0].Name != "vfs.x.n" {
		t.Errorf("list: %v %v", rows, err)
	}
	tr.Destroy("x")
	if _, err := tr.List("vfs"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("after destroy: %v", err)
	}
	if rows, _ := tr.List(""); len(rows) != 3 {
		t.Errorf("%d nodes", len(rows))
	}
}
