package bio

import "slices"

// ranges is a set of numbers as sorted ranges that do not touch. It is for
// discards, which are advice: one that has come to maxRanges takes no more.
type ranges []span

type span struct{ from, to int64 }

const maxRanges = 4096

// add puts [from, to) into the set.
func (r *ranges) add(from, to int64) {
	i, _ := slices.BinarySearchFunc(*r, from, func(s span, n int64) int {
		if s.to < n {
			return -1
		}
		return 1
	})
	j := i
	for j < len(*r) && (*r)[j].from <= to {
		from, to = min(from, (*r)[j].from), max(to, (*r)[j].to)
		j++
	}
	if i == j && len(*r) >= maxRanges {
		return
	}
	*r = slices.Replace(*r, i, j, span{from, to})
}

// remove takes [from, to) out of it.
func (r *ranges) remove(from, to int64) {
	for i := 0; i < len(*r); i++ {
		s := (*r)[i]
		if s.from >= to {
			return
		}
		if s.to <= from {
			continue
		}
		var rest []span
		if s.from < from {
			rest = append(rest, span{s.from, from})
		}
		if to < s.to {
			rest = append(rest, span{to, s.to})
		}
		*r = slices.Replace(*r, i, i+1, rest...)
		i += len(rest) - 1
	}
}
