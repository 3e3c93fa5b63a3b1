package modtest

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestModule checks the rules of package modapi on the modules that newMods
// makes: what they say of themselves, that they can be initialised, finished
// and initialised again, and that they attach the same each time.
func TestModule(t *testing.T, newMods func() []modapi.Module, opt Options) {
	t.Run("info", func(t *testing.T) {
		eachModule(t, newMods, opt, func(t *testing.T, k *Kernel, m modapi.Module) {
			a, b := m.Info(), m.Info()
			if !reflect.DeepEqual(a, b) {
				t.Errorf("Info answers %+v and then %+v", a, b)
			}
			if err := a.Check(); err != nil {
				t.Error(err)
			}
			if !a.Kern.Compatible(abi.KernVersionCurrent) {
				t.Errorf("%s is for kernel %v, not %v", a.Name, a.Kern, abi.KernVersionCurrent)
			}
			if a.Version == "" {
				t.Errorf("%s has no version of its own", a.Name)
			}
		})
	})
	t.Run("again", func(t *testing.T) {
		eachModule(t, newMods, opt, func(t *testing.T, k *Kernel, m modapi.Module) {
			name := m.Info().Name
			var first map[string]bool
			for _, reason := range []modapi.Reason{modapi.Fresh, modapi.Fresh, modapi.Restart} {
				if err := k.Init(m, reason, opt.Props[name]); err != nil {
					t.Fatalf("Init (%v): %v", reason, err)
				}
				got := k.attached()
				if first == nil {
					first = got
				}
				if !reflect.DeepEqual(got, first) {
					t.Errorf("attached %v, the first time %v", got, first)
				}
				if err := m.Fini(t.Context()); err != nil {
					t.Fatalf("Fini: %v", err)
				}
				k.Forget()
			}
		})
	})
	t.Run("stat", func(t *testing.T) {
		eachModule(t, newMods, opt, func(t *testing.T, k *Kernel, m modapi.Module) {
			name := m.Info().Name
			if err := k.Init(m, modapi.Fresh, opt.Props[name]); err != nil {
				t.Fatal(err)
			}
			if s, ok := m.(modapi.Stater); ok {
				if text, err := s.Stat(t.Context()); err != nil && abi.ErrnoOf(err) != abi.ENOTTY || err == nil && text == "" {
					t.Errorf("Stat: %q, %v", text, err)
				}
			}
			if s, ok := m.(modapi.AutoUnloader); ok {
				if e := abi.ErrnoOf(s.AutoUnload(t.Context())); e != 0 && e != abi.ENOTTY && e != abi.EBUSY {
					t.Errorf("AutoUnload: %s", e.Name())
				}
			}
			if err := m.Fini(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("sysctl", func(t *testing.T) {
		Bindings(t, newMods, opt, func(t *testing.T, k *Kernel) {
			for name, n := range k.Sysctls {
				if n.Desc == "" {
					t.Errorf("%s has no description", name)
				}
				if n.Get == nil {
					t.Errorf("%s cannot be read", name)
					continue
				}
				if n.Set != nil {
					if err := n.Set(n.Get()); err != nil {
						t.Errorf("%s does not take its own value: %v", name, err)
					}
				}
			}
		})
	})
}

// attached names all that is attached.
func (k *Kernel) attached() map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := map[string]bool{}
	for _, t := range []any{k.FSTypes, k.Chrs, k.Blks, k.Domains, k.Ifs, k.Sysctls, k.Syscalls} {
		v := reflect.ValueOf(t)
		for _, key := range v.MapKeys() {
			r[fmt.Sprint(v.Type().Elem(), " ", key)] = true
		}
	}
	return r
}

func eachModule(t *testing.T, newMods func() []modapi.Module, opt Options, f func(t *testing.T, k *Kernel, m modapi.Module)) {
	t.Helper()
	eachBinding(t, func(t *testing.T, b Binding) {
		for _, m := range b.Bind(t, newMods(), opt.Grants) {
			t.Run(m.Info().Name, func(t *testing.T) { f(t, NewKernel(t, opt.Grants), m) })
		}
	})
}

// within fails the test if f, which must not wait, takes longer than it could
// on a busy machine.
func within(t *testing.T, what string, f func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.Errorf("%s waits", what)
		<-done
	}
}
