// Package xts is AES-XTS (IEEE Std 1619, NIST SP 800-38E) for disk sectors, as
// fast as the CPU allows.
//
// The words. A data unit is a sector: a whole number of 16-byte blocks, here
// never cut short (no ciphertext stealing). The tweak of a sector is its number,
// little-endian in 16 bytes, encrypted with the second half of the key; the
// tweak of each further block is the one before times x in GF(2^128).
//
// A Cipher works on runs of sectors that follow each other on the disk, since
// one call for a whole request costs less than one a sector:
//
//	c, err := xts.New(key)            // 32 bytes: AES-128, 64 bytes: AES-256
//	c.Decrypt(buf, buf, first, 1, 512) // in place is the usual way
//
// There are four ways to compute the same, of which the best is chosen once,
// when the program starts (see Path):
//
//	vaes512  32 blocks at a time, VAES in AVX-512 registers
//	vaes256  16 blocks at a time, VAES in AVX2 registers
//	aesni    8 blocks at a time, AES-NI
//	plain    golang.org/x/crypto/xts, on everything else
//
// The first three take time that does not depend on key or data; the last does
// if crypto/aes does.
//
// What goes wrong: nothing at run time. Lengths are the caller's promise, and
// breaking it panics, as with crypto/cipher.
//
// Locks: none. A Cipher is read-only after New, and may be used concurrently;
// Wipe must come after the last use.
package xts

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"unsafe"

	plain "golang.org/x/crypto/xts"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// BlockSize is the block of AES in bytes. Sectors are multiples of it.
const BlockSize = aes.BlockSize

// batch is how many sectors one call of the assembly does at most: it bounds
// the table of tweaks on the stack, and how long a goroutine cannot be stopped.
const batch = 32

// way is one of the implementations.
type way int

const (
	wayPlain way = iota
	wayNI
	wayVAES256
	wayVAES512
)

func (w way) String() string {
	return [...]string{"plain", "aesni", "vaes256", "vaes512"}[w]
}

// Path is the name of the implementation in use: "vaes512", "vaes256", "aesni"
// or "plain".
func Path() string { return best.String() }

// Cipher is AES-XTS with one key. Its String never shows the key.
type Cipher struct {
	way    way
	rounds int
	s      schedules
	plain  *plain.Cipher // wayPlain only
}

// schedules are the expanded keys, in the order in which rounds take them.
type schedules struct {
	enc, dec, tweak [maxRoundKeys * BlockSize]byte
}

const maxRoundKeys = 15

// New makes a cipher from the two halves of an XTS key: 32 bytes are AES-128,
// 64 bytes AES-256, anything else is EINVAL. Equal halves are EINVAL too (FIPS
// 140-3 forbids them, and no key generator makes them).
func New(key []byte) (*Cipher, error) {
	if len(key) == 32 || len(key) == 64 {
		if h := len(key) / 2; string(key[:h]) == string(key[h:]) {
			return nil, fmt.Errorf("xts: the two halves of the key are equal: %w", abi.EINVAL)
		}
	}
	return newWay(key, best)
}

// newWay is New with a given implementation.
func newWay(key []byte, w way) (*Cipher, error) {
	c := &Cipher{way: w}
	switch len(key) {
	case 32:
		c.rounds = 10
	case 64:
		c.rounds = 14
	default:
		return nil, fmt.Errorf("xts: a key of %d bytes, not 32 or 64: %w", len(key), abi.EINVAL)
	}
	if w == wayPlain {
		p, err := plain.NewCipher(aes.NewCipher, key)
		if err != nil {
			return nil, fmt.Errorf("xts: %v: %w", err, abi.EINVAL)
		}
		c.plain = p
		return c, nil
	}
	c.s.expand(key, c.rounds)
	return c, nil
}

// String names cipher and implementation, and nothing secret.
func (c *Cipher) String() string {
	return fmt.Sprintf("aes-xts(%d bits, %v)", map[int]int{10: 256, 14: 512}[c.rounds], c.way)
}

// GoString is String, so that %#v shows no key either.
func (c *Cipher) GoString() string { return c.String() }

// Format is String for every verb, so that no verb shows the key.
func (c *Cipher) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// Wipe forgets the key; the cipher is of no use afterwards.
func (c *Cipher) Wipe() {
	clear(c.s.enc[:])
	clear(c.s.dec[:])
	clear(c.s.tweak[:])
	c.plain = nil
	c.rounds = 0
}

// Encrypt encrypts the sectors of size bytes in src to dst. The first one has
// the number first, each further one step more than the one before. dst may be
// src, but not overlap it otherwise.
//
// Preconditions: size is a positive multiple of BlockSize, len(src) one of
// size, len(dst) at least len(src).
func (c *Cipher) Encrypt(dst, src []byte, first, step uint64, size int) {
	c.crypt(dst, src, first, step, size, 0)
}

// Decrypt is the inverse of Encrypt.
func (c *Cipher) Decrypt(dst, src []byte, first, step uint64, size int) {
	c.crypt(dst, src, first, step, size, 1)
}

func (c *Cipher) crypt(dst, src []byte, first, step uint64, size, dec int) {
	switch {
	case c.rounds == 0:
		panic("xts: used after Wipe")
	case size <= 0 || size%BlockSize != 0 || len(src)%size != 0:
		panic("xts: not whole sectors")
	case len(dst) < len(src):
		panic("xts: dst is shorter than src")
	case len(src) == 0:
		return
	}
	dst = dst[:len(src)]
	if overlapOtherwise(dst, src) {
		panic("xts: dst and src overlap")
	}
	if c.way == wayPlain {
		for ; len(src) > 0; first += step {
			if dec != 0 {
				c.plain.Decrypt(dst[:size], src[:size], first)
			} else {
				c.plain.Encrypt(dst[:size], src[:size], first)
			}
			dst, src = dst[size:], src[size:]
		}
		return
	}
	var t [batch * BlockSize]byte
	for len(src) > 0 {
		n := min(len(src)/size, batch)
		for i := range n {
			binary.LittleEndian.PutUint64(t[i*BlockSize:], first)
			binary.LittleEndian.PutUint64(t[i*BlockSize+8:], 0)
			first += step
		}
		c.run(dst, src, &t, n, size, dec)
		dst, src = dst[n*size:], src[n*size:]
	}
}

// overlapOtherwise says that two areas of the same length share memory without
// being the same.
func overlapOtherwise(a, b []byte) bool {
	x, y := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return x != y && x < y+uintptr(len(b)) && y < x+uintptr(len(a))
}
