// Package kernfs is the file system of what the kernel says of itself, NetBSD's
// mount_kernfs(8):
//
//	boottime   when the kernel was booted, in seconds since 1970
//	copyright  who wrote it
//	hostname   the name of the machine; the super-user may write it
//	hz         ticks of the clock in a second
//	msgbuf     the message buffer
//	pagesize   bytes of a page
//	physmem    memory, in pages
//	time       seconds and microseconds since 1970
//	uptime     seconds since the boot (not NetBSD's)
//	version    the kernel's version
//
// There is no loadavg and no rootdev: nothing here has such numbers. It is built
// into the kernel; see package pseudofs for how it behaves.
package kernfs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Copyright is what the file copyright says.
const Copyright = "rumpus: a rump kernel in user space.\nNamed and numbered as NetBSD's; see the file LICENSE.\n"

// Deps is where the contents come from.
type Deps struct {
	Sysctl *sysctl.Tree // kern.hostname, kern.msgbuf, kern.version, hw.physmem64
	Now    func() time.Time
	Booted time.Time
}

// Type is the file-system type "kernfs".
type Type struct{ d Deps }

// New makes the file-system type.
func New(d Deps) *Type { return &Type{d} }

var _ vfsops.FSType = (*Type)(nil)

// Mount makes a kernfs. It takes no options (EINVAL); the source means nothing.
func (t *Type) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	if len(req.Options) > 0 {
		return nil, abi.EINVAL
	}
	return pseudofs.New(req, newSource(t.d)), nil
}

// rootID is the number of the directory; files have those above it.
const rootID abi.Fileid = 2

type source struct {
	root   pseudofs.Node
	files  []pseudofs.Node
	byName map[string]int
}

func newSource(d Deps) *source {
	text := func(fn func() string) func(context.Context, *abi.Caller) ([]byte, error) {
		return func(context.Context, *abi.Caller) ([]byte, error) { return []byte(fn()), nil }
	}
	// value is a node of sysctl as a line; one that is missing is an empty file.
	value := func(name string) string {
		s, err := d.Sysctl.Get(name)
		if err != nil {
			return ""
		}
		return s
	}
	s := &source{byName: make(map[string]int)}
	for _, f := range []struct {
		name  string
		read  func() string
		write func(context.Context, *abi.Caller, []byte) error
	}{
		{"boottime", func() string { return fmt.Sprintf("%d\n", d.Booted.Unix()) }, nil},
		{"copyright", func() string { return Copyright }, nil},
		{"hostname", func() string { return value("kern.hostname") + "\n" }, func(_ context.Context, c *abi.Caller, p []byte) error {
			return setHostname(d.Sysctl, c, p)
		}},
		{"hz", func() string { return fmt.Sprintf("%d\n", clock.Hz) }, nil},
		{"msgbuf", func() string { return value("kern.msgbuf") }, nil},
		{"pagesize", func() string { return fmt.Sprintf("%d\n", abi.PageSize) }, nil},
		{"physmem", func() string {
			var bytes uint64
			fmt.Sscan(value("hw.physmem64"), &bytes)
			return fmt.Sprintf("%d\n", bytes/abi.PageSize)
		}, nil},
		{"time", func() string { t := d.Now(); return fmt.Sprintf("%d %d\n", t.Unix(), t.Nanosecond()/1000) }, nil},
		{"uptime", func() string { return fmt.Sprintf("%d\n", int64(d.Now().Sub(d.Booted)/time.Second)) }, nil},
		{"version", func() string { return value("kern.version") + "\n" }, nil},
	} {
		n := pseudofs.Node{Name: f.name, ID: rootID + 1 + abi.Fileid(len(s.files)), Gen: 1, Type: abi.VREG, Mode: 0o444, Read: text(f.read), Write: f.write}
		if f.write != nil {
			n.Mode = 0o644
		}
		s.byName[f.name] = len(s.files)
		s.files = append(s.files, n)
	}
	s.root = pseudofs.Node{ID: rootID, Gen: 1, Type: abi.VDIR, Mode: 0o555, List: func(context.Context, *abi.Caller) []pseudofs.Node { return s.files }}
	return s
}

// setHostname takes a name as one write brings it, a newline at its end left
// off. EPERM for others than the super-user, who may have got the open file from
// him; EINVAL for bytes that no name has; ENAMETOOLONG.
func setHostname(t *sysctl.Tree, c *abi.Caller, p []byte) error {
	if c == nil || c.Cred.Euid != 0 {
		return abi.EPERM
	}
	name := strings.TrimSuffix(string(p), "\n")
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return abi.EINVAL
	}
	return t.Set("kern.hostname", name)
}

// Root is the directory.
func (s *source) Root() pseudofs.Node { return s.root }

// Find finds a file by its number.
func (s *source) Find(_ context.Context, id abi.Fileid, gen abi.Gen) (pseudofs.Node, bool) {
	switch {
	case gen != 1 || id < rootID || id > rootID+abi.Fileid(len(s.files)):
		return pseudofs.Node{}, false
	case id == rootID:
		return s.root, true
	}
	return s.files[id-rootID-1], true
}

// Child finds a file by its name.
func (s *source) Child(_ context.Context, _ *abi.Caller, _ *pseudofs.Node, name string) (pseudofs.Node, bool) {
	i, ok := s.byName[name]
	if !ok {
		return pseudofs.Node{}, false
	}
	return s.files[i], true
}
