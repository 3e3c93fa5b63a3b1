package fat

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

// TestMkfs makes images of a tree in a file, which fsck.vfat finds whole and a
// mount finds equal.
func TestMkfs(t *testing.T) {
	when := time.Date(2021, 3, 4, 5, 6, 8, 0, time.UTC)
	rnd := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 1<<20+12345)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	file := func(p []byte, mode fs.FileMode) *fstest.MapFile {
		return &fstest.MapFile{Data: p, Mode: mode, ModTime: when}
	}
	tree := fstest.MapFS{
		"README.TXT": file([]byte("read me\n"), 0o644), "empty": file(nil, 0o600), "docs/A long name.text": file(data[:70000], 0o444),
		"docs/deep/er/large.bin": file(data, 0o644), "EFI/BOOT/BOOTX64.EFI": file(data[:5000], 0o755),
		"docs": {Mode: fs.ModeDir | 0o755, ModTime: when}, "link": {Data: []byte("empty"), Mode: fs.ModeSymlink | 0o777, ModTime: when},
		"bad:name": file(nil, 0o644),
	}
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			img, err := os.Create(filepath.Join(t.TempDir(), "img"))
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			size := max(fm.size, 4<<20)
			if fm.o.Bits == 12 {
				fm.o.Cluster = 4096
			}
			if err := img.Truncate(size); err != nil {
				t.Fatal(err)
			}
			var skipped []string
			o := MkfsOptions{FormatOptions: fm.o, Skip: func(p string, err error) error {
				skipped = append(skipped, p)
				return nil
			}}
			if err := Mkfs(ctx, img, size, o, tree); err != nil {
				t.Fatal(err)
			}
			if want := []string{"bad:name", "link"}; !slices.Equal(skipped, want) {
				t.Errorf("left out %q, want %q", skipped, want)
			}
			p, err := os.ReadFile(img.Name())
			if err != nil {
				t.Fatal(err)
			}
			fsck(t, p)
			disk := modtest.NewRAM(size, uint32(max(fm.o.Sector, 512)))
			copy(disk.Bytes(), p)
			r := mountRig(t, disk, nil)
			for _, path := range [][]string{{"README.TXT"}, {"empty"}, {"docs", "A long name.text"}, {"docs", "deep", "er", "large.bin"}, {"EFI", "BOOT", "BOOTX64.EFI"}} {
				want := tree[filepath.Join(path...)]
				h := r.lookup(path...)
				if !bytes.Equal(r.get(h), want.Data) {
					t.Errorf("%s is not what it was", path)
				}
				va, err := r.Getattr(ctx, h)
				r.must(err)
				if va.Mtime.Sec != when.Unix() || (va.Mode&0o222 == 0) != (want.Mode&0o222 == 0) {
					t.Errorf("%s: time %d, mode %o", path, va.Mtime.Sec, va.Mode)
				}
			}
			if va, err := r.Getattr(ctx, r.lookup("docs")); err != nil || va.Mtime.Sec != when.Unix() {
				t.Errorf("docs: time %d, %v", va.Mtime.Sec, err)
			}
		})
	}
	small := memory(make([]byte, 512<<10))
	delete(tree, "link")
	delete(tree, "bad:name")
	if err := Mkfs(ctx, readable{small}, int64(len(small)), MkfsOptions{}, tree); !errors.Is(err, abi.ENOSPC) {
		t.Errorf("a tree that does not fit: %v", err)
	}
	if err := Mkfs(ctx, readable{small}, int64(len(small)), MkfsOptions{}, fstest.MapFS{"l": {Mode: fs.ModeSymlink}}); !errors.Is(err, abi.EOPNOTSUPP) {
		t.Errorf("a symbolic link: %v", err)
	}
}

// readable is memory that can be read, too.
type readable struct{ memory }

func (m readable) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.memory[off:]), nil }
