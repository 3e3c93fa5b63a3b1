package xts

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	plain "golang.org/x/crypto/xts"
)

// vector is a line of a file in testdata.
type vector struct {
	name        string
	encrypt     bool
	tweak       [16]byte
	key, pt, ct []byte
}

func vectors(t *testing.T, file string) []vector {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r []vector
	s := bufio.NewScanner(f)
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		w := strings.Fields(s.Text())
		if len(w) != 6 {
			t.Fatalf("%s: %q", file, s.Text())
		}
		v := vector{name: w[0], encrypt: w[1] == "encrypt"}
		for i, p := range []*[]byte{&v.key, &v.pt, &v.ct} {
			if *p, err = hex.DecodeString(w[3+i]); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := hex.Decode(v.tweak[:], []byte(w[2])); n != 16 || err != nil {
			t.Fatalf("%s: tweak %q", file, w[2])
		}
		r = append(r, v)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// one does one data unit with a tweak of 128 bits; false if the way has sector
// numbers only and this is none.
func one(c *Cipher, dst, src []byte, tweak [16]byte, dec int) bool {
	hi := binary.LittleEndian.Uint64(tweak[8:])
	if c.way == wayPlain || hi == 0 {
		if hi != 0 {
			return false
		}
		c.crypt(dst, src, binary.LittleEndian.Uint64(tweak[:]), 1, len(src), dec)
		return true
	}
	var t [batch * BlockSize]byte
	copy(t[:], tweak[:])
	c.run(dst, src, &t, 1, len(src), dec)
	return true
}

func TestVectors(t *testing.T) {
	for file, least := range map[string]int{"ieee1619.txt": 15, "nist-cavp.txt": 480} {
		vs := vectors(t, file)
		if len(vs) < least {
			t.Errorf("%s has only %d vectors", file, len(vs))
		}
		for _, w := range ways() {
			t.Run(file+"/"+w.String(), func(t *testing.T) {
				done := 0
				for i, v := range vs {
					c, err := newWay(v.key, w)
					if err != nil {
						t.Fatal(err)
					}
					got := make([]byte, len(v.pt))
					if !one(c, got, v.pt, v.tweak, 0) {
						continue
					}
					done++
					if !bytes.Equal(got, v.ct) {
						t.Errorf("%s (%d): encrypted\n%x, want\n%x", v.name, i, got, v.ct)
					}
					one(c, got, got, v.tweak, 1)
					if !bytes.Equal(got, v.pt) {
						t.Errorf("%s (%d): decrypted\n%x, want\n%x", v.name, i, got, v.pt)
					}
				}
				if done < len(vs)/2 {
					t.Errorf("only %d of %d vectors run", done, len(vs))
				}
			})
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// want is what x/crypto makes of it.
func want(t testing.TB, key, src []byte, first, step uint64, size int) []byte {
	t.Helper()
	c, err := plain.NewCipher(aes.NewCipher, key)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, len(src))
	for o := 0; o < len(src); o += size {
		c.Encrypt(dst[o:o+size], src[o:o+size], first)
		first += step
	}
	return dst
}

// TestPathsAgree compares every implementation with x/crypto/xts: sizes of
// sectors around every width, runs longer than a batch, in place and not, at
// odd addresses, and looks for bytes written beside the area.
func TestPathsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1619, 2007))
	type run struct{ size, sectors int }
	runs := []run{{512, 1}, {512, 9}, {512, batch}, {512, 2*batch + 3}, {1024, 5}, {2048, 3}, {4096, 1}, {4096, batch + 1}}
	for b := 1; b <= 70; b++ {
		runs = append(runs, run{b * BlockSize, 1 + b%3})
	}
	for _, keyLen := range []int{32, 64} {
		for _, x := range runs {
			key := randomBytes(r, keyLen)
			src := randomBytes(r, x.size*x.sectors)
			first, step := r.Uint64(), uint64(1+r.IntN(8))
			if x.sectors%2 == 1 {
				first >>= 32
			}
			ct := want(t, key, src, first, step, x.size)
			for _, w := range ways() {
				c, err := newWay(key, w)
				if err != nil {
					t.Fatal(err)
				}
				for off := range 3 {
					off *= 7
					name := fmt.Sprintf("%v, %d sectors of %d, offset %d", c, x.sectors, x.size, off)
					area := bytes.Repeat([]byte{0xee}, len(src)+64)
					dst := area[off+1:][:len(src)]
					in := append(make([]byte, off), src...)[off:]
					c.Encrypt(dst, in, first, step, x.size)
					if !bytes.Equal(dst, ct) {
						t.Fatalf("%s: encrypted otherwise than by x/crypto", name)
					}
					if !bytes.Equal(in, src) {
						t.Fatalf("%s: source changed", name)
					}
					c.Decrypt(dst, dst, first, step, x.size)
					if !bytes.Equal(dst, src) {
						t.Fatalf("%s: not decrypted in place", name)
					}
					c.Encrypt(dst, dst, first, step, x.size)
					if !bytes.Equal(dst, ct) {
						t.Fatalf("%s: not encrypted in place", name)
					}
					c.Decrypt(in, dst, first, step, x.size)
					if !bytes.Equal(in, src) {
						t.Fatalf("%s: not decrypted", name)
					}
					for i, p := range area {
						if (i <= off || i > off+len(src)) && p != 0xee {
							t.Fatalf("%s: byte %d beside the area written", name, i)
						}
					}
				}
			}
		}
	}
}

func FuzzPathsAgree(f *testing.F) {
	f.Add([]byte("seed"), uint64(0), uint8(32), uint8(1), uint8(1), uint8(0), false)
	f.Add([]byte("another"), ^uint64(0), uint8(255), uint8(40), uint8(8), uint8(3), true)
	f.Add([]byte{}, uint64(1)<<63, uint8(33), uint8(33), uint8(0), uint8(31), true)
	f.Fuzz(func(t *testing.T, seed []byte, first uint64, blocks, sectors, step, off uint8, aes256 bool) {
		var s [32]byte
		copy(s[:], seed)
		r := rand.New(rand.NewChaCha8(s))
		key := randomBytes(r, 32)
		if aes256 {
			key = randomBytes(r, 64)
		}
		size := (1 + int(blocks)) * BlockSize
		src := randomBytes(r, size*(int(sectors)%48))
		ct := want(t, key, src, first, uint64(step), size)
		for _, w := range ways() {
			c, err := newWay(key, w)
			if err != nil {
				t.Fatal(err)
			}
			buf := append(make([]byte, off), src...)[off:]
			c.Encrypt(buf, buf, first, uint64(step), size)
			if !bytes.Equal(buf, ct) {
				t.Fatalf("%v: encrypted otherwise than by x/crypto", c)
			}
			c.Decrypt(buf, buf, first, uint64(step), size)
			if !bytes.Equal(buf, src) {
				t.Fatalf("%v: decrypted otherwise", c)
			}
		}
	})
}

func TestKeys(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 48, 63, 65, 128} {
		for _, w := range ways() {
			if _, err := newWay(make([]byte, n), w); err == nil {
				t.Errorf("%v takes a key of %d bytes", w, n)
			}
		}
	}
	if _, err := New(make([]byte, 64)); err == nil {
		t.Error("equal halves taken")
	}
	key := []byte("0123456789abcdefFEDCBA9876543210")
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if s := fmt.Sprintf(f, c); s != c.String() || strings.Contains(s, "0123") {
			t.Errorf("%s shows %q", f, s)
		}
	}
	c.Wipe()
	if c.s != (schedules{}) {
		t.Error("key left after Wipe")
	}
	mustPanic(t, "wiped", func() { c.Encrypt(make([]byte, 512), make([]byte, 512), 0, 1, 512) })
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestMisuse(t *testing.T) {
	for _, w := range ways() {
		c, err := newWay([]byte("0123456789abcdefFEDCBA9876543210"), w)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		mustPanic(t, "half a block", func() { c.Encrypt(p, p[:1000], 0, 1, 1000) })
		mustPanic(t, "half a sector", func() { c.Encrypt(p, p[:768], 0, 1, 512) })
		mustPanic(t, "short dst", func() { c.Encrypt(p[:512], p[:1024], 0, 1, 512) })
		mustPanic(t, "size 0", func() { c.Encrypt(p, p, 0, 1, 0) })
		mustPanic(t, "overlap", func() { c.Encrypt(p[16:528], p[:512], 0, 1, 512) })
		c.Encrypt(nil, nil, 0, 1, 512)
	}
}

// TestConcurrent: one cipher, many goroutines.
func TestConcurrent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key, src := randomBytes(r, 64), randomBytes(r, 64<<10)
	ct := want(t, key, src, 7, 1, 4096)
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			buf := make([]byte, len(src))
			for range 20 {
				c.Encrypt(buf, src, 7, 1, 4096)
				if !bytes.Equal(buf, ct) {
					t.Error("encrypted otherwise")
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkXTS(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, w := range ways() {
		for _, keyLen := range []int{32, 64} {
			c, err := newWay(randomBytes(r, keyLen), w)
			if err != nil {
				b.Fatal(err)
			}
			for _, x := range []struct{ size, n int }{{512, 512}, {4096, 4096}, {512, 128 << 10}, {4096, 128 << 10}} {
				buf := make([]byte, x.n)
				for i, op := range []func(dst, src []byte, first, step uint64, size int){c.Encrypt, c.Decrypt} {
					b.Run(fmt.Sprintf("%v/aes%d/sector%d/len%d/%s", w, keyLen*4, x.size, x.n, [...]string{"enc", "dec"}[i]), func(b *testing.B) {
						b.SetBytes(int64(x.n))
						for b.Loop() {
							op(buf, buf, 1, 1, x.size)
						}
					})
				}
			}
		}
	}
}
