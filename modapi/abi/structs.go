package abi

import "encoding/binary"

// Stat is struct stat: what stat(2) answers.
type Stat struct {
	Vattr
	Dev Fsid
}

// VattrSize is the length of a coded Vattr, StatSize that of a coded Stat,
// TimesSize that of the pair of times that utimensat(2) takes.
const (
	VattrSize = 128
	StatSize  = VattrSize + 8
	TimesSize = 32
)

var le = binary.LittleEndian

// AppendVattr appends the coded form of v: 128 bytes, all little-endian.
func AppendVattr(b []byte, v *Vattr) []byte {
	b = le.AppendUint32(b, uint32(v.Type))
	b = le.AppendUint32(b, v.Mode)
	b = le.AppendUint32(b, v.Nlink)
	b = le.AppendUint32(b, v.Uid)
	b = le.AppendUint32(b, v.Gid)
	b = le.AppendUint32(b, v.Flags)
	b = le.AppendUint64(b, uint64(v.Rdev))
	b = le.AppendUint64(b, uint64(v.Size))
	b = le.AppendUint64(b, uint64(v.Bytes))
	b = le.AppendUint32(b, v.Blksize)
	b = le.AppendUint32(b, uint32(v.Gen))
	b = le.AppendUint64(b, uint64(v.Fileid))
	for _, t := range [...]Timespec{v.Atime, v.Mtime, v.Ctime, v.Btime} {
		b = AppendTimespec(b, t)
	}
	return b
}

// ParseVattr reads what AppendVattr wrote; b has at least VattrSize bytes
// (EINVAL). Values are not judged.
func ParseVattr(b []byte, v *Vattr) error {
	if len(b) < VattrSize {
		return EINVAL
	}
	v.Type = VType(min(le.Uint32(b), uint32(VBAD)))
	v.Mode = le.Uint32(b[4:])
	v.Nlink = le.Uint32(b[8:])
	v.Uid = le.Uint32(b[12:])
	v.Gid = le.Uint32(b[16:])
	v.Flags = le.Uint32(b[20:])
	v.Rdev = Dev(le.Uint64(b[24:]))
	v.Size = int64(le.Uint64(b[32:]))
	v.Bytes = int64(le.Uint64(b[40:]))
	v.Blksize = le.Uint32(b[48:])
	v.Gen = Gen(le.Uint32(b[52:]))
	v.Fileid = Fileid(le.Uint64(b[56:]))
	for i, t := range [...]*Timespec{&v.Atime, &v.Mtime, &v.Ctime, &v.Btime} {
		*t = parseTimespec(b[64+16*i:])
	}
	return nil
}

// AppendTimespec appends seconds and nanoseconds, 8 bytes each.
func AppendTimespec(b []byte, t Timespec) []byte {
	b = le.AppendUint64(b, uint64(t.Sec))
	return le.AppendUint64(b, uint64(int64(t.Nsec)))
}

// ParseTimespec reads what AppendTimespec wrote: 16 bytes. EINVAL if there are
// fewer.
func ParseTimespec(b []byte) (Timespec, error) {
	if len(b) < 16 {
		return Timespec{}, EINVAL
	}
	return parseTimespec(b), nil
}

func parseTimespec(b []byte) Timespec {
	return Timespec{Sec: int64(le.Uint64(b)), Nsec: int32(le.Uint64(b[8:]))}
}

// AppendStat appends the coded form of s: a Vattr and the file system's id.
func AppendStat(b []byte, s *Stat) []byte {
	return le.AppendUint64(AppendVattr(b, &s.Vattr), uint64(s.Dev))
}

// ParseStat reads what AppendStat wrote. EINVAL if b is too short.
func ParseStat(b []byte, s *Stat) error {
	if len(b) < StatSize {
		return EINVAL
	}
	s.Dev = Fsid(le.Uint64(b[VattrSize:]))
	return ParseVattr(b, &s.Vattr)
}

// AppendStatvfs appends the coded form of s: ten numbers, then the three
// texts, each with a length of two bytes.
func AppendStatvfs(b []byte, s *Statvfs) []byte {
	for _, n := range [...]uint64{s.Flag, s.Bsize, s.Frsize, s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree, s.Namemax, uint64(s.Fsid)} {
		b = le.AppendUint64(b, n)
	}
	for _, t := range [...]string{s.FSType, s.From, s.On} {
		t = t[:min(len(t), PATH_MAX)]
		b = le.AppendUint16(b, uint16(len(t)))
		b = append(b, t...)
	}
	return b
}

// ParseStatvfs reads one coded Statvfs and answers how many bytes it took.
// EINVAL if b is too short.
func ParseStatvfs(b []byte, s *Statvfs) (int, error) {
	if len(b) < 80 {
		return 0, EINVAL
	}
	n := 0
	num := func() uint64 { v := le.Uint64(b[n:]); n += 8; return v }
	*s = Statvfs{Flag: num(), Bsize: num(), Frsize: num(), Blocks: num(), Bfree: num(), Bavail: num(),
		Files: num(), Ffree: num(), Namemax: num(), Fsid: Fsid(num())}
	for _, t := range [...]*string{&s.FSType, &s.From, &s.On} {
		if len(b) < n+2 {
			return 0, EINVAL
		}
		l := int(le.Uint16(b[n:]))
		n += 2
		if len(b) < n+l {
			return 0, EINVAL
		}
		*t = string(b[n : n+l])
		n += l
	}
	return n, nil
}
