package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDDNumber(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "512": 512, "1b": 512, "2w": 8, "4k": 4096, "1M": 1 << 20, "3g": 3 << 30, "1t": 1 << 40, "2x512": 1024, "2x3x1k": 6144,
		"": -1, "x": -1, "1x": -1, "k": -1, "-1": -1, "1q": -1, "1kk": -1, "0x10": 0, "9223372036854775807": -1, "99999999999999999999": -1, "9000000t": -1, "4gx4g": -1,
	} {
		n, err := ddNumber(s)
		if (err != nil) != (want < 0) || err == nil && n != want {
			t.Errorf("%q: %d, %v, want %d", s, n, err, want)
		}
	}
}

func FuzzDDNumber(f *testing.F) {
	for _, s := range []string{"1", "2x512", "9223372036854775807", "1tx1t", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ddNumber(s); err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

// TestDDHost copies between files of the host: no kernel is asked for.
func TestDDHost(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	text := bytes.Repeat([]byte("Abcdefg\n"), 1000)
	for _, tc := range []struct {
		name string
		args []string
		was  []byte // of out
		want []byte
		says string
		code int
	}{
		{"all", nil, nil, text, "15+1 records in\n15+1 records out\n8000 bytes transferred in ", 0},
		{"blocks", []string{"ibs=1000", "obs=3000"}, nil, text, "8+0 records in\n2+1 records out\n", 0},
		{"part", []string{"bs=8", "skip=1", "count=2"}, nil, text[8:24], "2+0 records in\n", 0},
		{"seek cuts", []string{"bs=8", "count=1", "seek=1"}, []byte("0123456789012345678901234567890"), []byte("01234567Abcdefg\n"), "1+0 records out", 0},
		{"notrunc", []string{"bs=8", "count=1", "seek=1", "conv=notrunc"}, []byte("0123456789012345678901234567890"), []byte("01234567Abcdefg\n678901234567890"), "", 0},
		{"case", []string{"bs=8", "count=1", "conv=ucase"}, nil, []byte("ABCDEFG\n"), "", 0},
		{"swab", []string{"bs=8", "count=1", "conv=swab,lcase"}, nil, []byte("badcfe\ng"), "", 0},
		{"sync", []string{"bs=9000", "conv=sync"}, nil, append(bytes.Clone(text), make([]byte, 1000)...), "0+1 records in\n1+0 records out", 0},
		{"none", []string{"count=0"}, []byte("old"), nil, "0+0 records in", 0},
		{"quiet", []string{"status=none"}, nil, text, "", 0},
		{"excl", []string{"conv=excl"}, []byte("old"), []byte("old"), "(EEXIST)", exitRefused},
		{"nocreat", []string{"conv=nocreat"}, nil, nil, "(ENOENT)", exitRefused},
		{"wrong", []string{"bs=8", "bs=9"}, nil, nil, "bs= is there twice", exitUsage},
		{"far", []string{"bs=1g", "seek=9223372036854775807"}, nil, nil, "too large", exitUsage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			os.Remove(out)
			if err := os.WriteFile(in, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.was != nil {
				if err := os.WriteFile(out, tc.was, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			code := dispatch(t.Context(), streams{strings.NewReader(""), &stdout, &stderr, nil}, append([]string{"dd", "if=" + in, "of=" + out}, tc.args...))
			got, _ := os.ReadFile(out)
			if code != tc.code || !bytes.Equal(got, tc.want) || !strings.Contains(stderr.String(), tc.says) {
				t.Errorf("exit %d, %d bytes, want %d; it says:\n%s", code, len(got), len(tc.want), &stderr)
			}
			if tc.name == "quiet" && stderr.Len() > 0 {
				t.Errorf("it says %q", &stderr)
			}
		})
	}
}

// TestDDSparse leaves holes where there are NULs, and the file has its length.
func TestDDSparse(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	data := make([]byte, 1<<20)
	data[300000] = 1
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	code := dispatch(t.Context(), streams{strings.NewReader(""), &stderr, &stderr, nil}, []string{"dd", "if=" + in, "of=" + out, "bs=4k", "conv=sparse"})
	got, err := os.ReadFile(out)
	var st unix.Stat_t
	if serr := unix.Stat(out, &st); code != 0 || err != nil || serr != nil || !bytes.Equal(got, data) {
		t.Fatalf("exit %d, %v, %v: %s", code, err, serr, &stderr)
	}
	if st.Blocks*512 >= 1<<20 {
		t.Errorf("%d bytes are allocated", st.Blocks*512)
	}
}

// TestSecretSources reads passphrases of lines and of files, and refuses what is
// too long or empty.
func TestSecretSources(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	dir := t.TempDir()
	file := func(text string) string {
		f := filepath.Join(dir, "key")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	c := &call{streams: streams{stdin: strings.NewReader("one\ntwo\n")}}
	s, err := newSecrets(c, true, "", -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		if p, err := s.passphrase(ctx, "x", true); err != nil || string(p) != want {
			t.Errorf("%q, %v, want %q", p, err, want)
		}
	}
	if p, err := s.passphrase(ctx, "x", false); err == nil {
		t.Errorf("a third line: %q", p)
	}
	s, _ = newSecrets(c, false, file("key\nfile\n"), -1)
	if p, err := s.all(ctx, "x"); err != nil || string(p) != "key\nfile\n" {
		t.Errorf("a key file: %q, %v", p, err)
	}
	for _, text := range []string{"", strings.Repeat("x", maxSecret+1)} {
		s, _ = newSecrets(c, false, file(text), -1)
		if p, err := s.all(ctx, "x"); err == nil {
			t.Errorf("a key file of %d bytes is %d", len(text), len(p))
		}
	}
	if _, err := newSecrets(c, true, "x", -1); err == nil {
		t.Error("two sources")
	}
	if _, err := newSecrets(c, false, "x", 3); err == nil {
		t.Error("two sources")
	}
	s, _ = newSecrets(c, false, "", 1<<20)
	if _, err := s.all(ctx, "x"); err == nil {
		t.Error("a descriptor that is not there")
	}
}
