package main

import (
	"bytes"
	"strings"
	"testing"
)

const root = "../../.."

// TestTexts: each mutant still has its place in the code.
func TestTexts(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if _, err := m.text(root); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] || m.name == "" || m.pkg == "" || m.run == "" {
			t.Errorf("%q: its name is there twice, or it says not which tests", m.name)
		}
		names[m.name] = true
	}
	if len(mutants) < 30 {
		t.Errorf("only %d", len(mutants))
	}
}

// TestThree tries three mutants, each of which is caught.
func TestThree(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	var ms []mutant
	for _, m := range mutants {
		switch m.name {
		case "one trimmed too many", "undone in the wrong order", "orphan not kept":
			ms = append(ms, m)
		}
	}
	var out bytes.Buffer
	if bad := all(t.Context(), root, ms, 1, &out); bad != 0 || len(ms) != 3 || !strings.HasSuffix(out.String(), "\n3 caught, 0 survived\n") {
		t.Errorf("%s", &out)
	}
}

// TestVerdicts: a mutant that changes nothing that matters survives; one that is
// not in the code, does not compile, or names no test is broken.
func TestVerdicts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	const file, pkg = "kernel/store/store.go", "kernel/store"
	for _, tc := range []struct {
		m    mutant
		want verdict
	}{
		{mutant{"harmless", file, "1 << 14", "1 << 13", pkg, "TestAfter"}, survived},
		{mutant{"gone", file, "this is not there", "", pkg, "TestAfter"}, broken},
		{mutant{"no code", file, "const keepUndo", "constant keepUndo", pkg, "TestAfter"}, broken},
		{mutant{"no test", file, "1 << 14", "1 << 13", pkg, "TestThatIsNotThere"}, broken},
		{mutant{"no file", "kernel/store/none.go", "x", "y", pkg, "TestAfter"}, broken},
		{mutant{"the same", file, "1 << 14", "1 << 14", pkg, "TestAfter"}, broken},
	} {
		if r := tc.m.try(t.Context(), root); r.verdict != tc.want {
			t.Errorf("%s: %s by %s, not %s", tc.m.name, r.verdict, r.by, tc.want)
		}
	}
}
