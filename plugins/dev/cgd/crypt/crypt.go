// Package crypt names the ciphers that encrypt disks, as cgd(4) and as LUKS
// (dm-crypt) name them, and makes them.
//
// A Cipher works on runs of whole sectors. What the tweak or the IV of a sector
// is made of is the number of the sector; two conventions exist:
//
//	cgd    sectors count from the start of the device, in sectors: step 1
//	LUKS   they count in units of 512 bytes whatever the sector: step size/512
//
// What goes wrong: a name that is not known, or a key of another length than
// the cipher's, is EINVAL with the name in the text.
//
// Locks: none; a Cipher may be used concurrently until it is wiped.
package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/xts"
)

// Cipher encrypts sectors. dst may be src; size is the length of a sector in
// bytes, a multiple of 16; first is the number of the first sector, each
// further one has step more.
type Cipher interface {
	Encrypt(dst, src []byte, first, step uint64, size int)
	Decrypt(dst, src []byte, first, step uint64, size int)
	// Wipe forgets the key, as far as the implementation holds it itself.
	Wipe()
	// String names the cipher, never the key.
	String() string
}

var (
	_ Cipher = (*xts.Cipher)(nil)
	_ Cipher = (*cbc)(nil)
)

// IV says how AES-CBC makes the IV of a sector from its number, a
// little-endian integer of 16 bytes.
type IV int

// The ways.
const (
	EncBlkno IV = iota // encrypted with the disk's own key (cgd's encblkno1)
	ESSIV              // encrypted with the SHA-256 of the disk's key (essiv:sha256)
	Plain64            // as it is (plain64)
	Plain              // its low 32 bits (plain)
)

func (v IV) String() string {
	return [...]string{"encblkno1", "essiv:sha256", "plain64", "plain"}[v]
}

// NewLUKS makes the cipher that LUKS calls so: "aes-xts-plain64",
// "aes-cbc-essiv:sha256", "aes-cbc-plain64", "aes-xts-plain", "aes-cbc-plain".
func NewLUKS(name string, key []byte) (Cipher, error) {
	alg, iv, _ := strings.Cut(strings.TrimPrefix(name, "aes-"), "-")
	switch {
	case !strings.HasPrefix(name, "aes-"):
	case alg == "xts" && iv == "plain64":
		return xts.New(key)
	case alg == "xts" && iv == "plain":
		c, err := xts.New(key)
		if err != nil {
			return nil, err
		}
		return plain32{c}, nil
	case alg == "cbc":
		for _, v := range []IV{ESSIV, Plain64, Plain} {
			if iv == v.String() {
				return NewCBC(v, key)
			}
		}
	}
	return nil, fmt.Errorf("cipher %.64q is not supported: %w", name, abi.EINVAL)
}

// NewCBC is AES-CBC with a key of 16, 24 or 32 bytes.
func NewCBC(v IV, key []byte) (Cipher, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("aes-cbc: a key of %d bytes: %w", len(key), abi.EINVAL)
	}
	c := &cbc{b: b, v: v, bits: len(key) * 8}
	switch v {
	case EncBlkno:
		c.iv = b
	case ESSIV:
		h := sha256.Sum256(key)
		c.iv, err = aes.NewCipher(h[:])
		clear(h[:])
		if err != nil {
			return nil, fmt.Errorf("aes-cbc: %v: %w", err, abi.EINVAL)
		}
	}
	return c, nil
}

// cbc is AES-CBC; iv encrypts sector numbers, nil if they stay as they are.
type cbc struct {
	b, iv cipher.Block
	v     IV
	bits  int
}

func (c *cbc) String() string { return fmt.Sprintf("aes-cbc-%v(%d bits)", c.v, c.bits) }

// Format is String for every verb, so that no verb shows what is inside.
func (c *cbc) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// Wipe drops the key; crypto/aes has no way to clear it.
func (c *cbc) Wipe() { c.b, c.iv = nil, nil }

func (c *cbc) ivOf(n uint64) (iv [aes.BlockSize]byte) {
	if c.v == Plain {
		n &= 0xffffffff
	}
	binary.LittleEndian.PutUint64(iv[:], n)
	if c.iv != nil {
		c.iv.Encrypt(iv[:], iv[:])
	}
	return iv
}

func (c *cbc) Encrypt(dst, src []byte, first, step uint64, size int) {
	for ; len(src) > 0; first += step {
		iv := c.ivOf(first)
		cipher.NewCBCEncrypter(c.b, iv[:]).CryptBlocks(dst[:size], src[:size])
		dst, src = dst[size:], src[size:]
	}
}

func (c *cbc) Decrypt(dst, src []byte, first, step uint64, size int) {
	for ; len(src) > 0; first += step {
		iv := c.ivOf(first)
		cipher.NewCBCDecrypter(c.b, iv[:]).CryptBlocks(dst[:size], src[:size])
		dst, src = dst[size:], src[size:]
	}
}

// plain32 is XTS whose sector numbers have 32 bits ("aes-xts-plain").
type plain32 struct{ *xts.Cipher }

func (c plain32) Encrypt(dst, src []byte, first, step uint64, size int) {
	c.each(c.Cipher.Encrypt, dst, src, first, step, size)
}

func (c plain32) Decrypt(dst, src []byte, first, step uint64, size int) {
	c.each(c.Cipher.Decrypt, dst, src, first, step, size)
}

func (c plain32) each(f func(dst, src []byte, first, step uint64, size int), dst, src []byte, first, step uint64, size int) {
	for o := 0; o < len(src); o += size {
		f(dst[o:o+size], src[o:o+size], first&0xffffffff, 0, size)
		first += step
	}
}
