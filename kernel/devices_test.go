package kernel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/dk"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestDevices attaches a disk image of the host and its partitions, at boot and
// while the kernel runs, and uses them by their nodes.
func TestDevices(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	img := filepath.Join(t.TempDir(), "disk.img")
	b := make([]byte, 4<<20)
	e := b[446:] // one partition: Linux, 8 blocks at block 64
	e[4], e[8], e[12] = 0x83, 64, 8
	b[510], b[511] = 0x55, 0xaa
	if err := os.WriteFile(img, b, 0o600); err != nil {
		t.Fatal(err)
	}
	k := booted(t, kernel.Options{
		Modules: []modapi.Module{tmpfs.New(), dk.New()},
		Devices: []kernel.Device{ // the wrong way round
			{Driver: "dk", On: "disk0", Arg: []byte(`{"name": "disk0"}`)},
			{Driver: "etfs", Arg: []byte(`{"name": "disk0", "host": "` + img + `"}`)},
			{Driver: "etfs", Arg: []byte(`{"name": "missing", "host": "` + img + `.none"}`)},
		},
	})
	msg, _ := k.Msg.Read(0)
	if log := string(msg); !strings.Contains(log, "missing") || !strings.Contains(log, "no such file") {
		t.Errorf("the missing one is not told of:\n%s", log)
	}
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	disks, err := c.Disks(ctx)
	if err != nil || len(disks) != 2 || disks[0].Name != "disk0" || disks[0].Size != 4<<20 || disks[0].Host != img || disks[1].Name != "disk0p1" ||
		disks[1].Size != 4096 || disks[1].Rank != 1 || len(disks[1].On) != 1 || disks[1].On[0] != "disk0" || !disks[0].Busy {
		t.Fatalf("%+v, %v", disks, err)
	}
	fd, err := c.Open(ctx, "/dev/disk0p1", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("in the partition\n"), 100)
	if n, err := c.Pwrite(ctx, fd, text, 1000); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	if err := c.Fsync(ctx, fd); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(img)
	if err != nil || !bytes.Equal(got[64*512+1000:][:len(text)], text) {
		t.Error("the image has other bytes", err)
	}
	if n, err := c.Pwrite(ctx, fd, text, 4000); n != 96 && !errors.Is(err, abi.ENOSPC) {
		t.Errorf("over the end of the partition: %d, %v", n, err)
	}
	if err := c.Fsync(ctx, fd); err != nil {
		t.Fatal(err)
	}
	if got, err = os.ReadFile(img); err != nil || !bytes.Equal(got[72*512:], make([]byte, len(got)-72*512)) {
		t.Error("written behind the partition", err)
	}
	var is struct{ Contents struct{ Kind, Type string } }
	if p, err := c.ProbeDisk(ctx, "/dev/disk0"); err != nil || json.Unmarshal(p, &is) != nil || is.Contents.Type != "dos" {
		t.Errorf("%s, %v", p, err)
	}
	if err := c.DetachDisk(ctx, "disk0p1", false); !errors.Is(err, abi.EBUSY) {
		t.Errorf("detach of what is open: %v", err)
	}
	if err := c.Close(ctx, fd); err != nil {
		t.Fatal(err)
	}
	if err := c.DetachDisk(ctx, "disk0", false); !errors.Is(err, abi.EBUSY) {
		t.Errorf("detach of what something stands on: %v", err)
	}
	for _, n := range []string{"/dev/disk0p1", "disk0"} {
		if err := c.DetachDisk(ctx, n, false); err != nil {
			t.Error(err)
		}
	}
	if disks, err := c.Disks(ctx); len(disks) != 0 || err != nil {
		t.Errorf("%+v, %v", disks, err)
	}
	nodes, err := c.AttachDisk(ctx, "etfs", "", []byte(`{"name": "again", "host": "`+img+`", "ro": true}`))
	if err != nil || len(nodes) != 1 || nodes[0] != "again" {
		t.Error(nodes, err)
	}
	if _, err := c.Open(ctx, "/dev/again", abi.O_RDWR, 0); !errors.Is(err, abi.EROFS) {
		t.Errorf("open of a read-only one: %v", err)
	}
	for what, e := range map[string]abi.Errno{
		`{"name": "x"}`: abi.EINVAL, `{"name": "again", "host": "x"}`: abi.EEXIST, `{"name": "y", "host": "/nowhere/at/all"}`: abi.ENOENT, `{`: abi.EINVAL,
	} {
		if _, err := c.AttachDisk(ctx, "etfs", "", []byte(what)); !errors.Is(err, e) {
			t.Errorf("%s: %v, want %v", what, err, e)
		}
	}
	if _, err := c.AttachDisk(ctx, "dk", "nothing", nil); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	if _, err := c.AttachDisk(ctx, "tape", "", nil); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	// The other two ways to show a key: a regular file of bytes, and the raw
	// device alone.
	small := filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(small, bytes.Repeat([]byte("0123456789abcdef"), 64), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{`{"name": "bytes", "type": "reg", "host": "` + small + `"}`, `{"name": "sectors", "type": "chr", "nolock": true, "host": "` + small + `"}`} {
		if _, err := c.AttachDisk(ctx, "etfs", "", []byte(arg)); err != nil {
			t.Fatal(err)
		}
	}
	for name, typ := range map[string]abi.VType{"bytes": abi.VREG, "sectors": abi.VCHR, "rbytes": 0, "rsectors": 0} {
		st, err := c.Stat(ctx, "/dev/"+name)
		if typ == 0 && !errors.Is(err, abi.ENOENT) || typ != 0 && (err != nil || st.Type != typ) || typ == abi.VREG && st.Size != 1024 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	if fd, err = c.Open(ctx, "/dev/bytes", abi.O_RDWR|abi.O_TRUNC, 0); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if n, err := c.Pread(ctx, fd, p, 1019); n != 5 || err != nil || string(p[:n]) != "bcdef" {
		t.Errorf("%q, %v", p[:n], err)
	}
	if _, err := c.Pwrite(ctx, fd, []byte("xyz"), 7); err != nil {
		t.Error(err)
	}
	if st, err := c.Fstat(ctx, fd); err != nil || st.Type != abi.VREG || st.Size != 1024 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := c.Fsync(ctx, fd); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(small); err != nil || len(got) != 1024 || string(got[:12]) != "0123456xyzab" {
		t.Errorf("%.20q, %v", got, err)
	}
	if raw, err := c.Open(ctx, "/dev/sectors", abi.O_RDONLY, 0); err != nil {
		t.Error(err)
	} else if _, err := c.Pread(ctx, raw, p, 0); !errors.Is(err, abi.EINVAL) {
		t.Errorf("less than a sector: %v", err)
	}
	if err := c.Setuid(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachDisk(ctx, "etfs", "", nil); !errors.Is(err, abi.EPERM) {
		t.Errorf("as somebody: %v", err)
	}
	if _, err := c.Disks(ctx); err != nil {
		t.Errorf("list as somebody: %v", err)
	}
}
