package hostfs

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nobody is the uid and gid shown for an id of the host that the option uidmap
// or gidmap does not name, as NetBSD has it.
const nobody = 32767

// idmap translates between the ids that the kernel sees and the host's: the
// ranges of the options uidmap and gidmap, the one id of the option owner, or
// without these the swap of self with 0.
type idmap struct {
	self   uint32 // what this process runs as
	ranges []idRange
	owner  bool   // all files are owner's, and cannot be given to anybody else
	fixed  uint32 // with owner: to whom they belong
}

// idRange says that n ids from kernel on are those from host on.
type idRange struct {
	kernel, host, n uint32
}

// in is what the kernel sees of an id of the host.
func (m *idmap) in(id uint32) uint32 {
	switch {
	case m.owner:
		return m.fixed
	case m.ranges == nil:
		return swap(id, m.self)
	}
	for _, r := range m.ranges {
		if id-r.host < r.n {
			return r.kernel + (id - r.host)
		}
	}
	return nobody
}

// out is the host's id for one of the kernel's, -1 for "leave it alone": with
// owner, files belong to who made them. EPERM if the kernel's id stands for
// none of the host's.
func (m *idmap) out(id uint32) (int, error) {
	switch {
	case m.owner && id == m.fixed:
		return -1, nil
	case m.owner:
		return -1, fmt.Errorf("hostfs: all files belong to id %d (option owner), none can be given to %d: %w", m.fixed, id, abi.EPERM)
	case m.ranges == nil:
		return int(swap(id, m.self)), nil
	}
	for _, r := range m.ranges {
		if id-r.kernel < r.n {
			return int(r.host + (id - r.kernel)), nil
		}
	}
	return -1, fmt.Errorf("hostfs: id %d has no counterpart on the host (option uidmap or gidmap): %w", id, abi.EPERM)
}

// swap exchanges self and 0.
func swap(id, self uint32) uint32 {
	switch id {
	case 0:
		return self
	case self:
		return 0
	}
	return id
}

// maxRanges bounds the ranges of a map, as Linux does for user namespaces.
const maxRanges = 340

// parseRanges reads KERNEL:HOST[:COUNT] ranges, with "/" or "," between them.
// EINVAL for anything else, for an id that two ranges have, and for -1, which
// is no id.
func parseRanges(s string) ([]idRange, error) {
	var rs []idRange
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == ',' }) {
		f := strings.Split(part, ":")
		n := [3]uint64{2: 1}
		if len(f) < 2 || len(f) > 3 || len(rs) == maxRanges {
			return nil, abi.EINVAL
		}
		for i, w := range f {
			var err error
			if n[i], err = strconv.ParseUint(w, 10, 32); err != nil {
				return nil, abi.EINVAL
			}
		}
		if n[2] == 0 || n[0]+n[2] > math.MaxUint32 || n[1]+n[2] > math.MaxUint32 {
			return nil, abi.EINVAL
		}
		r := idRange{uint32(n[0]), uint32(n[1]), uint32(n[2])}
		for _, o := range rs {
			if overlap(r.kernel, o.kernel, r.n, o.n) || overlap(r.host, o.host, r.n, o.n) {
				return nil, abi.EINVAL
			}
		}
		rs = append(rs, r)
	}
	if rs == nil {
		return nil, abi.EINVAL
	}
	return rs, nil
}

// overlap reports whether n ids from a on and m from b on have one in common.
func overlap(a, b, n, m uint32) bool { return a-b < m || b-a < n }

// parseOwner reads UID[:GID]; the gid is the uid if it is not there.
func parseOwner(s string) (uid, gid uint32, err error) {
	u, g, both := strings.Cut(s, ":")
	if !both {
		g = u
	}
	a, err1 := strconv.ParseUint(u, 10, 32)
	b, err2 := strconv.ParseUint(g, 10, 32)
	if err1 != nil || err2 != nil || a == math.MaxUint32 || b == math.MaxUint32 {
		return 0, 0, abi.EINVAL
	}
	return uint32(a), uint32(b), nil
}
