package ext4

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the checksum of metadata: CRC-32C without the inversion at either
// end, going on from crc.
func crc32c(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// crcWord is crc32c of a number.
func crcWord(crc, n uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], n)
	return crc32c(crc, b[:])
}

// inodeSeed is what checksums of an inode's blocks begin with.
func (s *super) inodeSeed(ino, gen uint32) uint32 { return crcWord(crcWord(s.seed, ino), gen) }

var crc16Table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xa001
			} else {
				c >>= 1
			}
		}
		t[i] = c
	}
	return t
}()

// crc16 is the checksum of group descriptors of uninit_bg.
func crc16(crc uint16, p []byte) uint16 {
	for _, b := range p {
		crc = crc>>8 ^ crc16Table[byte(crc)^b]
	}
	return crc
}
