package abi

// A directory entry as getdents(2) gives it, struct dirent of NetBSD:
//
//	0  u64  file id
//	8  u16  length of the record, a multiple of 8
//	10 u16  length of the name
//	12 u8   type (DT_*)
//	13      name, NUL, and zeros up to the length of the record
const direntHead = 13

// DirentMaxSize is the length of the longest record that this kernel makes.
const DirentMaxSize = (direntHead + NAME_MAX + 1 + 7) &^ 7

// DirentSize is the length of the record for a name of n bytes.
func DirentSize(n int) int { return (direntHead + n + 1 + 7) &^ 7 }

// PutDirent codes d at the start of buf and answers the length of the record;
// 0 if it does not fit or the name is no legal one.
func PutDirent(buf []byte, d *Dirent) int {
	n := DirentSize(len(d.Name))
	if n > len(buf) || len(d.Name) == 0 || len(d.Name) > NAME_MAX {
		return 0
	}
	le.PutUint64(buf, uint64(d.Fileid))
	le.PutUint16(buf[8:], uint16(n))
	le.PutUint16(buf[10:], uint16(len(d.Name)))
	buf[12] = byte(TypeMode(d.Type) >> 12)
	clear(buf[direntHead+copy(buf[direntHead:n], d.Name) : n])
	return n
}

// ParseDirent decodes the record at the start of b and answers its length.
// Cookie is not part of a record and left 0. EINVAL if b does not start with a
// whole record.
func ParseDirent(b []byte, d *Dirent) (int, error) {
	if len(b) < direntHead+2 {
		return 0, EINVAL
	}
	n, l := int(le.Uint16(b[8:])), int(le.Uint16(b[10:]))
	if n > len(b) || n%8 != 0 || l == 0 || direntHead+l+1 > n {
		return 0, EINVAL
	}
	*d = Dirent{Fileid: Fileid(le.Uint64(b)), Type: ModeType(uint32(b[12]) << 12), Name: string(b[direntHead : direntHead+l])}
	return n, nil
}

// ParseDirents decodes all records in b, what one getdents answered. EINVAL.
func ParseDirents(b []byte) ([]Dirent, error) {
	var ds []Dirent
	for len(b) > 0 {
		var d Dirent
		n, err := ParseDirent(b, &d)
		if err != nil {
			return nil, err
		}
		ds = append(ds, d)
		b = b[n:]
	}
	return ds, nil
}
