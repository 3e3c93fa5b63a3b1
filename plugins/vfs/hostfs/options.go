package hostfs

import (
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// options are the mount options after parsing.
type options struct {
	ro        bool
	fds       int  // open descriptors
	devices   bool // device nodes may be made
	setid     bool // set-id bits may be given
	exclusive bool // nobody else changes the directory

	uids, gids []idRange // uidmap, gidmap; nil without
	owner      bool
	uid, gid   uint32 // of owner
}

// parseOptions reads the mount options; EINVAL names what is wrong.
//
//	ro             nothing is written: EROFS
//	fds=N          descriptors kept open, 16 or more
//	devices        device nodes may be made, as far as the host allows it
//	setid          set-id bits may be given to files, see the package doc
//	exclusive      nobody else changes the directory, see the package doc
//	owner=U[:G]    all files are shown as U's, and nobody else's
//	uidmap=K:H[:N] the kernel's uids from K on, N of them (default 1), are the
//	               host's from H on; more ranges behind "/"
//	gidmap=...     the same for gids; default what uidmap says
func parseOptions(opts map[string]string) (options, error) {
	o := options{fds: defaultFds()}
	var names []string
	for name := range opts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		val := opts[name]
		var err error
		switch name {
		case "ro":
			o.ro, err = boolOption(val)
		case "devices":
			o.devices, err = boolOption(val)
		case "setid":
			o.setid, err = boolOption(val)
		case "exclusive":
			o.exclusive, err = boolOption(val)
		case "owner":
			o.owner = true
			o.uid, o.gid, err = parseOwner(val)
		case "uidmap":
			o.uids, err = parseRanges(val)
		case "gidmap":
			o.gids, err = parseRanges(val)
		case "fds":
			o.fds, err = strconv.Atoi(val)
			if err == nil && o.fds < 16 {
				err = abi.EINVAL
			}
		default:
			return o, fmt.Errorf("unknown option %q: %w", name, abi.EINVAL)
		}
		if err != nil {
			return o, fmt.Errorf("option %s=%q: %w", name, val, abi.EINVAL)
		}
	}
	switch {
	case o.owner && (o.uids != nil || o.gids != nil):
		return o, fmt.Errorf("options owner and uidmap exclude each other: %w", abi.EINVAL)
	case o.uids == nil && o.gids != nil:
		return o, fmt.Errorf("option gidmap needs uidmap: %w", abi.EINVAL)
	case o.gids == nil:
		o.gids = o.uids
	}
	return o, nil
}

// boolOption reads an option that may stand alone.
func boolOption(val string) (bool, error) {
	if val == "" {
		return true, nil
	}
	return strconv.ParseBool(val)
}

// defaultFds is half of what this process may open.
func defaultFds() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 512
	}
	return int(max(min(r.Cur/2, 8192), 16))
}
