package supervise

import (
	"errors"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestUIDGivenBack: instances that could not be started use no uid up, however
// many there were.
func TestUIDGivenBack(t *testing.T) {
	s := NewSupervisor(func(string) (string, error) { return "/nowhere/at/all", nil }, nil, hclog.NewNullLogger())
	defer s.Close()
	before := usedUIDs()
	for i := range 2 * uidBlock {
		_, err := s.Load(t.Context(), hyper.PluginSpec{Instance: "x" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Plugin: "x", Epoch: 1})
		if !errors.Is(err, abi.ENOENT) {
			t.Fatalf("load %d: %v", i, err)
		}
	}
	if after := usedUIDs(); after != before || len(s.uid) != 0 {
		t.Errorf("%d uids in use, %d before; %d instances", after, before, len(s.uid))
	}
}

func usedUIDs() (n int) {
	uids.mu.Lock()
	defer uids.mu.Unlock()
	for _, u := range uids.used {
		if u {
			n++
		}
	}
	return n
}

// TestUIDKept: an instance has the same uid for as long as anybody holds it.
func TestUIDKept(t *testing.T) {
	if why := canIsolate(); why != "" {
		t.Skip(why)
	}
	s := NewSupervisor(nil, nil, hclog.NewNullLogger())
	defer s.Close()
	a, err := s.hold("vfs")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.hold("vfs")
	s.drop("vfs")
	c, _ := s.hold("vfs")
	other, _ := s.hold("net")
	if a.Uid != b.Uid || a.Uid != c.Uid || other.Uid == a.Uid || other.Uid < uidBase {
		t.Errorf("uids %d, %d, %d and %d", a.Uid, b.Uid, c.Uid, other.Uid)
	}
	for range 2 {
		s.drop("vfs")
	}
	s.drop("vfs") // once too often is nothing
	if s.uid["vfs"] != nil || s.uid["net"] == nil {
		t.Errorf("%v", s.uid)
	}
}
