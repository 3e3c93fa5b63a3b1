package abi

// CmsgHdrLen is the length of struct cmsghdr as it stands in front of the data
// of a control message: length (4), level (4), type (4) and padding to 8, in
// bytes. Every message begins at a multiple of 8.
const CmsgHdrLen = 16

// Cmsg is one control message of sendmsg(2) and recvmsg(2).
type Cmsg struct {
	Level, Type int32
	Data        []byte
}

// CmsgSpace is the room that a control message with n bytes of data takes, in
// bytes (CMSG_SPACE).
func CmsgSpace(n int) int { return CmsgHdrLen + (n+7)&^7 }

// AppendCmsg appends a control message in NetBSD's layout. b begins at a
// control message.
func AppendCmsg(b []byte, level, typ int32, data []byte) []byte {
	b = le.AppendUint32(b, uint32(CmsgHdrLen+len(data)))
	b = le.AppendUint32(b, uint32(level))
	b = le.AppendUint32(b, uint32(typ))
	b = append(b, 0, 0, 0, 0)
	b = append(b, data...)
	return append(b, make([]byte, (8-len(data)%8)%8)...)
}

// ParseCmsgs reads what AppendCmsg wrote; Data aliases b. The padding of the
// last message may be missing. EINVAL for lengths that do not fit.
func ParseCmsgs(b []byte) ([]Cmsg, error) {
	var ms []Cmsg
	for len(b) > 0 {
		if len(b) < CmsgHdrLen {
			return nil, EINVAL
		}
		n := le.Uint32(b)
		if n < CmsgHdrLen || uint64(n) > uint64(len(b)) {
			return nil, EINVAL
		}
		ms = append(ms, Cmsg{Level: int32(le.Uint32(b[4:])), Type: int32(le.Uint32(b[8:])), Data: b[CmsgHdrLen:n]})
		b = b[min(len(b), (int(n)+7)&^7):]
	}
	return ms, nil
}

// AppendRights appends an SCM_RIGHTS message with descriptors.
func AppendRights(b []byte, fds ...int) []byte {
	d := make([]byte, 0, 4*len(fds))
	for _, fd := range fds {
		d = le.AppendUint32(d, uint32(int32(fd)))
	}
	return AppendCmsg(b, SOL_SOCKET, SCM_RIGHTS, d)
}

// Rights are the descriptors of an SCM_RIGHTS message. EINVAL if it is none or
// no whole number of them.
func (m *Cmsg) Rights() ([]int, error) {
	if m.Level != SOL_SOCKET || m.Type != SCM_RIGHTS || len(m.Data)%4 != 0 {
		return nil, EINVAL
	}
	fds := make([]int, len(m.Data)/4)
	for i := range fds {
		fds[i] = int(int32(le.Uint32(m.Data[4*i:])))
	}
	return fds, nil
}

// Sockcred says who sent a message (struct sockcred, SCM_CREDS).
type Sockcred struct {
	Pid       int32
	Uid, Euid uint32
	Gid, Egid uint32
	Groups    []uint32
}

// AppendSockcred appends the coded form of s: 24 bytes and 4 for every group.
func AppendSockcred(b []byte, s *Sockcred) []byte {
	for _, v := range [...]uint32{uint32(s.Pid), s.Uid, s.Euid, s.Gid, s.Egid, uint32(len(s.Groups))} {
		b = le.AppendUint32(b, v)
	}
	for _, g := range s.Groups {
		b = le.AppendUint32(b, g)
	}
	return b
}

// ParseSockcred reads what AppendSockcred wrote. EINVAL for a length that does
// not fit.
func ParseSockcred(b []byte) (Sockcred, error) {
	if len(b) < 24 || uint64(len(b)-24) != 4*uint64(le.Uint32(b[20:])) {
		return Sockcred{}, EINVAL
	}
	s := Sockcred{Pid: int32(le.Uint32(b)), Uid: le.Uint32(b[4:]), Euid: le.Uint32(b[8:]), Gid: le.Uint32(b[12:]), Egid: le.Uint32(b[16:])}
	for b = b[24:]; len(b) > 0; b = b[4:] {
		s.Groups = append(s.Groups, le.Uint32(b))
	}
	return s, nil
}

// Unpcbid says who is at the other end of an AF_LOCAL socket (struct unpcbid,
// LOCAL_PEEREID).
type Unpcbid struct {
	Pid        int32
	Euid, Egid uint32
}

// UnpcbidSize is the length of a coded Unpcbid, in bytes.
const UnpcbidSize = 12

// AppendUnpcbid appends the coded form of u.
func AppendUnpcbid(b []byte, u Unpcbid) []byte {
	b = le.AppendUint32(b, uint32(u.Pid))
	b = le.AppendUint32(b, u.Euid)
	return le.AppendUint32(b, u.Egid)
}

// ParseUnpcbid reads what AppendUnpcbid wrote. EINVAL if b is too short.
func ParseUnpcbid(b []byte) (Unpcbid, error) {
	if len(b) < UnpcbidSize {
		return Unpcbid{}, EINVAL
	}
	return Unpcbid{Pid: int32(le.Uint32(b)), Euid: le.Uint32(b[4:]), Egid: le.Uint32(b[8:])}, nil
}

// Flock is a record lock (struct flock): Len 0 means up to any end of the
// file, a negative one the bytes before Start. Of F_GETLK, Pid is who holds it,
// -1 for a lock of flock(2).
type Flock struct {
	Start, Len int64
	Pid        int32
	Type       int16 // F_RDLCK, F_WRLCK, F_UNLCK
	Whence     int16 // SEEK_SET, SEEK_CUR, SEEK_END
}

// FlockSize is the length of a coded Flock, in bytes.
const FlockSize = 24

// AppendFlock appends the coded form of f.
func AppendFlock(b []byte, f *Flock) []byte {
	b = le.AppendUint64(b, uint64(f.Start))
	b = le.AppendUint64(b, uint64(f.Len))
	b = le.AppendUint32(b, uint32(f.Pid))
	b = le.AppendUint16(b, uint16(f.Type))
	return le.AppendUint16(b, uint16(f.Whence))
}

// ParseFlock reads what AppendFlock wrote. EINVAL if b is too short.
func ParseFlock(b []byte) (Flock, error) {
	if len(b) < FlockSize {
		return Flock{}, EINVAL
	}
	return Flock{Start: int64(le.Uint64(b)), Len: int64(le.Uint64(b[8:])), Pid: int32(le.Uint32(b[16:])),
		Type: int16(le.Uint16(b[20:])), Whence: int16(le.Uint16(b[22:]))}, nil
}
