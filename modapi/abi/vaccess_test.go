package abi

import "testing"

// Every class of caller against every mode of nine bits and every wish.
func TestVaccessClasses(t *testing.T) {
	for _, class := range []struct {
		name  string
		cred  *Cred
		shift uint
		owner bool
	}{
		{"owner", NewCred(100, 999), 6, true},
		{"owner in group", NewCred(100, 50), 6, true},
		{"effective group", NewCred(7, 50), 3, false},
		{"supplementary group", NewCred(7, 8, 9, 50), 3, false},
		{"other", NewCred(7, 8, 9), 0, false},
		{"super-user is other", NewCred(0, 0), 0, false},
		{"real ids do not count", &Cred{Ruid: 100, Svuid: 100, Euid: 7, Rgid: 50, Svgid: 50, Egid: 8}, 0, false},
		{"effective id counts", &Cred{Ruid: 7, Svuid: 7, Euid: 100, Egid: 8}, 6, true},
	} {
		for mode := uint32(0); mode <= 0o777; mode++ {
			va := &Vattr{Type: VREG, Mode: mode | S_ISUID, Uid: 100, Gid: 50}
			for want := AccMode(0); want < 32; want++ {
				bits := AccMode(mode>>class.shift) & 7
				asked := want & 7
				if want&VAPPEND != 0 {
					asked |= VWRITE
				}
				var expect error
				switch {
				case want&VADMIN != 0 && !class.owner:
					expect = EPERM
				case asked&^bits != 0:
					expect = EACCES
				}
				if got := Vaccess(va, class.cred, want); got != expect {
					t.Fatalf("%s, mode %o, want %05b: %v, expected %v", class.name, mode, want, got, expect)
				}
			}
		}
	}
}

// Cases worth reading: only the first class that matches counts.
func TestVaccessFirstClassCounts(t *testing.T) {
	for _, c := range []struct {
		name string
		mode uint32
		cred *Cred
		want AccMode
		err  error
	}{
		{"owner shut out, others let in", 0o077, NewCred(100, 50), VREAD, EACCES},
		{"group shut out, others let in", 0o707, NewCred(7, 50), VREAD, EACCES},
		{"owner by group only", 0o070, NewCred(100, 50), VWRITE, EACCES},
		{"nothing wanted", 0, NewCred(7, 8), 0, nil},
		{"owner without bits may chmod", 0, NewCred(100, 50), VADMIN, nil},
		{"all bits do not make an owner", 0o777, NewCred(7, 50), VADMIN, EPERM},
		{"all bits do not make root an owner", 0o777, Root, VADMIN, EPERM},
		{"append is write", 0o444, NewCred(7, 8), VAPPEND, EACCES},
		{"append with write bit", 0o222, NewCred(7, 8), VAPPEND, nil},
		{"one of two", 0o004, NewCred(7, 8), VREAD | VEXEC, EACCES},
		{"sticky and set-id bits grant nothing", 0o7000, NewCred(7, 8), VEXEC, EACCES},
	} {
		va := &Vattr{Type: VDIR, Mode: c.mode, Uid: 100, Gid: 50}
		if got := Vaccess(va, c.cred, c.want); got != c.err {
			t.Errorf("%s: %v, want %v", c.name, got, c.err)
		}
	}
}
