package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The LUKS2 binary header: specification 1.1.1, 2.1. Big-endian.
const (
	magic1st = "LUKS\xba\xbe"
	magic2nd = "SKUL\xba\xbe"
	binSize  = 4096
	csumOff  = 448
	csumLen  = 64
)

// hdrSizes are all sizes that a header can have, binary and JSON together; the
// second copy begins behind the first, hence at one of them.
var hdrSizes = []int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}

// Bounds of what JSON may hold.
const (
	maxSlots    = 32
	maxDigests  = 32
	maxSegments = 32
	maxSalt     = 1024 // bytes
	maxDigest   = 64   // bytes
)

// raw2 is one good copy of a header.
type raw2 struct {
	size        int64
	seqid       uint64
	uuid, label string
	json        []byte
}

// readCopy reads the copy at off. Its error says what is wrong with it.
func readCopy(dev io.ReaderAt, size, off int64, magic string) (*raw2, error) {
	p := make([]byte, binSize)
	if err := readFull(dev, size, p, off); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(p[:6]) != magic {
		return nil, fmt.Errorf("no magic number: %w", abi.EFTYPE)
	}
	if v := be.Uint16(p[6:]); v != 2 {
		return nil, fmt.Errorf("version %d: %w", v, abi.EIO)
	}
	r := &raw2{seqid: be.Uint64(p[16:]), label: text(p[24:72]), uuid: text(p[168:208])}
	n := be.Uint64(p[8:])
	if n > 4<<20 || !slices.Contains(hdrSizes, int64(n)) {
		return nil, fmt.Errorf("header of %d bytes: %w", n, abi.EIO)
	}
	r.size = int64(n)
	if at := be.Uint64(p[256:]); at != uint64(off) {
		return nil, fmt.Errorf("header of offset %d at %d: %w", at, off, abi.EIO)
	}
	if off != 0 && off != r.size {
		return nil, fmt.Errorf("second header of %d bytes at %d: %w", r.size, off, abi.EIO)
	}
	if alg := text(p[72:104]); alg != "sha256" {
		return nil, fmt.Errorf("checksum %.32q: %w", alg, abi.EIO)
	}
	all := make([]byte, r.size)
	if err := readFull(dev, size, all, off); err != nil {
		return nil, err
	}
	want := append([]byte(nil), all[csumOff:csumOff+sha256.Size]...)
	clear(all[csumOff : csumOff+csumLen])
	if sum := sha256.Sum256(all); !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("checksum is wrong: %w", abi.EIO)
	}
	r.json, _, _ = bytes.Cut(all[binSize:], []byte{0})
	return r, nil
}

func (h *Header) read2(dev io.ReaderAt) error {
	first, err1 := readCopy(dev, h.size, 0, magic1st)
	var second *raw2
	var err2 error
	if first != nil {
		second, err2 = readCopy(dev, h.size, first.size, magic2nd)
	} else {
		for _, off := range hdrSizes {
			r, err := readCopy(dev, h.size, off, magic2nd)
			if r != nil && (second == nil || r.seqid > second.seqid) {
				second, err2 = r, nil
			} else if r == nil && second == nil && (err2 == nil || abi.ErrnoOf(err) != abi.EFTYPE) {
				err2 = err
			}
		}
	}
	r := first
	switch {
	case first == nil && second == nil:
		if abi.ErrnoOf(err1) == abi.EFTYPE {
			return fmt.Errorf("no LUKS header: %w", abi.EFTYPE)
		}
		return fmt.Errorf("both LUKS2 headers are damaged (%v; %v): %w", err1, err2, abi.EIO)
	case first == nil:
		r = second
		h.note("the first LUKS2 header is damaged (%v): the second one is used", err1)
	case second == nil:
		h.note("the second LUKS2 header is damaged (%v)", err2)
	case second.seqid > first.seqid:
		r = second
		h.note("the second LUKS2 header is newer (%d, not %d) and used", second.seqid, first.seqid)
	case second.seqid < first.seqid:
		h.note("the second LUKS2 header is older (%d, not %d)", second.seqid, first.seqid)
	}
	h.Version, h.UUID, h.Label = 2, r.uuid, r.label
	if err := h.parse2(r); err != nil {
		return fmt.Errorf("LUKS2: %w", err)
	}
	return nil
}

// num is an integer that JSON has as a string of digits.
type num uint64

func (n *num) UnmarshalJSON(p []byte) error {
	if len(p) < 3 || p[0] != '"' || p[len(p)-1] != '"' {
		return fmt.Errorf("%.32q is no number in a string", p)
	}
	v, err := strconv.ParseUint(string(p[1:len(p)-1]), 10, 63)
	*n = num(v)
	return err
}

type json2 struct {
	Keyslots map[string]json.RawMessage `json:"keyslots"`
	Segments map[string]json.RawMessage `json:"segments"`
	Digests  map[string]json.RawMessage `json:"digests"`
	Config   struct {
		JSONSize     num `json:"json_size"`
		KeyslotsSize num `json:"keyslots_size"`
		Requirements struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	} `json:"config"`
}

type slot2 struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	Area    struct {
		Type       string `json:"type"`
		Offset     num    `json:"offset"`
		Size       num    `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"`
	} `json:"area"`
	KDF struct {
		Type       string `json:"type"`
		Salt       []byte `json:"salt"`
		Hash       string `json:"hash"`
		Iterations uint64 `json:"iterations"`
		Time       uint64 `json:"time"`
		Memory     uint64 `json:"memory"`
		CPUs       int    `json:"cpus"`
	} `json:"kdf"`
	AF struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Priority *int `json:"priority"`
}

type segment2 struct {
	Type       string          `json:"type"`
	Offset     num             `json:"offset"`
	Size       string          `json:"size"`
	IVTweak    num             `json:"iv_tweak"`
	Encryption string          `json:"encryption"`
	SectorSize int             `json:"sector_size"`
	Integrity  json.RawMessage `json:"integrity"`
	Flags      []string        `json:"flags"`
}

type digest2 struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
	Hash       string   `json:"hash"`
	Iterations uint64   `json:"iterations"`
}

// parse2 takes what is needed out of the JSON area.
func (h *Header) parse2(r *raw2) error {
	var j json2
	if err := json.Unmarshal(r.json, &j); err != nil {
		return damaged("JSON", err)
	}
	if int64(j.Config.JSONSize) != r.size-binSize {
		return damaged("config", fmt.Errorf("JSON of %d bytes in a header of %d", j.Config.JSONSize, r.size))
	}
	if req := j.Config.Requirements.Mandatory; len(req) > 0 {
		return fmt.Errorf("requires %.128q, which is not supported: %w", strings.Join(req, ", "), abi.EINVAL)
	}
	if len(j.Keyslots) > maxSlots || len(j.Digests) > maxDigests || len(j.Segments) > maxSegments {
		return damaged("JSON", fmt.Errorf("%d keyslots, %d digests, %d segments", len(j.Keyslots), len(j.Digests), len(j.Segments)))
	}
	segID, err := h.parseSegments(j.Segments)
	if err != nil {
		return err
	}
	for _, id := range keys(j.Digests) {
		var d digest2
		if err := json.Unmarshal(j.Digests[id], &d); err != nil {
			return damaged("digest "+id, err)
		}
		if !slices.Contains(d.Segments, segID) {
			continue
		}
		x := digest{hash: d.Hash, salt: d.Salt, want: d.Digest, iter: d.Iterations}
		switch {
		case d.Type != "pbkdf2":
			x.err = fmt.Errorf("a digest of type %.32q is not supported: %w", d.Type, abi.EINVAL)
		case len(d.Salt) > maxSalt || len(d.Digest) < 16 || len(d.Digest) > maxDigest:
			return damaged("digest "+id, fmt.Errorf("%d bytes of salt, %d of digest", len(d.Salt), len(d.Digest)))
		}
		for _, s := range d.Keyslots {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || n >= maxSlots {
				return damaged("digest "+id, fmt.Errorf("keyslot %.32q", s))
			}
			x.slots = append(x.slots, n)
		}
		h.digests = append(h.digests, x)
	}
	// Key material lies behind the two headers and before the data.
	low := 2 * r.size
	high := low + int64(min(j.Config.KeyslotsSize, 1<<40))
	if h.seg.off < high {
		return damaged("segment "+segID, fmt.Errorf("data at %d, and key material reaches up to %d", h.seg.off, high))
	}
	for _, id := range keys(j.Keyslots) {
		n, err := strconv.Atoi(id)
		if err != nil || n < 0 || n >= maxSlots || strconv.Itoa(n) != id {
			return damaged("keyslots", fmt.Errorf("number %.32q", id))
		}
		s := parseSlot(n, j.Keyslots[id], low, high)
		if s.Err == nil && h.digestOf(n) == nil {
			continue // of no segment: a key kept for later
		}
		h.Slots = append(h.Slots, s)
	}
	return nil
}

// parseSegments takes the one segment that holds data, and answers its name.
func (h *Header) parseSegments(m map[string]json.RawMessage) (string, error) {
	found := ""
	for _, id := range keys(m) {
		var s segment2
		if err := json.Unmarshal(m[id], &s); err != nil {
			return "", damaged("segment "+id, err)
		}
		if slices.ContainsFunc(s.Flags, func(f string) bool { return strings.HasPrefix(f, "backup-") }) {
			continue
		}
		switch {
		case found != "":
			return "", fmt.Errorf("several segments (a reencryption that has not ended) are not supported: %w", abi.EINVAL)
		case s.Type != "crypt":
			return "", fmt.Errorf("a segment of type %.32q is not supported: %w", s.Type, abi.EINVAL)
		case len(s.Integrity) > 0 && string(s.Integrity) != "null":
			return "", fmt.Errorf("a segment with integrity is not supported: %w", abi.EINVAL)
		case len(s.Flags) > 0:
			return "", fmt.Errorf("a segment with the flag %.32q is not supported: %w", s.Flags[0], abi.EINVAL)
		}
		h.seg = segment{off: int64(s.Offset), cipher: s.Encryption, sectorSize: s.SectorSize, ivTweak: uint64(s.IVTweak)}
		if s.Size != "dynamic" {
			n, err := strconv.ParseInt(s.Size, 10, 64)
			if err != nil || n <= 0 {
				return "", damaged("segment "+id, fmt.Errorf("size %.32q", s.Size))
			}
			h.seg.size = n
		}
		if h.seg.off == 0 {
			return "", fmt.Errorf("a detached header is not supported: %w", abi.EINVAL)
		}
		found = id
	}
	if found == "" {
		return "", damaged("segments", fmt.Errorf("there is none"))
	}
	return found, nil
}

// parseSlot takes a keyslot; what is wrong with it is its Err, since another
// slot may do. Its area must lie from low to high.
func parseSlot(id int, raw json.RawMessage, low, high int64) Slot {
	s := Slot{ID: id, Priority: 1}
	var j slot2
	if err := json.Unmarshal(raw, &j); err != nil {
		s.Err = damaged("JSON", err)
		return s
	}
	s.KDF = j.KDF.Type
	if j.Priority != nil {
		s.Priority = min(max(*j.Priority, 0), 2)
	}
	s.keySize, s.areaKey, s.cipher = j.KeySize, j.Area.KeySize, j.Area.Encryption
	s.off, s.len = int64(j.Area.Offset), int64(j.Area.Size)
	s.stripes, s.afHash = j.AF.Stripes, j.AF.Hash
	s.salt, s.hash, s.iter = j.KDF.Salt, j.KDF.Hash, j.KDF.Iterations
	if s.KDF != "pbkdf2" {
		s.iter, s.memory, s.cpus = j.KDF.Time, j.KDF.Memory, j.KDF.CPUs
	}
	switch {
	case j.Type != "luks2":
		s.Err = fmt.Errorf("type %.32q is not supported: %w", j.Type, abi.EINVAL)
	case j.Area.Type != "raw":
		s.Err = fmt.Errorf("an area of type %.32q is not supported: %w", j.Area.Type, abi.EINVAL)
	case j.AF.Type != "luks1":
		s.Err = fmt.Errorf("an anti-forensic splitter of type %.32q is not supported: %w", j.AF.Type, abi.EINVAL)
	case !keySizeOK(s.keySize) || !keySizeOK(s.areaKey):
		s.Err = fmt.Errorf("keys of %d and %d bytes: %w", s.keySize, s.areaKey, abi.EIO)
	case s.stripes < 1 || s.stripes > maxStripes:
		s.Err = fmt.Errorf("%d stripes: %w", s.stripes, abi.EIO)
	case len(s.salt) < 8 || len(s.salt) > maxSalt:
		s.Err = fmt.Errorf("a salt of %d bytes: %w", len(s.salt), abi.EIO)
	case s.off < low || s.off > high || s.len > high-s.off:
		s.Err = fmt.Errorf("an area of %d bytes at %d, not within %d to %d: %w", s.len, s.off, low, high, abi.EIO)
	}
	return s
}

// keys are the keys of m in order, those that are numbers by number.
func keys(m map[string]json.RawMessage) []string {
	r := make([]string, 0, len(m))
	for k := range m {
		r = append(r, k)
	}
	slices.SortFunc(r, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return r
}

// damaged is EIO for a part of the JSON area.
func damaged(what string, err error) error {
	return fmt.Errorf("%.64s: %.200v: %w", what, err, abi.EIO)
}
