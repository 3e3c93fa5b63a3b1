package vfs

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestAttachAgain: a process that ended when it had attached some of its types,
// and was not up, is not in the way of the next one.
func TestAttachAgain(t *testing.T) {
	v := variants[0]
	k := newKern(t, v, Options{})
	k.write("/f", "x")
	k.InstanceDown("vfs")
	k.ok(k.AttachFS("vfs", "mem", memVariant{&memType{}, v.wrap}, v.caps)) // and it is killed
	k.ok(k.AttachFS("vfs", "mem", memVariant{k.mt, v.wrap}, v.caps))
	k.ok(k.Remount(ctx, "vfs"))
	k.InstanceUp("vfs")
	k.write("/g", "y")
	if got := k.read("/g"); got != "y" {
		t.Errorf("%q", got)
	}
	if err := k.AttachFS("vfs", "mem", memVariant{k.mt, v.wrap}, v.caps); abi.ErrnoOf(err) != abi.EEXIST {
		t.Errorf("a type of an instance that is up was attached twice: %v", err)
	}
}
