package xts

import (
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// best is the fastest implementation that this CPU has.
var best = choose()

// choose looks at the CPU. x/sys/cpu says so only of registers that the
// operating system saves.
func choose() way {
	x := &cpu.X86
	switch {
	case !x.HasAES || !x.HasSSE41:
		return wayPlain
	case x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ && x.HasAVX512F && x.HasAVX512VL && x.HasAVX512BW && x.HasAVX512DQ:
		return wayVAES512
	case hasVAES256():
		return wayVAES256
	}
	return wayNI
}

// hasVAES256 says whether VAES and VPCLMULQDQ work on AVX2 registers: x/sys/cpu
// shows the two bits (CPUID leaf 7, ECX 9 and 10) only together with AVX-512.
func hasVAES256() bool {
	if !cpu.X86.HasAVX2 {
		return false
	}
	const vaes, vpclmulqdq = 1 << 9, 1 << 10
	return cpuid7()&(vaes|vpclmulqdq) == vaes|vpclmulqdq
}

// ways are the implementations that this CPU can run.
func ways() []way {
	w := []way{wayPlain}
	if cpu.X86.HasAES && cpu.X86.HasSSE41 {
		w = append(w, wayNI)
	}
	if len(w) == 2 && hasVAES256() {
		w = append(w, wayVAES256)
	}
	if best == wayVAES512 {
		w = append(w, wayVAES512)
	}
	return w
}

// cpuid7 is ECX of CPUID leaf 7.
func cpuid7() uint32

// subWord is SubWord of FIPS 197: the S-box on each byte of w.
func subWord(w uint32) uint32

// invMix is InvMixColumns of FIPS 197 on one round key.
//
//go:noescape
func invMix(dst, src *byte)

// ecb encrypts n blocks at t in place with the schedule k.
//
//go:noescape
func ecb(k *byte, rounds int, t *byte, n int)

// xtsNI does n sectors of so many blocks; t has their encrypted tweaks, k is
// the schedule of the direction.
//
//go:noescape
func xtsNI(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)

// xtsVAES256 is xtsNI in AVX2 registers.
//
//go:noescape
func xtsVAES256(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)

// xtsVAES512 is xtsNI in AVX-512 registers.
//
//go:noescape
func xtsVAES512(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)

// run does n sectors, n <= batch. t has their numbers, and is scratch.
func (c *Cipher) run(dst, src []byte, t *[batch * BlockSize]byte, n, size, dec int) {
	ecb(&c.s.tweak[0], c.rounds, &t[0], n)
	k := &c.s.enc[0]
	if dec != 0 {
		k = &c.s.dec[0]
	}
	switch c.way {
	case wayVAES512:
		xtsVAES512(k, c.rounds, dec, &dst[0], &src[0], size/BlockSize, &t[0], n)
	case wayVAES256:
		xtsVAES256(k, c.rounds, dec, &dst[0], &src[0], size/BlockSize, &t[0], n)
	default:
		xtsNI(k, c.rounds, dec, &dst[0], &src[0], size/BlockSize, &t[0], n)
	}
}

// expand makes the schedules of both halves of key.
func (s *schedules) expand(key []byte, rounds int) {
	h := len(key) / 2
	expand(s.enc[:], key[:h], rounds)
	expand(s.tweak[:], key[h:], rounds)
	// The equivalent inverse cipher (FIPS 197, 5.3.5): the keys in reverse, the
	// inner ones through InvMixColumns.
	copy(s.dec[:BlockSize], s.enc[rounds*BlockSize:])
	for i := 1; i < rounds; i++ {
		invMix(&s.dec[i*BlockSize], &s.enc[(rounds-i)*BlockSize])
	}
	copy(s.dec[rounds*BlockSize:], s.enc[:BlockSize])
}

// expand is KeyExpansion of FIPS 197, 5.2.
func expand(out, key []byte, rounds int) {
	copy(out, key)
	nk, le := len(key)/4, binary.LittleEndian
	rcon := uint32(1)
	for i := nk; i < 4*(rounds+1); i++ {
		w := le.Uint32(out[4*i-4:])
		switch {
		case i%nk == 0:
			w = subWord(w>>8|w<<24) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case nk > 6 && i%nk == 4:
			w = subWord(w)
		}
		le.PutUint32(out[4*i:], w^le.Uint32(out[4*(i-nk):]))
	}
}
