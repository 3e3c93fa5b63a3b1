package abi

// The layout of directory entries that getdents(2) answers is NetBSD's struct
// dirent (sys/dirent.h), little-endian: d_fileno in 8 bytes, d_reclen and
// d_namlen in 2 each, d_type in 1, then the name with a closing NUL, the whole
// padded with zeros to a multiple of 8. There is no cookie in it: where to go
// on is the descriptor's offset.

// direntHead is the length of a coded entry up to its name, in bytes.
const direntHead = 13

// DirentSize is the length of a coded entry with a name of n bytes.
func DirentSize(n int) int { return (direntHead + n + 1 + 7) &^ 7 }

// AppendDirent codes d and appends it to b. A name beyond NAME_MAX is cut.
func AppendDirent(b []byte, d *Dirent) []byte {
	name := d.Name[:min(len(d.Name), NAME_MAX)]
	size := DirentSize(len(name))
	b = le.AppendUint64(b, uint64(d.Fileid))
	b = le.AppendUint16(b, uint16(size))
	b = le.AppendUint16(b, uint16(len(name)))
	b = append(b, byte(TypeMode(d.Type)>>12))
	b = append(b, name...)
	for n := direntHead + len(name); n < size; n++ {
		b = append(b, 0)
	}
	return b
}

// ParseDirents decodes what AppendDirent made, any number of entries, and
// appends them to ds. Cookie stays 0. EINVAL for lengths that do not fit.
func ParseDirents(ds []Dirent, b []byte) ([]Dirent, error) {
	for len(b) > 0 {
		if len(b) < direntHead {
			return ds, EINVAL
		}
		size, n := int(le.Uint16(b[8:])), int(le.Uint16(b[10:]))
		if size > len(b) || n > NAME_MAX || size < direntHead+n+1 {
			return ds, EINVAL
		}
		ds = append(ds, Dirent{
			Fileid: Fileid(le.Uint64(b)),
			Type:   ModeType(uint32(b[12]) << 12),
			Name:   string(b[direntHead : direntHead+n]),
		})
		b = b[size:]
	}
	return ds, nil
}
