package modproxy

import (
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// vattrFault says what is wrong with attributes, "" if nothing, and brings them
// into shape: bits of the mode that no file has are taken away.
func vattrFault(v *abi.Vattr) string {
	if v.Type < abi.VREG || v.Type > abi.VFIFO {
		return "type"
	}
	if v.Fileid == 0 {
		return "no file id"
	}
	if v.Size < 0 || v.Bytes < 0 {
		return "negative size"
	}
	for _, t := range [...]*abi.Timespec{&v.Atime, &v.Mtime, &v.Ctime, &v.Btime} {
		if t.Nsec < 0 || t.Nsec > 999999999 {
			return "nanoseconds"
		}
	}
	v.Mode &= 0o7777
	return ""
}

// entryFault does the same for an entry of file system fs.
func entryFault(e *vfsops.Entry, fs abi.Fsid) string {
	if e.Handle.FS != fs {
		return "handle of another file system"
	}
	if e.Handle.File != e.Vattr.Fileid || e.Handle.Gen != e.Vattr.Gen {
		return "handle and attributes disagree"
	}
	return vattrFault(&e.Vattr)
}

// vattr checks attributes that are to be those of h.
func (f *fs) vattr(v *abi.Vattr, h abi.Handle, what string) error {
	s := vattrFault(v)
	if s == "" && (v.Fileid != h.File || v.Gen != h.Gen) {
		s = "of another file"
	}
	if s != "" {
		return f.l.lie("%s: attributes of %v: %s", what, h, s)
	}
	return nil
}

// dirVattr checks the attributes that a mutator answers for a directory, or
// that it answers none.
func (f *fs) dirVattr(v *abi.Vattr, h abi.Handle, what string) error {
	if *v == (abi.Vattr{}) {
		return nil
	}
	if v.Type != abi.VDIR {
		return f.l.lie("%s: directory of type %v", what, v.Type)
	}
	return f.vattr(v, h, what)
}

// legalName reports whether s can be a directory entry.
func legalName(s string) bool {
	return len(s) > 0 && len(s) <= 255 && s != "." && s != ".." && strings.IndexByte(s, '/') < 0 && strings.IndexByte(s, 0) < 0
}
