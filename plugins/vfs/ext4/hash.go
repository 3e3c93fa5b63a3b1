package ext4

import (
	"fmt"
	"math/bits"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Versions of the hash of names.
const (
	hashLegacy   = 0
	hashHalfMD4  = 1
	hashTEA      = 2
	hashUnsigned = 3 // added to the three
	hashSipHash  = 6
	hashEOF      = 0x7fffffff // in the order of hashes: the end, which no name has
)

// hashOf is the hash of a name that orders an indexed directory, even, and a
// second one. EIO: the version is not known.
func (s *super) hashOf(version uint8, name []byte) (uint32, uint32, error) {
	signed := true
	if version >= hashUnsigned && version < 2*hashUnsigned {
		signed = false
		version -= hashUnsigned
	}
	seed := s.hashSeed
	if seed == [4]uint32{} {
		seed = [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	}
	var h, minor uint32
	switch version {
	case hashLegacy:
		h = legacyHash(name, signed)
	case hashHalfMD4:
		for p := name; ; p = p[32:] {
			var in [8]uint32
			nameWords(p, in[:], signed)
			halfMD4(&seed, &in)
			if len(p) <= 32 {
				break
			}
		}
		h, minor = seed[1], seed[2]
	case hashTEA:
		for p := name; ; p = p[16:] {
			var in [4]uint32
			nameWords(p, in[:], signed)
			tea(&seed, &in)
			if len(p) <= 16 {
				break
			}
		}
		h, minor = seed[0], seed[1]
	default:
		return 0, 0, fmt.Errorf("hash version %d: %w", version, abi.EIO)
	}
	h &^= 1
	if h == hashEOF<<1 {
		h = (hashEOF - 1) << 1
	}
	return h, minor, nil
}

func legacyHash(name []byte, signed bool) uint32 {
	h0, h1 := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for _, b := range name {
		c := uint32(b)
		if signed {
			c = uint32(int32(int8(b)))
		}
		h := h1 + (h0 ^ c*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7fffffff
		}
		h1, h0 = h0, h
	}
	return h0 << 1
}

// nameWords makes numbers of a part of a name, filled up with its length.
func nameWords(p []byte, out []uint32, signed bool) {
	pad := uint32(len(p)) | uint32(len(p))<<8
	pad |= pad << 16
	val := pad
	n := min(len(p), 4*len(out))
	j := 0
	for i := range n {
		c := uint32(p[i])
		if signed {
			c = uint32(int32(int8(p[i])))
		}
		val = c + val<<8
		if i%4 == 3 {
			out[j] = val
			j++
			val = pad
		}
	}
	if j < len(out) {
		out[j] = val
		j++
	}
	for ; j < len(out); j++ {
		out[j] = pad
	}
}

func halfMD4(h *[4]uint32, in *[8]uint32) {
	a, b, c, d := h[0], h[1], h[2], h[3]
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	x := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	round := func(fn func(x, y, z uint32) uint32, k uint32, order [8]int, shift [4]int) {
		for i := 0; i < 8; i += 4 {
			a = bits.RotateLeft32(a+fn(b, c, d)+in[order[i]]+k, shift[0])
			d = bits.RotateLeft32(d+fn(a, b, c)+in[order[i+1]]+k, shift[1])
			c = bits.RotateLeft32(c+fn(d, a, b)+in[order[i+2]]+k, shift[2])
			b = bits.RotateLeft32(b+fn(c, d, a)+in[order[i+3]]+k, shift[3])
		}
	}
	round(f, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19})
	round(g, 0x5a827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13})
	round(x, 0x6ed9eba1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15})
	h[0] += a
	h[1] += b
	h[2] += c
	h[3] += d
}

func tea(h *[4]uint32, in *[4]uint32) {
	b0, b1 := h[0], h[1]
	sum := uint32(0)
	for range 16 {
		sum += 0x9e3779b9
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	h[0] += b0
	h[1] += b1
}
