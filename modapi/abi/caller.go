package abi

import "slices"

// Cred is a set of credentials: who acts. A Cred that is shared is never
// changed; take a copy (Clone), as kauth_cred_t's copy on write does.
type Cred struct {
	Ruid, Euid, Svuid uint32
	Rgid, Egid, Svgid uint32
	Groups            []uint32 // supplementary groups, at most NGroupsMax
}

// NGroupsMax bounds Cred.Groups (NGROUPS_MAX).
const NGroupsMax = 16

// NewCred makes credentials with real, effective and saved ids alike.
func NewCred(uid, gid uint32, groups ...uint32) *Cred {
	return &Cred{uid, uid, uid, gid, gid, gid, slices.Clone(groups)}
}

// Root is the super-user's credential (rump_susercred).
var Root = NewCred(0, 0)

// Clone copies c so that the copy can be changed.
func (c *Cred) Clone() *Cred {
	n := *c
	n.Groups = slices.Clone(c.Groups)
	return &n
}

// InGroup reports whether gid is the effective group or a supplementary one
// (kauth_cred_ismember_gid).
func (c *Cred) InGroup(gid uint32) bool {
	return c.Egid == gid || slices.Contains(c.Groups, gid)
}

// Caller is who asks: passed to everything below the process layer instead of
// an lwp. A component sees it for ownership, not to check permissions.
type Caller struct {
	Cred *Cred
	Pid  int32
	Lid  int32

	// Fsize is RLIMIT_FSIZE plus 1; 0 is no limit. It does not leave the kernel.
	Fsize uint64
}

// FsizeOK reports whether a file may become size bytes long (RLIMIT_FSIZE).
func (c *Caller) FsizeOK(size int64) bool { return c.Fsize == 0 || uint64(size) < c.Fsize }

// KernelCaller is the kernel itself: the super-user in process 0.
var KernelCaller = &Caller{Cred: Root, Pid: 0, Lid: 1}
