package luks

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need skips the test if a program is not installed.
func need(t testing.TB, prog string) {
	t.Helper()
	if _, err := exec.LookPath(prog); err != nil {
		t.Skipf("%s is not installed", prog)
	}
}

// command runs a program and answers what it prints.
func command(t testing.TB, prog string, args ...string) string {
	t.Helper()
	out, err := run(t, prog, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", prog, strings.Join(args, " "), err, out)
	}
	return out
}

func run(t testing.TB, prog string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if prog == "cryptsetup" { // its locks belong to the super-user
		args = append([]string{"--disable-locks"}, args...)
	}
	out, err := exec.CommandContext(ctx, prog, args...).CombinedOutput()
	return string(out), err
}

const pass = "correct horse battery staple"

// secret is a file with a passphrase, as cryptsetup and qemu want it.
func secret(t testing.TB, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// content is what a volume holds in tests.
func content(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := r.Uint64()
		for k := range min(8, n-i) {
			p[i+k] = byte(v >> (8 * k))
		}
	}
	return p
}

// blank makes an empty file.
func blank(t testing.TB, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return p
}

// cheap makes cryptsetup's derivations cheap.
func cheap(kdf string) []string {
	if kdf == "pbkdf2" {
		return []string{"--pbkdf", kdf, "--pbkdf-force-iterations", "1000"}
	}
	return []string{"--pbkdf", kdf, "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", "2"}
}

// format is cryptsetup luksFormat; areas of keyslots are kept small.
func format(t testing.TB, size int64, args ...string) string {
	t.Helper()
	need(t, "cryptsetup")
	img := blank(t, size)
	args = append([]string{"luksFormat", "-q", "--key-file", secret(t, pass)}, args...)
	command(t, "cryptsetup", append(args, img)...)
	return img
}

// volumeKey is the key that cryptsetup itself finds.
func volumeKey(t testing.TB, img string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vk")
	command(t, "cryptsetup", "luksDump", "-q", "--dump-volume-key", "--volume-key-file", file, "--key-file", secret(t, pass), img)
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// load reads an image; tests of damage change it in memory.
func load(t testing.TB, img string) []byte {
	t.Helper()
	p, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open reads and unlocks an image in memory.
func open(img []byte, pass string, slot int) (*Header, *Volume, error) {
	r := bytes.NewReader(img)
	h, err := Read(r, int64(len(img)))
	if err != nil {
		return nil, nil, err
	}
	v, err := h.Unlock(context.Background(), r, []byte(pass), slot)
	return h, v, err
}

// data deciphers all of a volume.
func data(t testing.TB, v *Volume, img []byte) []byte {
	t.Helper()
	c, err := v.NewCipher()
	if err != nil {
		t.Fatal(err)
	}
	buf := append([]byte(nil), img[v.Offset:v.Offset+v.Size]...)
	c.Decrypt(buf, buf, v.Sector(0), v.Step(), v.SectorSize)
	return buf
}

func TestVolumeKey(t *testing.T) {
	for _, tc := range [][]string{
		append(cheap("argon2id"), "--type", "luks2"),
		append(cheap("argon2id"), "--type", "luks2", "--sector-size", "512", "--key-size", "256"),
		append(cheap("argon2i"), "--type", "luks2", "--sector-size", "2048", "--label", "a label"),
		append(cheap("pbkdf2"), "--type", "luks2", "--hash", "sha512", "--luks2-metadata-size", "64k"),
		append(cheap("pbkdf2"), "--type", "luks2", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"),
		append(cheap("pbkdf2"), "--type", "luks1"),
		append(cheap("pbkdf2"), "--type", "luks1", "--hash", "sha1", "--key-size", "256"),
		append(cheap("pbkdf2"), "--type", "luks1", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"),
		append(cheap("pbkdf2"), "--type", "luks1", "--cipher", "aes-cbc-plain64", "--key-size", "128"),
	} {
		t.Run(strings.NewReplacer("--", "", ":", "_").Replace(strings.Join(tc, " ")), func(t *testing.T) {
			t.Parallel()
			img := format(t, 18<<20, tc...)
			h, v, err := open(load(t, img), pass, AnySlot)
			if err != nil {
				t.Fatal(err)
			}
			if want := volumeKey(t, img); !bytes.Equal(v.key, want) {
				t.Errorf("the volume key is %x, cryptsetup's %x", v.key, want)
			}
			dump := command(t, "cryptsetup", "luksDump", img)
			if !strings.Contains(dump, h.UUID) || len(h.UUID) != 36 {
				t.Errorf("UUID %q is not that of\n%s", h.UUID, dump)
			}
			if h.Label != "" && !strings.Contains(dump, h.Label) || len(h.Notes) > 0 {
				t.Errorf("label %q, notes %q", h.Label, h.Notes)
			}
			for _, f := range []string{"%v", "%+v", "%#v", "%x"} {
				if s := fmt.Sprintf(f, v); strings.Contains(s, hex.EncodeToString(v.key[:8])) || !strings.HasPrefix(s, "LUKS") {
					t.Errorf("%s: %s", f, s)
				}
			}
			key := v.key
			v.Wipe()
			if !bytes.Equal(key, make([]byte, len(key))) {
				t.Error("the key is left after Wipe")
			}
		})
	}
}

// TestContent: cryptsetup encrypts an image with its own ciphers, without the
// device mapper; we must read what was in it, and write what it can read.
func TestContent(t *testing.T) {
	for _, tc := range [][]string{
		{"--sector-size", "4096"}, {"--sector-size", "512"}, {"--sector-size", "1024", "--key-size", "256"},
		{"--sector-size", "512", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"},
	} {
		t.Run(strings.NewReplacer("--", "", ":", "_").Replace(strings.Join(tc, " ")), func(t *testing.T) {
			t.Parallel()
			need(t, "cryptsetup")
			plain := content(6 << 20)
			img := blank(t, 10<<20)
			args := append([]string{"reencrypt", "-q", "--encrypt", "--type", "luks2", "--reduce-device-size", "4M",
				"--key-file", secret(t, pass)}, append(cheap("argon2id"), tc...)...)
			write(t, img, plain, 0)
			command(t, "cryptsetup", append(args, img)...)
			all := load(t, img)
			_, v, err := open(all, pass, AnySlot)
			if err != nil {
				t.Fatal(err)
			}
			if v.Step() != uint64(v.SectorSize)/512 || fmt.Sprint(v.SectorSize) != tc[1] {
				t.Errorf("sectors of %d", v.SectorSize)
			}
			if got := data(t, v, all); !bytes.HasPrefix(got, plain) {
				t.Fatal("the data is not what was encrypted")
			}
			// The way back: what we write, cryptsetup decrypts.
			again := content(6<<20 - 512)
			again = again[:len(again)/v.SectorSize*v.SectorSize]
			c, err := v.NewCipher()
			if err != nil {
				t.Fatal(err)
			}
			enc := make([]byte, len(again))
			c.Encrypt(enc, again, v.Sector(int64(v.SectorSize)), v.Step(), v.SectorSize)
			write(t, img, enc, v.Offset+int64(v.SectorSize))
			command(t, "cryptsetup", "reencrypt", "-q", "--decrypt", "--force-offline-reencrypt", "--key-file", secret(t, pass), "--header", filepath.Join(t.TempDir(), "hdr"), img)
			got := load(t, img)
			if !bytes.Contains(got, again[:4096]) || !bytes.Equal(got[v.SectorSize:][:len(again)], again) {
				t.Error("cryptsetup does not read what we wrote")
			}
		})
	}
}

func write(t testing.TB, img string, p []byte, off int64) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// TestQemu: qemu's own LUKS1 and ours agree in both directions.
func TestQemu(t *testing.T) {
	for _, tc := range []string{
		"cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256",
	} {
		t.Run(strings.NewReplacer("=", "_", ",", "_").Replace(tc), func(t *testing.T) {
			need(t, "qemu-img")
			dir := t.TempDir()
			raw, img, back := filepath.Join(dir, "raw"), filepath.Join(dir, "luks"), filepath.Join(dir, "back")
			plain := content(3 << 20)
			if err := os.WriteFile(raw, plain, 0o600); err != nil {
				t.Fatal(err)
			}
			sec := "secret,id=s,file=" + secret(t, pass)
			// qemu measures how fast it is, and gives up if others use the CPU.
			out, err := "", error(nil)
			for range 3 {
				if out, err = run(t, "qemu-img", "convert", "--object", sec, "-f", "raw", "-O", "luks", "-o", "key-secret=s,iter-time=10,"+tc, raw, img); err == nil {
					break
				}
				if !strings.Contains(out, "accurate CPU usage") {
					t.Fatal(out)
				}
			}
			if err != nil {
				t.Skip(out)
			}
			all := load(t, img)
			_, v, err := open(all, pass, AnySlot)
			if err != nil {
				t.Fatal(err)
			}
			if got := data(t, v, all); !bytes.Equal(got, plain) {
				t.Fatal("the data is not what qemu encrypted")
			}
			again := content(3<<20 - 1024)
			c, err := v.NewCipher()
			if err != nil {
				t.Fatal(err)
			}
			enc := make([]byte, len(again))
			c.Encrypt(enc, again, v.Sector(1024), v.Step(), v.SectorSize)
			write(t, img, enc, v.Offset+1024)
			command(t, "qemu-img", "convert", "--object", sec, "--image-opts", "driver=luks,key-secret=s,file.filename="+img, "-O", "raw", back)
			if got := load(t, back); !bytes.Equal(got, append(plain[:1024:1024], again...)) {
				t.Error("qemu does not read what we wrote")
			}
		})
	}
}
