package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func seq(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// TestRoundTrip: every name, every size of sector, in place; and sectors that
// are equal in clear are not when encrypted.
func TestRoundTrip(t *testing.T) {
	for name, keyLen := range map[string]int{
		"aes-xts-plain64": 64, "aes-xts-plain": 32, "aes-cbc-essiv:sha256": 32, "aes-cbc-plain64": 16, "aes-cbc-plain": 24,
	} {
		key := seq(keyLen)
		c, err := NewLUKS(name, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{512, 1024, 4096} {
			src := bytes.Repeat(seq(size), 3)
			buf := append([]byte(nil), src...)
			c.Encrypt(buf, buf, 5, uint64(size/512), size)
			if bytes.Equal(buf[:size], buf[size:2*size]) || bytes.Equal(buf[:16], src[:16]) {
				t.Errorf("%s: not encrypted by sector", name)
			}
			// A sector alone is the same as within a run.
			alone := make([]byte, size)
			c.Decrypt(alone, buf[size:2*size], 5+uint64(size/512), 1, size)
			if !bytes.Equal(alone, src[:size]) {
				t.Errorf("%s: the second sector of %d decrypts otherwise", name, size)
			}
			c.Decrypt(buf, buf, 5, uint64(size/512), size)
			if !bytes.Equal(buf, src) {
				t.Errorf("%s: not decrypted", name)
			}
		}
		for _, f := range []string{"%v", "%+v", "%#v", "%x"} {
			if s := fmt.Sprintf(f, c); !strings.HasPrefix(s, "aes-") || strings.Contains(s, hex.EncodeToString(key[:8])) {
				t.Errorf("%s of %s is %q", f, name, s)
			}
		}
		c.Wipe()
	}
}

// TestIV computes IVs by the definition of each.
func TestIV(t *testing.T) {
	key := seq(32)
	own, _ := aes.NewCipher(key)
	h := sha256.Sum256(key)
	salted, _ := aes.NewCipher(h[:])
	number := func(s string) []byte {
		p, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const n = 0x123456789a
	full, low := number("9a785634120000000000000000000000"), number("9a785634000000000000000000000000")
	enc := func(b cipher.Block, p []byte) []byte {
		r := make([]byte, 16)
		b.Encrypt(r, p)
		return r
	}
	src := seq(512)
	for v, iv := range map[IV][]byte{EncBlkno: enc(own, full), ESSIV: enc(salted, full), Plain64: full, Plain: low} {
		want := make([]byte, 512)
		cipher.NewCBCEncrypter(own, iv).CryptBlocks(want, src)
		c, err := NewCBC(v, key)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 512)
		c.Encrypt(got, src, n, 1, 512)
		if !bytes.Equal(got, want) {
			t.Errorf("%v: another IV", v)
		}
	}
	a, _ := NewLUKS("aes-xts-plain", seq(64))
	b, _ := NewLUKS("aes-xts-plain64", seq(64))
	x, y := make([]byte, 1024), make([]byte, 512)
	a.Encrypt(x, bytes.Repeat(src, 2), 0xffffffff, 1, 512)
	b.Encrypt(y, src, 0, 1, 512)
	if !bytes.Equal(x[512:], y) {
		t.Error("plain does not begin again behind 32 bits")
	}
}

func TestRefused(t *testing.T) {
	for _, name := range []string{"", "aes", "aes-xts", "aes-xts-essiv:sha256", "aes-cbc-essiv:sha1", "aes-ecb", "serpent-xts-plain64",
		"xts-plain64", "aes-adiantum-plain64", "xchacha12,aes-adiantum-plain64", strings.Repeat("x", 5000)} {
		_, err := NewLUKS(name, seq(64))
		if !errors.Is(err, abi.EINVAL) || len(err.Error()) > 200 || !strings.Contains(err.Error(), name[:min(len(name), 20)]) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	for _, n := range []int{0, 15, 33, 64} {
		if _, err := NewCBC(EncBlkno, seq(n)); !errors.Is(err, abi.EINVAL) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}
