package abi

// AccMode is a set of kinds of access to a file (accmode_t). The low three
// bits are those of one class in a mode, and of access(2).
type AccMode uint32

// The kinds of access.
const (
	VEXEC   AccMode = 1  // execute, or search a directory
	VWRITE  AccMode = 2  // write, or change a directory's entries
	VREAD   AccMode = 4  // read
	VADMIN  AccMode = 8  // act as the owner: chmod, chown, set times
	VAPPEND AccMode = 16 // write at the end; permission is that of VWRITE
)

// Vaccess is what the mode bits and ids of a file say about an access:
// NetBSD's genfs_can_access, the fs_decision of the vnode scope. nil means
// allowed.
//
// The first class that the caller belongs to counts, and only that: an owner
// whom the owner bits refuse gets nothing from group or others. VADMIN needs
// the owner and is refused with EPERM; everything else with EACCES. Where both
// are wanted and both refused the answer is EPERM, as in chmod(2).
//
// The super-user is nobody special here. The caller passes the answer to
// kauth, whose secmodel may overrule a refusal; so kernel/vfs treats it as an
// opinion and not as the last word.
func Vaccess(va *Vattr, c *Cred, want AccMode) error {
	if want&VADMIN != 0 && c.Euid != va.Uid {
		return EPERM
	}
	need := uint32(want & (VREAD | VWRITE | VEXEC))
	if want&VAPPEND != 0 {
		need |= uint32(VWRITE)
	}
	granted := va.Mode
	switch {
	case c.Euid == va.Uid:
		granted >>= 6
	case c.InGroup(va.Gid):
		granted >>= 3
	}
	if need&^granted != 0 {
		return EACCES
	}
	return nil
}
