package cgd

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

const pass = "open sesame, open sesame"

// cryptsetup runs it with the passphrase as key file; the last argument is the
// image.
func cryptsetup(t testing.TB, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed")
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(pass), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append([]string{args[0], "-q", "--key-file", key}, args[1:]...)
	if out, err := exec.CommandContext(ctx, "cryptsetup", append([]string{"--disable-locks"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

var cheap = []string{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", "1"}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	p := make([]byte, n)
	r.Read(p)
	return p
}

// encrypted is a LUKS2 image, encrypted by cryptsetup itself.
func encrypted(t testing.TB, plain []byte, args ...string) *memDisk {
	t.Helper()
	img := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(img, append(bytes.Clone(plain), make([]byte, 4<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append(append([]string{"reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "4M"}, cheap...), args...)
	cryptsetup(t, append(args, img)...)
	p, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	d := newDisk(int64(len(p)), 512)
	copy(d.p, p)
	return d
}

func luksReq(pass string) *cgdio.Request {
	return &cgdio.Request{Kind: cgdio.LUKS, Unit: cgdio.AnyUnit, Slot: cgdio.AnySlot, Secrets: [][]byte{[]byte(pass)}}
}

// TestLUKS reads a volume that cryptsetup has encrypted, and lets cryptsetup
// decrypt what we have written.
func TestLUKS(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		plain := random(2 << 20)
		disk := encrypted(t, plain, "--sector-size", sector, "--label", "a label")
		r := newRig(t, disk)
		_, err := r.configure(luksReq("wrong"))
		wants(t, "wrong passphrase", err, abi.EACCES, "no key slot opened with this passphrase")
		q := luksReq(pass)
		q.Slot = 3
		_, err = r.configure(q)
		wants(t, "another slot", err, abi.ENOENT, "no key slot 3")
		n := r.must(luksReq(pass))
		i := r.info(n)
		if i.Kind != cgdio.LUKS || i.Slot != 0 || i.KeyBits != 512 || i.Cipher != "aes-xts-plain64" || len(i.UUID) != 36 || i.Note != "" ||
			i.Offset <= 0 || i.Offset+i.Size != int64(len(disk.p)) || i.Dev != onDev || i.Impl == "" {
			t.Errorf("%+v", i)
		}
		g, err := r.d.Geometry(t.Context(), n)
		if err != nil || g.Size != i.Size || g.Check() != nil || g.Sector != i.Sector {
			t.Errorf("%+v, %v", g, err)
		}
		got := make([]byte, len(plain))
		for off := 0; off < len(got); off += 256 << 10 {
			if err := r.do(devops.BRead, n, int64(off), got[off:off+256<<10]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, plain) {
			t.Fatalf("sectors of %s: the contents are not what was encrypted", sector)
		}
		header := bytes.Clone(disk.p[:i.Offset])
		news := random(128 << 10)[4096:]
		if err := r.do(devops.BWrite, n, 8192, news); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(header, disk.p[:i.Offset]) {
			t.Error("a write has changed the header")
		}
		img := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(img, disk.p, 0o600); err != nil {
			t.Fatal(err)
		}
		cryptsetup(t, "reencrypt", "--decrypt", "--force-offline-reencrypt", "--header", img+".header", img)
		back, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		copy(plain[8192:], news)
		if !bytes.Equal(back[:len(plain)], plain) {
			t.Errorf("sectors of %s: cryptsetup does not decrypt what we have written", sector)
		}
		for _, l := range r.k.Logs() {
			if strings.Contains(l, pass) {
				t.Errorf("the passphrase is in the log: %s", l)
			}
		}
	}
}

// TestLUKSDamaged: damage is told, and nothing is attached that is not whole.
func TestLUKSDamaged(t *testing.T) {
	whole := encrypted(t, random(1<<20))
	with := func(f func(d *memDisk)) *rig {
		d := newDisk(int64(len(whole.p)), 512)
		copy(d.p, whole.p)
		f(d)
		return newRig(t, d)
	}
	r := with(func(d *memDisk) { clear(d.p[:4096]) })
	n := r.must(luksReq(pass))
	if i := r.info(n); !strings.Contains(i.Note, "second one is used") {
		t.Errorf("note %q", i.Note)
	}
	if logs := strings.Join(r.k.Logs(), "\n"); !strings.Contains(logs, "warn: cgd: the first LUKS2 header is damaged") {
		t.Errorf("log: %s", logs)
	}
	_, err := with(func(d *memDisk) { d.p, d.g.Size = d.p[:1<<20], 1<<20 }).configure(luksReq(pass))
	wants(t, "cut off", err, abi.EIO, "cut off")
	_, err = with(func(d *memDisk) { d.fail = abi.EIO }).configure(luksReq(pass))
	wants(t, "I/O error", err, abi.EIO, "")
	r = with(func(d *memDisk) { d.g.Sector = 4096 })
	n = r.must(luksReq(pass))
	if g, err := r.d.Geometry(t.Context(), n); err != nil || g.Sector != 4096 {
		t.Errorf("on a device with sectors of 4096: %+v, %v", g, err)
	}
	r = with(func(d *memDisk) { d.g.ReadOnly = true })
	n = r.must(luksReq(pass))
	wants(t, "read-only", r.do(devops.BWrite, n, 0, make([]byte, 4096)), abi.EROFS, "")
	if r.info(n).Flags&cgdio.ReadOnly == 0 {
		t.Error("info does not say that it is read-only")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := configure(ctx, with(func(*memDisk) {}).d, luksReq(pass)); !errors.Is(err, abi.EINTR) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLUKSConformance(t *testing.T) {
	whole := encrypted(t, random(1<<20))
	modtest.TestBlk(t, func(t *testing.T) modtest.BlkUnderTest {
		d := newDisk(int64(len(whole.p)), 512)
		copy(d.p, whole.p)
		return modtest.BlkUnderTest{
			Mods: []modapi.Module{New()}, Driver: "cgd", Units: []uint32{0}, BadUnit: 1, Disks: map[abi.Dev]devops.BlockIO{onDev: d},
			Setup: func(t *testing.T, k *modtest.Kernel, d devops.Blk) {
				if _, err := configure(t.Context(), d, luksReq(pass)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
