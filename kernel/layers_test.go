package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/dk"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestLayers: which device has a redo file, and what it is called; it is gone
// when the layers are closed. A mount has its device alone.
func TestLayers(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	dir := t.TempDir()
	image := func(name string) string {
		b := make([]byte, 1<<20)
		e := b[446:]
		e[4], e[8], e[13] = 0x83, 64, 1
		b[510], b[511] = 0x55, 0xaa
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	etfs := func(name, img, more string) kernel.Device {
		return kernel.Device{Driver: "etfs", Arg: fmt.Appendf(nil, `{"name": %q, "host": %q%s}`, name, img, more)}
	}
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), md.New(), dk.New()}, Props: mdProps, Devices: []kernel.Device{
		etfs("whole", image("a"), ""), etfs("window", image("b"), `, "offset": 8192`), etfs("parts", image("c"), ""), etfs("ro", image("d"), `, "ro": true`),
		{Driver: "dk", On: "parts", Arg: []byte(`{"name": "parts"}`)},
	}})
	files := func() []string {
		var r []string
		l, err := filepath.Glob(filepath.Join(dir, "*redo*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range l {
			r = append(r, filepath.Base(f))
		}
		return r
	}
	number := func(node string) abi.Dev {
		n, ok := k.Dev.Lookup(node)
		if !ok {
			t.Fatalf("no %s:\n%s", node, dmesg(k))
		}
		return n.Dev
	}
	data := bytes.Repeat([]byte("layer"), 4096)[:16384]
	for node, want := range map[string][]string{
		"whole": {"a.rumpus-redo"}, "window": {"b@8192.rumpus-redo"}, "partsp1": {"c@p1.rumpus-redo"}, "md0": nil,
	} {
		l, err := k.OpenLayers(ctx, number(node), true, bio.LayerOptions{})
		if err != nil {
			t.Fatalf("%s: %v", node, err)
		}
		if _, err := k.OpenLayers(ctx, number(node), true, bio.LayerOptions{}); !errors.Is(err, abi.EBUSY) {
			t.Errorf("%s: a second mount: %v", node, err)
		}
		if err := l.IO().Strategy(ctx, &devops.Buf{Blkno: 8, Bytes: 16384, Flags: devops.BWrite, Data: abi.IovOf(data)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(ctx); err != nil {
			t.Fatalf("%s: %v", node, err)
		}
		if got := files(); !slices.Equal(got, want) {
			t.Errorf("%s: redo files %v, want %v", node, got, want)
		}
		if err := l.Close(ctx); err != nil {
			t.Errorf("%s: %v", node, err)
		}
		if got := files(); len(got) > 0 {
			t.Errorf("%s: redo files %v after Close", node, got)
		}
	}
	if log := dmesg(k); strings.Count(log, "no redo file") != 1 {
		t.Errorf("that md0 has no redo file is not told once:\n%s", log)
	}
	for name, off := range map[string]int{"a": 4096, "b": 8192 + 4096, "c": 64*512 + 4096} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got[off:][:len(data)], data) {
			t.Errorf("image %s has other bytes, %v", name, err)
		}
	}
	if _, err := k.OpenLayers(ctx, number("ro"), true, bio.LayerOptions{}); !errors.Is(err, abi.EROFS) {
		t.Errorf("of what can only be read: %v", err)
	}
	l, err := k.OpenLayers(ctx, number("ro"), false, bio.LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
	// A redo file of another image is refused, and stays.
	var b bytes.Buffer
	e, err := bio.NewRedoEncoder(&b, bio.ImageID{Size: 1 << 20, Ino: 1}, 1)
	if err == nil {
		err = errors.Join(e.Entry(0, abi.IovOf(data)), e.Commit(), os.WriteFile(filepath.Join(dir, "a.rumpus-redo"), b.Bytes(), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := k.OpenLayers(ctx, number("whole"), true, bio.LayerOptions{}); !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), "another image") {
			t.Errorf("with the redo file of another image: %v", err)
		}
	}
	if got := files(); len(got) != 1 {
		t.Errorf("redo files %v", got)
	}
}
