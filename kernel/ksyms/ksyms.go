// Package ksyms is the kernel's symbol table: ksyms(9), read through
// /dev/ksyms.
//
// The kernel's own symbols are the functions of the program that it runs in,
// from the Go runtime. They are loaded once; a second load is EBUSY. Each
// module adds the names of what it attached, and they go when it does. A
// module is another process as a rule, so that its symbols have no address in
// this one: they get numbers from ModBase on, each only once.
//
// Locks: Table.mu, a leaf. The kernel's symbols are collected at the first
// question, which takes some ten milliseconds.
package ksyms

import (
	"fmt"
	"runtime"
	"sort"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// ModBase is where the addresses of modules' symbols begin, far from memory.
const ModBase uint64 = 0xffff_8000_0000_0000

// modSpace is how much of them each symbol has.
const modSpace = 0x1000

// Kernel is the name of the kernel's own table (ksyms's "netbsd").
const Kernel = "rumpus"

// Sym is a symbol.
type Sym struct {
	Addr   uint64
	Name   string
	Module string // Kernel for the kernel's own
}

// Table is the symbols of one kernel.
type Table struct {
	mu   sync.Mutex
	src  func() []Sym     // protected by mu; nil before Load
	core []Sym            // protected by mu; by address, nil before they are wanted
	mods map[string][]Sym // protected by mu; by address
	next uint64           // protected by mu
}

// New makes an empty table (ksyms_init).
func New() *Table { return &Table{mods: make(map[string][]Sym), next: ModBase} }

// Load says where the kernel's own symbols come from (rump_kernelfsym_load).
// EBUSY at the second time.
func (t *Table) Load(src func() []Sym) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.src != nil {
		return fmt.Errorf("the kernel's symbols are loaded already: %w", abi.EBUSY)
	}
	t.src = src
	return nil
}

// Modload adds the symbols of a module (ksyms_modload). EEXIST.
func (t *Table) Modload(mod string, names []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.mods[mod]; ok || mod == Kernel {
		return fmt.Errorf("symbols of module %s: %w", mod, abi.EEXIST)
	}
	syms := make([]Sym, 0, len(names))
	for _, n := range names {
		syms = append(syms, Sym{t.next, n, mod})
		t.next += modSpace
	}
	t.mods[mod] = syms
	return nil
}

// Modunload takes them away (ksyms_modunload).
func (t *Table) Modunload(mod string) {
	t.mu.Lock()
	delete(t.mods, mod)
	t.mu.Unlock()
}

// coreLocked is the kernel's own symbols, by address.
func (t *Table) coreLocked() []Sym {
	if t.core == nil && t.src != nil {
		t.core = t.src()
		sort.Slice(t.core, func(i, j int) bool { return t.core[i].Addr < t.core[j].Addr })
	}
	return t.core
}

// All lists all symbols by address.
func (t *Table) All() []Sym {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append([]Sym(nil), t.coreLocked()...)
	n := len(all)
	for _, s := range t.mods {
		all = append(all, s...)
	}
	sort.Slice(all[n:], func(i, j int) bool { return all[n+i].Addr < all[n+j].Addr })
	return all
}

// Getval finds a symbol's address (ksyms_getval); mod "" is any table. ENOENT.
func (t *Table) Getval(mod, name string) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mod == "" || mod == Kernel {
		for _, s := range t.coreLocked() {
			if s.Name == name {
				return s.Addr, nil
			}
		}
	}
	for m, syms := range t.mods {
		for _, s := range syms {
			if s.Name == name && (mod == "" || mod == m) {
				return s.Addr, nil
			}
		}
	}
	return 0, fmt.Errorf("symbol %.80q: %w", name, abi.ENOENT)
}

// Getname finds the symbol that an address is in, and how far behind its
// beginning (ksyms_getname). ENOENT.
func (t *Table) Getname(addr uint64) (s Sym, off uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, syms := range t.mods {
		for _, s := range syms {
			if addr >= s.Addr && addr-s.Addr < modSpace {
				return s, addr - s.Addr, nil
			}
		}
	}
	core := t.coreLocked()
	i := sort.Search(len(core), func(i int) bool { return core[i].Addr > addr })
	if i == 0 || addr >= ModBase || i == len(core) && addr-core[i-1].Addr > maxFunc {
		return Sym{}, 0, fmt.Errorf("address %#x: %w", addr, abi.ENOENT)
	}
	return core[i-1], addr - core[i-1].Addr, nil
}

// maxFunc bounds the length of the last function, which is not known.
const maxFunc = 1 << 20

// align is what the entries of functions are multiples of; they may be of more.
const align = 16

// Go lists the functions of this program, as the Go runtime knows them. It
// walks from a function of its own in both directions to where there are none.
func Go() []Sym {
	pc, _, _, _ := runtime.Caller(0)
	at := runtime.FuncForPC(pc).Entry()
	var syms []Sym
	seen := make(map[uintptr]bool)
	add := func(f *runtime.Func) {
		e := f.Entry()
		if seen[e] {
			return
		}
		seen[e] = true
		frames := runtime.CallersFrames([]uintptr{e + 1})
		name := f.Name()
		for more := true; more; { // the last is the function that others are inlined into
			var fr runtime.Frame
			if fr, more = frames.Next(); fr.Function != "" {
				name = fr.Function
			}
		}
		syms = append(syms, Sym{uint64(e), name, Kernel})
	}
	for p := at; ; p += align {
		f := runtime.FuncForPC(p)
		if f == nil {
			break
		}
		add(f)
	}
	for p := at; p > align; {
		f := runtime.FuncForPC(p - align)
		if f == nil {
			break
		}
		add(f)
		p = min(p-align, f.Entry())
	}
	return syms
}
