package cgd

import "hash/crc32"

func crcOf(p []byte) uint32 { return crc32.ChecksumIEEE(p) }
