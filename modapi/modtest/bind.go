package modtest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
)

// Binding is a way to reach modules. Bind answers modules that behave as the
// ones given; it ends what it started in a Cleanup of tb.
type Binding struct {
	Name string
	Bind func(tb testing.TB, mods []modapi.Module, grants map[string]*os.File) []modapi.Module
}

// Killer is a module, as bound, whose process can be killed, with nothing said
// to it. Without it the kit lets a process die by cutting it off from all that
// outlives it.
type Killer interface {
	modapi.Module
	Kill()
}

var (
	bindingsMu sync.Mutex
	bindings   = []Binding{{Name: "direct", Bind: func(_ testing.TB, mods []modapi.Module, _ map[string]*os.File) []modapi.Module {
		return mods
	}}}
)

// RegisterBinding adds a binding that Bindings runs from then on. It is for
// init functions of packages that tests import.
func RegisterBinding(b Binding) {
	bindingsMu.Lock()
	defer bindingsMu.Unlock()
	bindings = append(bindings, b)
}

// Options say what modules are given.
type Options struct {
	Grants map[string]*os.File     // what Kernel.Granted answers
	Props  map[string]modapi.Props // by module name
}

// Bindings runs f once per binding, as a subtest named after it. newMods makes
// fresh modules each time; they are initialised before f and finished after
// it. mods, as bound, are in the order of newMods.
func Bindings(t *testing.T, newMods func() []modapi.Module, opt Options, f func(t *testing.T, k *Kernel)) {
	t.Helper()
	EachBinding(t, newMods, opt, func(t *testing.T, k *Kernel, mods []modapi.Module) {
		for _, m := range mods {
			name := m.Info().Name
			if err := k.Init(m, modapi.Fresh, opt.Props[name]); err != nil {
				t.Fatalf("Init of %s: %v", name, err)
			}
		}
		f(t, k)
		for i := len(mods) - 1; i >= 0; i-- {
			if err := mods[i].Fini(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("Fini of %s: %v", mods[i].Info().Name, err)
			}
		}
	})
}

// EachBinding runs f once per binding with modules that are not initialised.
func EachBinding(t *testing.T, newMods func() []modapi.Module, opt Options, f func(t *testing.T, k *Kernel, mods []modapi.Module)) {
	t.Helper()
	bindingsMu.Lock()
	bs := append([]Binding(nil), bindings...)
	bindingsMu.Unlock()
	for _, b := range bs {
		t.Run(b.Name, func(t *testing.T) {
			k := NewKernel(t, opt.Grants)
			k.binding = b.Name
			f(t, k, b.Bind(t, newMods(), opt.Grants))
		})
	}
}

// Eventually waits until ok says so, asked again and again; it fails the test
// if that takes too long. It is for what has no edge: counters, logs.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
