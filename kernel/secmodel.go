package kernel

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Secmodels are the security models that Options.Secmodels can name.
var Secmodels = []string{"suser", "securelevel", "extensions"}

// startSecmodels registers the security models of the options.
func (k *Kernel) startSecmodels() {
	k.Auth = kauth.New()
	names := k.o.Secmodels
	if names == nil {
		names = []string{"suser"}
	}
	for _, n := range names {
		switch n {
		case "suser":
			k.Auth.Suser()
		case "securelevel":
			k.securelevel, _ = k.Auth.Securelevel()
		case "extensions":
			k.extensions, _ = k.Auth.Extensions()
		}
	}
}

// checkSecmodels reports a name that is none. EINVAL.
func (k *Kernel) checkSecmodels() error {
	seen := map[string]bool{}
	for _, n := range k.o.Secmodels {
		if !slices.Contains(Secmodels, n) || seen[n] {
			return fmt.Errorf("secmodel %q is unknown or twice there: %w", n, abi.EINVAL)
		}
		seen[n] = true
	}
	return nil
}

// secmodelNodes are the sysctl nodes of the security models.
func (k *Kernel) secmodelNodes() []sysctl.Node {
	models := k.o.Secmodels
	if models == nil {
		models = []string{"suser"}
	}
	var nodes []sysctl.Node
	for _, m := range models {
		title := map[string]string{"suser": "Traditional NetBSD: Superuser", "securelevel": "Traditional NetBSD: Securelevel", "extensions": "Traditional NetBSD: Extensions"}[m]
		nodes = append(nodes, sysctl.Node{Name: "security.models." + m + ".name", Type: sysctl.TypeString, Desc: "Name of the security model", Get: sysctl.Const(title)})
	}
	if e := k.extensions; e != nil {
		for _, name := range []string{"security.curtain", "security.models.extensions.curtain"} {
			nodes = append(nodes, sysctl.Node{Name: name, Type: sysctl.TypeBool, Desc: "Curtain information about objects to users not owning them",
				Get: boolean(e.Curtain), Set: setBoolean(e.SetCurtain)})
		}
	}
	if s := k.securelevel; s != nil {
		get := func() string { return strconv.Itoa(s.Level()) }
		set := func(v string) error {
			n, err := strconv.ParseInt(v, 0, 32)
			if err != nil {
				return abi.EINVAL
			}
			return s.Raise(int(n))
		}
		for _, name := range []string{"kern.securelevel", "security.models.securelevel.securelevel"} {
			nodes = append(nodes, sysctl.Node{Name: name, Type: sysctl.TypeInt, Desc: "System security level, which only rises", Get: get, Set: set})
		}
	}
	return nodes
}

// mayAutoload asks whether a module may be loaded because something of it is
// wanted: whoever wants it, the kernel loads it.
func (k *Kernel) mayAutoload(what string) error {
	if err := k.Auth.Authorize(kauth.System, abi.Root, kauth.Autoload, nil); err != nil {
		return fmt.Errorf("autoload of %s: %w", what, err)
	}
	return nil
}

// mayOpenDev asks the device scope, whose answer is the permissions' unless a
// model denies.
func (k *Kernel) mayOpenDev(c *abi.Caller, blk bool, flags int) error {
	write := flags&abi.O_ACCMODE != abi.O_RDONLY
	return k.Auth.Authorize(kauth.Device, c.Cred, kauth.RawIO, kauth.DevArg{Blk: blk, Write: write})
}
