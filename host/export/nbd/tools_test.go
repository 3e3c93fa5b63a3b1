package nbd

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTools: the programs of others find us to be an NBD server.
func TestTools(t *testing.T) {
	const size = 64 << 20
	m := newMem(size, allOps)
	f := newFile(t, size)
	p := newMem(size, allOps|OpPrompt)
	bare := newMem(size, 0)
	_, path := serve(t, Options{}, Export{Name: "mem", Description: "of memory", Backend: m},
		Export{Name: "file", Backend: f}, Export{Name: "prompt", Backend: p}, Export{Name: "bare", Backend: bare})
	uri := func(name string) string { return "nbd+unix:///" + name + "?socket=" + path }
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	b := make([]byte, size)
	pattern(b[1<<20:9<<20], 0, 5)
	pattern(b[40<<20:41<<20], 0, 6)
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("nbdinfo", func(t *testing.T) {
		out := run(t, "nbdinfo", "--json", "--list", uri(""))
		var l struct {
			Protocol string
			Exports  []map[string]any
		}
		if err := json.Unmarshal([]byte(out), &l); err != nil || len(l.Exports) != 4 || !strings.Contains(out, "of memory") || l.Protocol != "newstyle-fixed" {
			t.Errorf("%v: %s", err, out)
		}
		out = run(t, "nbdinfo", uri("mem"))
		for _, want := range []string{"can_flush: true", "can_fua: true", "can_multi_conn: true", "can_trim: true", "can_zero: true", "can_df: true", "can_fast_zero: true", "base:allocation", "block_size_maximum: 33554432", "using structured packets"} {
			if !strings.Contains(out, want) {
				t.Errorf("nbdinfo does not say %q:\n%s", want, out)
			}
		}
		if out, err := try(t, "nbdinfo", uri("none")); err == nil {
			t.Errorf("no such export: %s", out)
		}
	})
	for _, name := range []string{"mem", "file", "prompt", "bare"} {
		t.Run("copies/"+name, func(t *testing.T) {
			run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri(name))
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri(name))
			back := filepath.Join(dir, "back")
			run(t, "nbdcopy", uri(name), back)
			got, err := os.ReadFile(back)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("nbdcopy from it: %v, equal %v", err, bytes.Equal(got, b))
			}
			if name != "bare" {
				if out := run(t, "nbdinfo", "--map", "--totals", uri(name)); !strings.Contains(out, "hole,zero") {
					t.Errorf("no holes: %s", out)
				}
			}
			run(t, "qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -z 2M 1M", "-c", "write -z -u 3M 1M", "-c", "discard 5M 1M",
				"-c", "flush", "-c", "write -f -P 9 512 512", "-c", "read -P 7 1M 64k", "-c", "read -P 0 2M 2M", "-c", "read -P 9 512 512", "-c", "aio_write -P 3 8M 1M", "-c", "aio_flush", "-c", "read -P 3 8M 1M", uri(name))
			run(t, "nbdcopy", image, uri("bare"))
			run(t, "nbdcopy", "--connections=4", "--requests=32", uri("bare"), uri(name))
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri(name))
		})
		t.Run("fio/"+name, func(t *testing.T) {
			args := []string{"--rw=randwrite", "--bsrange=512-64k", "--iodepth=32", "--size=16m", "--verify=crc32c", "--verify_fatal=1", "--randseed=7"}
			fio(t, uri(name), args...)
		})
	}
}
