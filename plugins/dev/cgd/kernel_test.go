package cgd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestInKernel: a whole kernel with a LUKS2 image of the host as a disk, etfs, and
// cgd on it. Programs read /dev/cgd0 at any offset, and it is what was encrypted.
func TestInKernel(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plain := random(2 << 20)
	img := filepath.Join(t.TempDir(), "luks.img")
	if err := os.WriteFile(img, encrypted(t, plain, "--sector-size", "4096").p, 0o600); err != nil {
		t.Fatal(err)
	}
	etfs, err := json.Marshal(map[string]any{"name": "disk0", "host": img})
	if err != nil {
		t.Fatal(err)
	}
	k := kernel.New(kernel.Options{Hostname: "rump", Modules: []modapi.Module{tmpfs.New(), New()}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	defer k.Reboot(context.Background(), 0)
	names, err := k.Attach(ctx, "etfs", "", etfs)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	attach := func(pass string) error {
		arg, err := luksReq(pass).Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.Attach(ctx, "cgd", names[0], arg)
		return err
	}
	wants(t, "wrong", attach("wrong"), abi.EACCES, "no key slot opened with this passphrase")
	if err := attach(pass); err != nil {
		t.Fatal(err)
	}
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	fd, err := c.Open(ctx, "/dev/cgd0", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(plain))
	for off := 0; off < len(got); {
		n, err := c.Pread(ctx, fd, got[off:min(len(got), off+300001)], int64(off))
		if n <= 0 || err != nil {
			t.Fatalf("read at %d: %d, %v", off, n, err)
		}
		off += n
	}
	if sha256.Sum256(got) != sha256.Sum256(plain) {
		t.Fatal("the contents are not what was encrypted")
	}
	if _, err := c.Pwrite(ctx, fd, []byte("not whole sectors"), 4090); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(ctx, fd); err != nil {
		t.Fatal(err)
	}
	if err := k.Dev.Detach(ctx, "cgd0", false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(ctx, "/dev/cgd0", abi.O_RDONLY, 0); !errors.Is(err, abi.ENXIO) && !errors.Is(err, abi.ENOENT) {
		t.Errorf("open after detach: %v", err)
	}
	if err := attach(pass); err != nil {
		t.Fatal(err)
	}
	if fd, err = c.Open(ctx, "/dev/rcgd0", abi.O_RDONLY, 0); err != nil {
		t.Fatal(err)
	}
	copy(plain[4090:], "not whole sectors")
	if _, err := c.Pread(ctx, fd, got[:8192], 0); err != nil || !bytes.Equal(got[:8192], plain[:8192]) {
		t.Errorf("what was written is not read after the unit was attached again: %v", err)
	}
}
