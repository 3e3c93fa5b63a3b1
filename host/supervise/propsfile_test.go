package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestPropsFile reads the file of properties beside a program: there, absent,
// too long, no file.
func TestPropsFile(t *testing.T) {
	dir := t.TempDir()
	pl := &plug{path: filepath.Join(dir, "prog")}
	if _, err := pl.PropsFile(100); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(pl.path+".json", []byte(strings.Repeat("x", 50)), 0o600); err != nil {
		t.Fatal(err)
	}
	for max, want := range map[int]int{100: 50, 50: 50, 10: 10} {
		if b, err := pl.PropsFile(max); err != nil || len(b) != want {
			t.Errorf("at most %d: %d, %v", max, len(b), err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := (&plug{path: filepath.Join(dir, "dir")}).PropsFile(100); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("a directory: %v", err)
	}
}
