package abi

// Iov is a list of memory areas that a transfer fills or drains in order
// (struct iovec). The areas may lie in memory shared with another process:
// bytes in them can change while they are read, so copy before trusting.
type Iov [][]byte

// IovOf is the Iov of one area.
func IovOf(p []byte) Iov { return Iov{p} }

// Len is the number of bytes in v.
func (v Iov) Len() int {
	n := 0
	for _, p := range v {
		n += len(p)
	}
	return n
}

// CopyIn fills v from src and returns how many bytes fitted.
func (v Iov) CopyIn(src []byte) int {
	n := 0
	for _, p := range v {
		if n == len(src) {
			break
		}
		n += copy(p, src[n:])
	}
	return n
}

// CopyOut drains v into dst and returns how many bytes there were.
func (v Iov) CopyOut(dst []byte) int {
	n := 0
	for _, p := range v {
		if n == len(dst) {
			break
		}
		n += copy(dst[n:], p)
	}
	return n
}

// Zero clears n bytes of v from offset off on.
func (v Iov) Zero(off, n int) {
	for _, p := range v {
		if off >= len(p) {
			off -= len(p)
			continue
		}
		q := p[off:]
		if len(q) > n {
			q = q[:n]
		}
		clear(q)
		n -= len(q)
		off = 0
		if n == 0 {
			return
		}
	}
}

// Slice is the part of v from offset off on, n bytes at most.
func (v Iov) Slice(off, n int) Iov {
	var r Iov
	for _, p := range v {
		if n <= 0 {
			break
		}
		if off >= len(p) {
			off -= len(p)
			continue
		}
		q := p[off:]
		off = 0
		if len(q) > n {
			q = q[:n]
		}
		n -= len(q)
		r = append(r, q)
	}
	return r
}
