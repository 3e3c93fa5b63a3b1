package kernel_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestReadme: every test that README.md names is there.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:kernel|host|modapi|plugins)[a-z0-9/]*)\\.(Test[A-Za-z0-9]+)`").FindAllSubmatch(page, -1)
	if len(names) < 50 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, n := range names {
		dir, name := string(n[1]), string(n[2])
		files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(b, []byte("\nfunc "+name+"(t *testing.T"))
		}
		if !found {
			t.Errorf("%s.%s is not there", dir, name)
		}
	}
}
