package module

import (
	"encoding/json"
	"testing"
)

// FuzzParseProps: a file of properties may hold anything; what is taken can be
// coded again.
func FuzzParseProps(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"a": 1, "b": [1.5, {"c": null}], "d": "x"}`, `{"n": 1e999}`, `[]`, `{"a":1}x`, `null`, `{"n": -0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProps(b)
		if err != nil {
			return
		}
		if _, err := json.Marshal(p); err != nil {
			t.Errorf("%q: %v", b, err)
		}
	})
}
