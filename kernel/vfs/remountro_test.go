package vfs

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestReadOnlySource: a file system that was mounted read-only opened its source
// so. It does not become writable by an update, which would only be believed by
// the list of mounts, and comes back after a death as it was mounted.
func TestReadOnlySource(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	for _, d := range []string{"/ro", "/rw", "/none"} {
		k.ok(k.Mkdir(ctx, su(), d, 0o755))
	}
	mount := func(dir, source string, flags uint64) {
		_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: dir, Source: source, Flags: flags})
		k.ok(err)
	}
	update := func(dir string, flags uint64) error {
		_, err := k.Mount(ctx, su(), MountArgs{Dir: dir, Flags: abi.MNT_UPDATE | flags})
		return err
	}
	readonly := func(dir string) bool {
		st, err := k.Statvfs(ctx, su(), dir)
		k.ok(err)
		return st.Flag&abi.MNT_RDONLY != 0
	}
	mount("/ro", "/a/source", abi.MNT_RDONLY)
	mount("/rw", "/another", 0)
	mount("/none", "", abi.MNT_RDONLY)
	k.is(update("/ro", 0), abi.EOPNOTSUPP)
	k.ok(update("/ro", abi.MNT_RDONLY|abi.MNT_NOSUID))
	k.ok(update("/rw", abi.MNT_RDONLY))
	k.ok(update("/none", 0))
	k.ok(k.Mkdir(ctx, su(), "/none/x", 0o755))

	k.InstanceDown("vfs")
	asked := len(k.mt.reqs)
	k.ok(k.AttachFS("vfs", "mem", memVariant{k.mt, variants[0].wrap}, variants[0].caps))
	k.ok(k.Remount(ctx, "vfs"))
	k.InstanceUp("vfs")
	for _, r := range k.mt.reqs[asked:] {
		if r.ReadOnly != (r.Source == "/a/source" || r.Source == "" && r.Fsid != k.Mounts()[0].Fsid) {
			t.Errorf("%q came back read-only=%t", r.Source, r.ReadOnly)
		}
	}
	if !readonly("/ro") || !readonly("/rw") || readonly("/none") {
		t.Error("the flags did not stay")
	}
	k.ok(update("/rw", 0))
	k.ok(k.Mkdir(ctx, su(), "/rw/x", 0o755))
}

// TestNoUnion: what no mount does is refused, not ignored.
func TestNoUnion(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/m", Flags: abi.MNT_UNION})
	k.is(err, abi.EOPNOTSUPP)
}
