package kauth

import (
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestDecisions(t *testing.T) {
	answer := func(d Decision) Listener { return func(*abi.Cred, Action, any) Decision { return d } }
	for _, tc := range []struct {
		name   string
		models bool
		ls     []Decision
		want   error
	}{
		{"no model, nobody asked", false, nil, nil},
		{"no model, all defer", false, []Decision{Defer}, nil},
		{"model, all defer", true, []Decision{Defer, Defer}, abi.EPERM},
		{"one allows", true, []Decision{Defer, Allow}, nil},
		{"deny beats allow", true, []Decision{Allow, Deny}, abi.EPERM},
		{"deny without a model", false, []Decision{Deny}, abi.EPERM},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := New()
			if tc.models {
				a.RegisterModel()
			}
			for _, d := range tc.ls {
				a.Listen(System, answer(d))
			}
			if err := a.Authorize(System, abi.NewCred(5, 5), Mount, nil); !errors.Is(err, tc.want) && err != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestSuser(t *testing.T) {
	a := New()
	remove := a.Suser()
	user := abi.NewCred(1000, 1000)
	if err := a.Authorize(System, abi.Root, Reboot, nil); err != nil {
		t.Errorf("root may not reboot: %v", err)
	}
	if err := a.Authorize(System, user, Reboot, nil); err != abi.EPERM {
		t.Errorf("a user may reboot: %v", err)
	}
	va := &abi.Vattr{Type: abi.VREG, Mode: 0o600}
	if err := a.AuthorizeVnode(abi.Root, abi.VREAD, va, abi.EACCES); err != nil {
		t.Errorf("root may not read: %v", err)
	}
	if err := a.AuthorizeVnode(abi.Root, abi.VEXEC, va, abi.EACCES); err != abi.EACCES {
		t.Errorf("root may execute a file without x: %v", err)
	}
	if err := a.AuthorizeVnode(user, abi.VREAD, va, abi.EACCES); err != abi.EACCES {
		t.Errorf("a user may read what the mode forbids: %v", err)
	}
	if err := a.AuthorizeVnode(user, abi.VREAD, va, nil); err != nil {
		t.Errorf("a user may not read what the mode allows: %v", err)
	}
	remove()
	if err := a.Authorize(System, user, Reboot, nil); err != nil {
		t.Errorf("without a security model everything is allowed: %v", err)
	}
}
