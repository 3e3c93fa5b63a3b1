package main

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

// TestPowerSlice is a slice of the tier power: with a redo file, and on an
// encrypted disk.
func TestPowerSlice(t *testing.T) {
	defer goleak.VerifyNone(t)
	rep := quiet(t)
	for seed := range uint64(2) {
		s := &settings{cuts: 60, hosts: 2}
		if err := powerRound(t.Context(), s, seed, rep); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
	if rep.cuts != 120 {
		t.Errorf("%d power cuts", rep.cuts)
	}
	rep.close()
	t.Logf("%s", rep.out)
}

// TestPowerCatches: a host that answers syncs and does not do them is found out,
// and so is a vow that is not kept.
func TestPowerCatches(t *testing.T) {
	p, err := recordPower(t.Context(), 1, 60, true)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.cuts(t.Context(), 1, 100); err == nil {
		t.Errorf("syncs are lost, and nobody noticed in %d power cuts", n)
	}
	p, err = recordPower(t.Context(), 1, 60, false)
	if err != nil {
		t.Fatal(err)
	}
	for dir, vows := range p.vows {
		for i := len(vows) - 1; i >= 0; i-- {
			if v := &vows[i]; v.what == there && v.path != dir {
				v.data = append(v.data, '!')
				break
			}
		}
	}
	if n, err := p.cuts(t.Context(), 1, 400); err == nil {
		t.Errorf("other contents were promised, and nobody noticed in %d power cuts", n)
	}
}

// TestAfter: what a sync has covered is always there, other writes need not be.
func TestAfter(t *testing.T) {
	one, two, three := bytes.Repeat([]byte{1}, 1024), bytes.Repeat([]byte{2}, 1024), bytes.Repeat([]byte{3}, 1024)
	log := []deed{{kind: dWrite, path: "a", data: one}, {kind: dSync, path: "a"}, {kind: dWrite, path: "a", off: 1024, data: two},
		{kind: dWrite, path: "a", off: 2048, data: three, sure: true}, {kind: dMake, path: "b"}, {kind: dLength, path: "b", off: 10}}
	base := map[string][]byte{"a": make([]byte, 3072)}
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[bool]bool{}
	torn := false
	for leave := range leaves {
		for range 20 {
			a := after(base, log, len(log), leave, rng)["a"]
			if !bytes.Equal(a[:1024], one) || !bytes.Equal(a[2048:], three) {
				t.Fatalf("%s: what was synced is not there", leaveNames[leave])
			}
			seen[bytes.Equal(a[1024:2048], two)] = true
			torn = torn || a[1024] != a[2047]
		}
	}
	if !seen[true] || !seen[false] || !torn {
		t.Errorf("%v, torn %v", seen, torn)
	}
	if f := after(base, log, 4, leaveAll, rng); len(f) != 1 || !bytes.Equal(base["a"], make([]byte, 3072)) {
		t.Error("a file that is not made yet, or the base has changed")
	}
}
