package config

import (
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const sampleFile = "../../config.yaml"

// commented is a line of the sample that shows a default.
var commented = regexp.MustCompile(`(?m)^( *)#([a-z0-9][a-z0-9-]*:)`)

func sample(t *testing.T) (plain, uncommented string) {
	t.Helper()
	data, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), commented.ReplaceAllString(string(data), "$1$2")
}

// The sample as it is, and with every default written out, are the defaults.
func TestSample(t *testing.T) {
	plain, uncommented := sample(t)
	if plain == uncommented {
		t.Fatal("no commented defaults found")
	}
	want(t, load(t, plain), Default())
	want(t, load(t, uncommented), Default())
}

// The sample has every key of the schema, and no other.
func TestSampleKeys(t *testing.T) {
	plain, uncommented := sample(t)
	root, err := parseYAML([]byte(uncommented))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	walkKeys(root, "", seen)
	var keys []string
	for k := range seen {
		// Names in maps are the sample's own.
		k = regexp.MustCompile(`^(components|interfaces)/[^/]+`).ReplaceAllString(k, "$1/*")
		k = regexp.MustCompile(`^mounts/\d+`).ReplaceAllString(k, "mounts/*")
		if !strings.HasSuffix(k, "/*") && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	schemaKeys := slices.Clone(paths)
	sort.Strings(schemaKeys)
	for _, k := range schemaKeys {
		// There is none by default: the prose shows one.
		name, ok := strings.CutPrefix(k, "exports/nbd/*/")
		if !ok {
			name, ok = strings.CutPrefix(k, "exports/fuse/*/")
		}
		if !ok {
			name, ok = strings.CutPrefix(k, "devices/*/")
		}
		if ok && regexp.MustCompile(`\b`+name+`: `).MatchString(plain) {
			continue
		}
		if !slices.Contains(keys, k) {
			t.Errorf("%s is not in config.yaml", k)
		}
	}
	for _, k := range keys {
		if !slices.Contains(schemaKeys, k) {
			t.Errorf("config.yaml has %s, which is no key", k)
		}
	}
	if len(schemaKeys) < 45 {
		t.Errorf("only %d keys in the schema", len(schemaKeys))
	}
}

func walkKeys(v any, prefix string, seen map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			seen[prefix+k] = true
			walkKeys(e, prefix+k+"/", seen)
		}
	case []any:
		for i, e := range v {
			walkKeys(e, prefix+strconv.Itoa(i)+"/", seen)
		}
	}
}

// Every comment of the sample is either prose or a default, so that nothing
// escapes the mechanical rule.
func TestSampleComments(t *testing.T) {
	plain, _ := sample(t)
	for i, line := range strings.Split(plain, "\n") {
		text := strings.TrimLeft(line, " ")
		if strings.HasPrefix(text, "#") && text != "#" && !strings.HasPrefix(text, "# ") && !commented.MatchString(line) {
			t.Errorf("config.yaml line %d is neither prose nor a default: %s", i+1, line)
		}
		if len(line) > 80 {
			t.Errorf("config.yaml line %d has %d letters, want at most 80", i+1, len(line))
		}
	}
}
