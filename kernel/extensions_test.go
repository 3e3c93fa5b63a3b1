package kernel_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestCurtain: with secmodel extensions and its curtain drawn, users see no
// processes but their own; the super-user sees all, and only he draws it.
func TestCurtain(t *testing.T) {
	ctx := context.Background()
	k := booted(t, kernel.Options{Secmodels: []string{"suser", "extensions"}})
	root, err := k.Client("root")
	if err != nil {
		t.Fatal(err)
	}
	user, err := k.Client("user")
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Setuid(ctx, 7); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"0", "1", "0"} {
		if err := user.SysctlSet(ctx, "security.curtain", "1"); abi.ErrnoOf(err) != abi.EPERM {
			t.Errorf("a user draws it: %v", err)
		}
		if err := root.SysctlSet(ctx, "security.models.extensions.curtain", on); err != nil {
			t.Fatal(err)
		}
		if v, err := user.Sysctl(ctx, "security.curtain"); v != on || err != nil {
			t.Errorf("%s, %v", v, err)
		}
		want := 3 // proc0 and both
		if on == "1" {
			want = 1
		}
		ps, err := user.Procstat(ctx)
		if err != nil || len(ps) != want {
			t.Errorf("curtain %s: the user sees %+v, %v", on, ps, err)
		}
		if v, err := user.Sysctl(ctx, "kern.proc"); err != nil || strings.Count(v, `"pid"`) != want {
			t.Errorf("curtain %s: kern.proc %s, %v", on, v, err)
		}
		if _, err := user.Filestat(ctx, 0); (abi.ErrnoOf(err) == abi.ESRCH) != (on == "1") {
			t.Errorf("curtain %s: files of the kernel: %v", on, err)
		}
		if ps, err := root.Procstat(ctx); err != nil || len(ps) != 3 {
			t.Errorf("curtain %s: root sees %+v, %v", on, ps, err)
		}
	}
	// Without the model there is nothing to draw.
	k = booted(t, kernel.Options{})
	if c, err := k.Client("root"); err != nil {
		t.Error(err)
	} else if err := c.SysctlSet(ctx, "security.curtain", "1"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("no model: %v", err)
	}
}
