package nbd

// Request is the head of a request; for CmdWrite Length bytes follow.
type Request struct {
	Flags  CmdFlags
	Cmd    Cmd
	Cookie uint64
	Offset uint64
	Length uint32
}

// Put writes the coded form to b, which has RequestSize bytes.
func (r *Request) Put(b []byte) {
	_ = b[RequestSize-1]
	be.PutUint32(b, MagicRequest)
	be.PutUint16(b[4:], uint16(r.Flags))
	be.PutUint16(b[6:], uint16(r.Cmd))
	be.PutUint64(b[8:], r.Cookie)
	be.PutUint64(b[16:], r.Offset)
	be.PutUint32(b[24:], r.Length)
}

// ParseRequest reads a request, RequestSize bytes.
func ParseRequest(b []byte) (Request, error) {
	if len(b) < RequestSize {
		return Request{}, bad("request of %d bytes", len(b))
	}
	if m := be.Uint32(b); m != MagicRequest {
		return Request{}, bad("request magic %#x", m)
	}
	return Request{
		Flags:  CmdFlags(be.Uint16(b[4:])),
		Cmd:    Cmd(be.Uint16(b[6:])),
		Cookie: be.Uint64(b[8:]),
		Offset: be.Uint64(b[16:]),
		Length: be.Uint32(b[24:]),
	}, nil
}

// Simple is a simple reply; after a successful CmdRead the data follows.
type Simple struct {
	Err    Error
	Cookie uint64
}

// Put writes the coded form to b, which has SimpleSize bytes.
func (s *Simple) Put(b []byte) {
	_ = b[SimpleSize-1]
	be.PutUint32(b, MagicSimple)
	be.PutUint32(b[4:], uint32(s.Err))
	be.PutUint64(b[8:], s.Cookie)
}

// Chunk is the head of a chunk of a structured reply; Len bytes follow.
type Chunk struct {
	Flags  uint16
	Type   ChunkType
	Cookie uint64
	Len    uint32
}

// Put writes the coded form to b, which has ChunkSize bytes.
func (c *Chunk) Put(b []byte) {
	_ = b[ChunkSize-1]
	be.PutUint32(b, MagicStructured)
	be.PutUint16(b[4:], c.Flags)
	be.PutUint16(b[6:], uint16(c.Type))
	be.PutUint64(b[8:], c.Cookie)
	be.PutUint32(b[16:], c.Len)
}

// Done reports whether c is the last one of its reply.
func (c *Chunk) Done() bool { return c.Flags&ChunkDone != 0 }

// ReplyHead is the head of a reply as a client finds it: simple or a chunk.
type ReplyHead struct {
	Structured bool
	Err        Error // of a simple reply
	Chunk      Chunk // of a structured one; Cookie is always set
}

// HeadSize is how many bytes the head has that begins with these four or more,
// or an error if nothing begins so.
func HeadSize(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, bad("reply of %d bytes", len(b))
	}
	switch m := be.Uint32(b); m {
	case MagicSimple:
		return SimpleSize, nil
	case MagicStructured:
		return ChunkSize, nil
	default:
		return 0, bad("reply magic %#x", m)
	}
}

// ParseHead reads the head of a reply, HeadSize bytes, and checks what can be
// checked without knowing the request.
func ParseHead(b []byte) (ReplyHead, error) {
	n, err := HeadSize(b)
	if err != nil {
		return ReplyHead{}, err
	}
	if len(b) < n {
		return ReplyHead{}, bad("reply of %d bytes", len(b))
	}
	if n == SimpleSize {
		return ReplyHead{Err: Error(be.Uint32(b[4:])), Chunk: Chunk{Cookie: be.Uint64(b[8:]), Flags: ChunkDone}}, nil
	}
	c := Chunk{
		Flags:  be.Uint16(b[4:]),
		Type:   ChunkType(be.Uint16(b[6:])),
		Cookie: be.Uint64(b[8:]),
		Len:    be.Uint32(b[16:]),
	}
	return ReplyHead{Structured: true, Chunk: c}, c.check()
}

// check holds the length against the type.
func (c *Chunk) check() error {
	ok := true
	switch c.Type {
	case ChunkNone:
		ok = c.Len == 0 && c.Done()
	case ChunkOffsetData:
		ok = c.Len > 8 && c.Len <= MaxPayload+8
	case ChunkOffsetHole:
		ok = c.Len == 12
	case ChunkBlockStatus:
		ok = c.Len >= 12 && (c.Len-4)%8 == 0 && c.Len <= 4+8<<20
	case ChunkError:
		ok = c.Len >= 6 && c.Len <= 6+MaxString
	case ChunkErrorOffset:
		ok = c.Len >= 14 && c.Len <= 14+MaxString
	default:
		ok = c.Type.IsErr() && c.Len >= 6 && c.Len <= 1<<16
	}
	if !ok {
		return bad("chunk of type %d with %d bytes", c.Type, c.Len)
	}
	return nil
}

// AppendError appends the payload of a ChunkError.
func AppendError(b []byte, e Error, text string) []byte {
	if len(text) > MaxString {
		text = text[:MaxString]
	}
	b = be.AppendUint32(b, uint32(e))
	b = be.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// ParseError reads the payload of any error chunk. The text is for people; it
// is whatever the server sent. An error that is 0 is EINVAL: there must be one.
func ParseError(b []byte) (Error, string, error) {
	c := cursor{b, true}
	e := Error(c.u32())
	text := string(c.take(uint32(c.u16())))
	if !c.ok || len(text) > MaxString {
		return 0, "", bad("error of %d bytes", len(b))
	}
	if e == 0 {
		e = EINVAL
	}
	return e, text, nil
}

// DataHeadSize is what stands before the data of a ChunkOffsetData.
const DataHeadSize = 8

// PutDataChunk writes head and offset of a ChunkOffsetData of n bytes of data
// to b, which has ChunkSize+DataHeadSize bytes.
func PutDataChunk(b []byte, flags uint16, cookie, off uint64, n uint32) {
	c := Chunk{flags, ChunkOffsetData, cookie, DataHeadSize + n}
	c.Put(b)
	be.PutUint64(b[ChunkSize:], off)
}

// HoleChunkSize is the size of a whole ChunkOffsetHole.
const HoleChunkSize = ChunkSize + 12

// PutHoleChunk writes a ChunkOffsetHole to b, which has HoleChunkSize bytes.
func PutHoleChunk(b []byte, flags uint16, cookie, off uint64, n uint32) {
	c := Chunk{flags, ChunkOffsetHole, cookie, 12}
	c.Put(b)
	be.PutUint64(b[ChunkSize:], off)
	be.PutUint32(b[ChunkSize+8:], n)
}

// Extent is one descriptor of a ChunkBlockStatus.
type Extent struct {
	Len   uint32
	Flags uint32
}

// AppendBlockStatus appends the payload of a ChunkBlockStatus.
func AppendBlockStatus(b []byte, id uint32, ext []Extent) []byte {
	b = be.AppendUint32(b, id)
	for _, e := range ext {
		b = be.AppendUint32(b, e.Len)
		b = be.AppendUint32(b, e.Flags)
	}
	return b
}

// ParseBlockStatus reads the payload of a ChunkBlockStatus.
func ParseBlockStatus(b []byte) (id uint32, ext []Extent, err error) {
	if len(b) < 12 || (len(b)-4)%8 != 0 || len(b) > 4+8<<20 {
		return 0, nil, bad("block status of %d bytes", len(b))
	}
	id = be.Uint32(b)
	ext = make([]Extent, 0, (len(b)-4)/8)
	for p := b[4:]; len(p) > 0; p = p[8:] {
		e := Extent{be.Uint32(p), be.Uint32(p[4:])}
		if e.Len == 0 {
			return 0, nil, bad("block status of an empty extent")
		}
		ext = append(ext, e)
	}
	return id, ext, nil
}

// ParseOffset reads the offset at the beginning of the payload of a
// ChunkOffsetData or ChunkOffsetHole.
func ParseOffset(b []byte) uint64 { return be.Uint64(b) }

// ParseHole reads the payload of a ChunkOffsetHole, 12 bytes.
func ParseHole(b []byte) (off uint64, n uint32, err error) {
	if len(b) != 12 {
		return 0, 0, bad("hole of %d bytes", len(b))
	}
	if n = be.Uint32(b[8:]); n == 0 {
		return 0, 0, bad("empty hole")
	}
	return be.Uint64(b), n, nil
}
