package ksyms

import (
	"reflect"
	"runtime"
	"sort"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestLoadOnce: the table is loaded once, the second time is EBUSY.
func TestLoadOnce(t *testing.T) {
	tb := New()
	if len(tb.All()) != 0 {
		t.Error("symbols before the load")
	}
	if err := tb.Load(Go); err != nil {
		t.Fatal(err)
	}
	if err := tb.Load(Go); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("second load: %v", err)
	}
}

// TestLookup finds functions by name and address.
func TestLookup(t *testing.T) {
	tb := New()
	if err := tb.Load(Go); err != nil {
		t.Fatal(err)
	}
	all := tb.All()
	if len(all) < 1000 || !sort.SliceIsSorted(all, func(i, j int) bool { return all[i].Addr < all[j].Addr }) {
		t.Errorf("%d symbols", len(all))
	}
	const pkg = "github.com/rumpus-kernel/rumpus/kernel/ksyms."
	for name, fn := range map[string]any{pkg + "TestLoadOnce": TestLoadOnce, pkg + "(*Table).Getname": (*Table).Getname, "runtime.GC": runtime.GC} {
		want := uint64(reflect.ValueOf(fn).Pointer())
		addr, err := tb.Getval("", name)
		if err != nil {
			t.Error(err)
			continue
		}
		if name != pkg+"(*Table).Getname" && addr != want { // a method expression may be a wrapper
			t.Errorf("%s is at %#x, want %#x", name, addr, want)
		}
		if s, off, err := tb.Getname(addr + 3); err != nil || s.Name != name || s.Module != Kernel || off != 3 {
			t.Errorf("%#x is %v + %d, %v", addr+3, s, off, err)
		}
	}
	if _, err := tb.Getval("", "nosuch"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Error(err)
	}
	for _, addr := range []uint64{0, 1, ModBase, ^uint64(0)} {
		if s, _, err := tb.Getname(addr); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("%#x is %v, %v", addr, s, err)
		}
	}
}

// TestModules: a module's symbols come and go with it.
func TestModules(t *testing.T) {
	tb := New()
	for range 2 {
		if err := tb.Modload("foo", []string{"foo_a", "foo_b"}); err != nil {
			t.Fatal(err)
		}
		if err := tb.Modload("foo", nil); abi.ErrnoOf(err) != abi.EEXIST {
			t.Errorf("twice: %v", err)
		}
		if err := tb.Modload("bar", []string{"foo_a"}); err != nil {
			t.Fatal(err)
		}
		addr, err := tb.Getval("foo", "foo_b")
		if err != nil {
			t.Fatal(err)
		}
		if s, off, err := tb.Getname(addr + 5); err != nil || s != (Sym{addr, "foo_b", "foo"}) || off != 5 {
			t.Errorf("%v + %d, %v", s, off, err)
		}
		if len(tb.All()) != 3 {
			t.Errorf("all %v", tb.All())
		}
		tb.Modunload("foo")
		tb.Modunload("bar")
		if _, _, err := tb.Getname(addr); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("still there: %v", err)
		}
		if _, err := tb.Getval("", "foo_a"); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("still there: %v", err)
		}
	}
}
