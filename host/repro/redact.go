package repro

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// shortName is the length from which on names are replaced: what is shorter
// says little, and its bytes stand in a checkpoint by chance.
const shortName = 4

// Redact takes out what clients wrote, as far as the file stays of use:
//
//   - the contents of files, values of attributes and texts of symbolic links
//     in the mutators become other text of the same length;
//   - blocks of a device that the file system did not call metadata become zero;
//   - without a device: names of four bytes and more become other names, each
//     the same one everywhere, also in the checkpoint, of the same length, with
//     letters for letters and digits for digits. more are names that are in the
//     checkpoint without being in a mutator (Names finds them).
//
// What is left is told in f.Redacted. The names on a device stay, as its
// format may have sums of them; with keepNames all do, for a file system that
// dies of one.
func (f *File) Redact(more [][]byte, keepNames bool) {
	r := &redactor{to: make(map[string]string), taken: make(map[string]bool)}
	rand.Read(r.key[:])
	all := append(slices.Clone(f.Entries), f.Poison)
	for i, e := range all {
		c := *e // the journal's own
		all[i] = &c
	}
	f.Entries, f.Poison = all[:len(all)-1], all[len(all)-1]
	for _, e := range all {
		e.Data = r.text(e.Data)
	}
	if f.Disk != nil {
		d := *f.Disk
		d.Blocks = slices.Clone(d.Blocks)
		n := 0
		for i := range d.Blocks {
			if b := &d.Blocks[i]; !b.Meta {
				b.Data = make([]byte, len(b.Data))
				n++
			}
		}
		f.Disk = &d
		f.Redacted = fmt.Sprintf("the contents in mutators and %d blocks of data; names, and %d blocks of metadata, are as they were", n, len(d.Blocks)-n)
		return
	}
	if keepNames {
		f.Redacted = "the contents in mutators; names, and the checkpoint, are as they were"
		return
	}
	for _, e := range all {
		if e.Kind != journal.Setxattr && e.Kind != journal.Removexattr { // whose names are words of the field
			e.Name, e.Name2 = r.name(e.Name), r.name(e.Name2)
		}
	}
	for _, n := range more {
		r.name(n)
	}
	names := r.index()
	for i := range f.Store {
		f.Store[i].Key = r.within(f.Store[i].Key, names)
		f.Store[i].Value = r.within(f.Store[i].Value, names)
	}
	f.Redacted = fmt.Sprintf("the contents in mutators and %d names, those of at least %d bytes; what else is in the checkpoint (attributes, symbolic links) is as it was", len(r.to), shortName)
}

type redactor struct {
	key   [32]byte
	to    map[string]string
	taken map[string]bool
}

// name is the other name of one.
func (r *redactor) name(n []byte) []byte {
	if len(n) < shortName {
		return n
	}
	if t, ok := r.to[string(n)]; ok {
		return []byte(t)
	}
	for try := uint64(0); ; try++ {
		t := r.disguise(n, try)
		if r.taken[t] && try < 1000 {
			continue
		}
		r.to[string(n)], r.taken[t] = t, true
		return []byte(t)
	}
}

// text is other text of the same length.
func (r *redactor) text(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	return []byte(r.disguise(b, 1<<32))
}

// disguise puts random letters and digits for letters and digits, and letters
// for what is not ASCII.
func (r *redactor) disguise(b []byte, try uint64) string {
	out := make([]byte, len(b))
	var pad []byte
	for i, c := range b {
		if i%32 == 0 {
			h := hmac.New(sha256.New, r.key[:])
			h.Write(binary.LittleEndian.AppendUint64(nil, try))
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(i)))
			h.Write(b)
			pad = h.Sum(nil)
		}
		x := pad[i%32]
		switch {
		case c >= '0' && c <= '9':
			out[i] = '0' + x%10
		case c >= 'A' && c <= 'Z':
			out[i] = 'A' + x%26
		case c >= 'a' && c <= 'z' || c >= 0x80:
			out[i] = 'a' + x%26
		default:
			out[i] = c
		}
	}
	return string(out)
}

// index are the names that are replaced, by their first bytes; long ones first,
// as they may begin with others.
func (r *redactor) index() map[string][]string {
	m := make(map[string][]string)
	for n := range r.to {
		m[n[:shortName]] = append(m[n[:shortName]], n)
	}
	for _, l := range m {
		slices.SortFunc(l, func(a, b string) int {
			if len(a) != len(b) {
				return len(b) - len(a)
			}
			return strings.Compare(a, b)
		})
	}
	return m
}

// within replaces names in bytes of a format that is not known.
func (r *redactor) within(b []byte, names map[string][]string) []byte {
	b = slices.Clone(b)
	for i := 0; i+shortName <= len(b); {
		step := 1
		for _, n := range names[string(b[i:i+shortName])] {
			if len(n) <= len(b)-i && string(b[i:i+len(n)]) == n {
				step = copy(b[i:], r.to[n])
				break
			}
		}
		i += step
	}
	return b
}

// maxNames bounds the names that Names finds, maxDepth how deep it looks.
const (
	maxNames = 1 << 20
	maxDepth = 256
)

// Names are the names in the directories of a file system.
func Names(ctx context.Context, fs vfsops.FS) ([][]byte, error) {
	root, err := fs.Root(ctx)
	if err != nil {
		return nil, err
	}
	var names [][]byte
	seen := map[abi.Fileid]bool{}
	var walk func(dir abi.Handle, depth int) error
	walk = func(dir abi.Handle, depth int) error {
		if seen[dir.File] || depth > maxDepth {
			return nil
		}
		seen[dir.File] = true
		for cookie := uint64(0); len(names) < maxNames; {
			res, err := fs.Readdir(ctx, vfsops.ReaddirReq{Dir: dir, Cookie: cookie, Max: 256})
			if journal.Died(err) {
				return err
			}
			if err != nil || len(res.Entries) == 0 {
				return nil // what is left is not known
			}
			for _, e := range res.Entries {
				names = append(names, []byte(e.Name))
				if e.Type == abi.VDIR {
					found, err := fs.Lookup(ctx, vfsops.LookupReq{Start: dir, Names: [][]byte{[]byte(e.Name)}})
					if journal.Died(err) {
						return err
					}
					if err == nil && len(found.Trace) == 1 {
						if err := walk(found.Trace[0].Handle, depth+1); err != nil {
							return err
						}
					}
				}
				if e.Cookie == cookie {
					return nil
				}
				cookie = e.Cookie
			}
		}
		return nil
	}
	err = walk(root.Handle, 0)
	return names, err
}
