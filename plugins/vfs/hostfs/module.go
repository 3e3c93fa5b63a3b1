// Package hostfs is a file system over a directory of the host that the
// configuration granted to this instance, and over nothing else.
//
// The words. A grant is a directory descriptor that the host opened
// (host/supervise OpenGrant) and passed to this process under the name
// "host.dir:/data", or "host.dir:/data:ro" for one that must not be written.
// A node is a host file that the kernel knows of, found by device and inode
// number. Its path descriptor (O_PATH) is what all calls go through; read and
// write descriptors are opened when first needed.
//
// How it stays inside. Every step is one name below the descriptor of its
// parent, by openat2 with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
// RESOLVE_NO_XDEV, never a path: a symbolic link is a node with a text, ".."
// is never asked for. Nothing goes through /proc. A directory that somebody
// moves out of the granted one stays reachable to those who had it open, as with
// any Unix process. Fifos, sockets and devices show their type and attributes
// and are never opened here: what a fifo is, or a device, the kernel says.
//
// What is mounted inside the directory on the host, also if it comes while we
// are, is not crossed: its name is listed, and EXDEV to everything else. (A root
// host grants a mount of its own, in which nothing else is mounted: there the
// directory below shows.) Nobody is asked about a mount on the way, for it may
// be the one by which our own kernel is exported, and its server may be waiting
// for us; a directory that lies on such a mount is no source (ELOOP).
//
// Others may change the same directory at any time, so the type is not sole:
// the kernel caches nothing, and requests name what they mean: a name that
// leads to another file than the kernel saw is ESTALE. Times are the host's.
// Between checking a name and removing it lies a moment in which a stranger
// can exchange it; Linux has no call that closes it. The option exclusive is the
// operator's word that there are no strangers: only then can an operation that a
// crash cut short be told from one that was never begun, by looking. It keeps
// away other mounts with the option (EBUSY, by flock(2) on the directory), and
// nobody else.
//
// # Owners
//
// The user that this process runs as is shown as uid 0, and the host's uid 0
// as that user; the group likewise. So the super-user of the kernel owns what
// the operator owns. A root process shows ids as they are. A file that cannot
// be given to the uid asked for is not made (EPERM).
//
// The option uidmap says otherwise: ranges of the kernel's ids and the host's.
// What is in none of them is shown as 32767 (nobody), and nothing can be given
// to it. With the option owner all files are shown as one user's, and what is
// made belongs to the user of this process.
//
// Set-id bits would let a user of the kernel make programs that run as somebody
// else on the host. They are refused (EPERM) to files that do not have them,
// without the option setid.
//
// # Descriptors
//
// At most `fds` (mount option; default half of RLIMIT_NOFILE, 8192 at most)
// stay open. The least recently used are closed and opened again from the
// parent when needed: EIO or ESTALE if the name has gone meanwhile. Pinned
// nodes, and files whose name was removed here, keep theirs.
//
// # Locks
//
//	Module.mu      which mounts there are
//	node.appendMu  appending writes of one node
//	node.openMu    opening of a node's descriptors; never two at a time
//	  FS.mu        the node table, the links between nodes, the LRU lists,
//	               counts; never held over a system call
//
// A descriptor is closed only under FS.mu's rule that nobody holds the node
// (refs 0), so whoever holds it uses its descriptors without a lock.
package hostfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the capabilities that the type declares.
const Caps = vfsops.CapXattr

// Module is the module "hostfs". It is an FSType as well.
type Module struct {
	mu     sync.Mutex
	k      modapi.Kernel
	mounts map[abi.Fsid]*FS
}

var (
	_ modapi.Module = (*Module)(nil)
	_ vfsops.FSType = (*Module)(nil)
)

// New makes the module.
func New() *Module { return &Module{mounts: make(map[abi.Fsid]*FS)} }

// Info describes the module.
func (m *Module) Info() modapi.Info {
	return modapi.Info{
		Name: "hostfs", Class: modapi.ClassVFS, Kern: abi.KernVersionCurrent,
		Version: "1.0.0", Caps: modapi.CapRing,
		Wants: []modapi.Want{{Grant: "host.dir", Why: "the directory to mount"}},
	}
}

// Init attaches the type "hostfs". The module takes no properties.
func (m *Module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.mu.Lock()
	m.k = k
	m.mu.Unlock()
	return k.AttachFS("hostfs", m, Caps)
}

// Fini ends the module; EBUSY while something is mounted.
func (m *Module) Fini(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.mounts); n > 0 {
		return fmt.Errorf("hostfs: %d mounted: %w", n, abi.EBUSY)
	}
	return nil
}

// grant finds the directory of a source. A grant for reading only has ":ro"
// behind its name.
func (m *Module) grant(source string) (f *os.File, ro bool, err error) {
	m.mu.Lock()
	k := m.k
	m.mu.Unlock()
	if k == nil {
		return nil, false, fmt.Errorf("hostfs: not initialised: %w", abi.ENXIO)
	}
	if !strings.HasPrefix(source, "/") {
		return nil, false, fmt.Errorf("hostfs: source %q is no absolute path: %w", source, abi.EINVAL)
	}
	source = path.Clean(source)
	for _, suffix := range []string{"", ":rw", ":ro"} {
		f, err = k.Granted("host.dir:" + source + suffix)
		if err == nil {
			return f, suffix == ":ro", nil
		}
		if !errors.Is(err, abi.ENOENT) {
			return nil, false, fmt.Errorf("hostfs: %s: %w", source, err)
		}
	}
	return nil, false, fmt.Errorf("hostfs: %[1]s is not granted to this instance: add `grant: [\"host.dir:%[1]s:ro\"]` to its component: %[2]w", source, abi.EPERM)
}

// Mount opens the granted directory that req.Source names. EPERM if there is
// no such grant, EROFS if it is for reading only and the mount is not, EINVAL
// for an unknown option.
func (m *Module) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	o, err := parseOptions(req.Options)
	if err != nil {
		return nil, fmt.Errorf("hostfs: %w", err)
	}
	o.ro = o.ro || req.ReadOnly
	dir, ro, err := m.grant(req.Source)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := newFS(req.Fsid, dir, o)
	if err != nil {
		return nil, fmt.Errorf("hostfs: %s: %w", req.Source, err)
	}
	if (ro || f.hostReadOnly()) && !o.ro {
		f.closeAll()
		return nil, fmt.Errorf("hostfs: %s is granted for reading only: mount it with the option ro, or grant it as \"host.dir:%[1]s:rw\": %[2]w", req.Source, abi.EROFS)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[req.Fsid] != nil {
		f.closeAll()
		return nil, fmt.Errorf("hostfs: file system %d is mounted already: %w", req.Fsid, abi.EEXIST)
	}
	f.mod = m
	m.mounts[req.Fsid] = f
	return f, nil
}

func (m *Module) unmounted(f *FS) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[f.fsid] == f {
		delete(m.mounts, f.fsid)
	}
}
