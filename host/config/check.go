package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// consistent checks what no single value shows.
func (c *Config) consistent() (faults []*fault) {
	add := func(f *fault) { faults = append(faults, f) }
	for _, name := range sortedKeys(c.Components) {
		comp := c.Components[name]
		at := []string{"components", name}
		if comp.Class == "" {
			add(faultf(append(at, "class"), "missing (wanted vfs, net or dev, since the component is called none of these)"))
		}
		if comp.Essential && !comp.Enabled {
			add(faultf(append(at, "enabled"), "false, but the component is essential"))
		}
	}
	c.checkDevices(add)
	c.checkFuse(add)
	c.checkNBD(add)
	dirs := map[string]int{}
	for i, m := range c.Mounts {
		at := []string{"mounts", strconv.Itoa(i)}
		switch {
		case m.Dir == "":
			add(faultf(append(at, "dir"), "missing (wanted an absolute path)"))
		case m.Type == "":
			add(faultf(append(at, "type"), "missing (wanted the name of a file-system type such as tmpfs)"))
		}
		if m.Dir == "" {
			continue
		}
		if j, twice := dirs[m.Dir]; twice {
			add(faultf(append(at, "dir"), "%s is a mount point already (mounts/%d)", shown(m.Dir), j))
		}
		dirs[m.Dir] = i
		if i == 0 && m.Dir != "/" {
			add(faultf(append(at, "dir"), "got %s, the first mount must be /", got(m.Dir)))
		}
		if m.Noauto && (i == 0 || m.Essential) {
			add(faultf(append(at, "noauto"), "true, but the mount is %s", map[bool]string{true: "the root", false: "essential"}[i == 0]))
		}
		if m.Instance == "" {
			continue
		}
		comp, ok := c.Components[m.Instance]
		switch {
		case !ok:
			add(faultf(append(at, "instance"), "no component %s%s", shown(m.Instance), among(m.Instance, sortedKeys(c.Components))))
		case comp.Class != "vfs":
			add(faultf(append(at, "instance"), "component %s is of class %s, wanted vfs", m.Instance, comp.Class))
		}
	}
	return faults
}

// checkDevices checks that each device is one thing, and has no keys of another.
func (c *Config) checkDevices(add func(*fault)) {
	for _, name := range sortedKeys(c.Devices) {
		d := c.Devices[name]
		at := []string{"devices", name}
		unit, isMd := strings.CutPrefix(name, "md")
		_, err := strconv.ParseUint(unit, 10, 8)
		switch {
		case d.Etfs != "" && d.Md != (Size{}):
			add(faultf(append(at, "md"), "the device has etfs already, and can be one of the two only"))
		case d.Etfs == "" && d.Md == (Size{}):
			add(faultf(at, "nothing that it is (wanted etfs, a disk image of the host, or md, a size)"))
		case d.Md != (Size{}) && (!isMd || err != nil || unit != "0" && unit[0] == '0'):
			add(faultf(at, "disks in memory are called md0 to md255"))
		case d.Etfs == "" && (d.Offset != (Size{}) || d.Size != (Size{}) || d.RO || d.Nolock):
			add(faultf(at, "offset, size, ro and nolock are for etfs only"))
		case d.Offset.Percent != 0:
			add(faultf(append(at, "offset"), "got a percentage, wanted bytes"))
		case d.Size.Percent != 0:
			add(faultf(append(at, "size"), "got a percentage, wanted bytes"))
		case d.Md.Percent != 0:
			add(faultf(append(at, "md"), "got a percentage, wanted bytes"))
		case d.Offset.Bytes%512 != 0:
			add(faultf(append(at, "offset"), "got %d, wanted a multiple of 512", d.Offset.Bytes))
		case d.Size.Bytes%512 != 0:
			add(faultf(append(at, "size"), "got %d, wanted a multiple of 512", d.Size.Bytes))
		}
	}
}

// checkFuse checks exports/fuse: each entry has a directory of its own.
func (c *Config) checkFuse(add func(*fault)) {
	dirs := map[string]int{}
	for i := range c.Exports.Fuse {
		dir := c.Exports.Fuse[i].Dir
		at := []string{"exports", "fuse", strconv.Itoa(i), "dir"}
		if dir == "" {
			add(faultf(at, "missing (wanted a directory of the host)"))
			continue
		}
		if j, twice := dirs[dir]; twice {
			add(faultf(at, "%s is mounted on already (exports/fuse/%d)", shown(dir), j))
		}
		dirs[dir] = i
	}
}

// checkNBD checks exports/nbd: each entry has a device and one address, and no
// two the same name there.
func (c *Config) checkNBD(add func(*fault)) {
	names := map[string]int{}
	for i := range c.Exports.NBD {
		n := &c.Exports.NBD[i]
		at := []string{"exports", "nbd", strconv.Itoa(i)}
		switch {
		case n.Device == "":
			add(faultf(append(at, "device"), "missing (wanted the name of a node of /dev)"))
		case (n.Socket == "") == (n.Listen == ""):
			add(faultf(at, "wanted socket or listen, and not both"))
		}
		if n.Device == "" || (n.Socket == "") == (n.Listen == "") {
			continue
		}
		key := n.Address() + "\x00" + n.ExportName()
		if j, twice := names[key]; twice {
			add(faultf(append(at, "name"), "%s is served there already (exports/nbd/%d)", shown(n.ExportName()), j))
		}
		names[key] = i
	}
}

// among suggests one of names, or lists them.
func among(name string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	if n := nearest(name, names); n != "" {
		return " (did you mean " + n + "?)"
	}
	if len(names) > 8 {
		return ""
	}
	return " (there are " + strings.Join(names, ", ") + ")"
}

// Check looks for what Load cannot see and boot would stumble on: plugins that
// are not there, mounts whose component is not enabled. plugin is asked once
// for each plugin that an enabled component names, and says what is wrong with
// it; nil skips this. The errors are *Error, in the order of their keys.
func (c *Config) Check(plugin func(name string) error) []error {
	var errs []error
	add := func(key, msg string) {
		errs = append(errs, &Error{File: c.Source, Key: key, Msg: msg})
	}
	asked := map[string]error{}
	for _, name := range sortedKeys(c.Components) {
		comp := c.Components[name]
		if !comp.Enabled || plugin == nil {
			continue
		}
		err, done := asked[comp.Plugin]
		if !done {
			err = plugin(comp.Plugin)
			asked[comp.Plugin] = err
		}
		if err != nil {
			add("components/"+name+"/plugin", oneLine(err.Error()))
		}
	}
	for i, m := range c.Mounts {
		if m.Instance != "" && !c.Components[m.Instance].Enabled {
			add(fmt.Sprintf("mounts/%d/instance", i), "component "+m.Instance+" is not enabled")
		}
	}
	return errs
}

// Enabled are the components that are to be started: vfs, net and dev ones in
// this order, which is the order of attachment. Within a class the one that is
// called as the class is the first, then they go by name: a mount that names no
// instance gets the first one that has its type.
func (c *Config) Enabled() []Component {
	var out []Component
	for _, class := range []string{"vfs", "net", "dev"} {
		for _, name := range append([]string{class}, sortedKeys(c.Components)...) {
			comp := c.Components[name]
			if comp.Enabled && comp.Class == class && !slices.ContainsFunc(out, func(o Component) bool { return o.Name == name }) {
				out = append(out, comp)
			}
		}
	}
	return out
}

// ModuleDirs is Kernel.ModulePath with $EXE replaced by exeDir, the directory
// of the rumpus program.
func (c *Config) ModuleDirs(exeDir string) []string {
	dirs := make([]string, len(c.Kernel.ModulePath))
	for i, d := range c.Kernel.ModulePath {
		if rest, ok := strings.CutPrefix(d, "$EXE"); ok && (rest == "" || rest[0] == '/') {
			d = exeDir + rest
		}
		dirs[i] = filepath.Clean(d)
	}
	return dirs
}

// PluginPath is the program of the plugin called name: name itself if it has a
// "/", or else the first executable file of that name in ModuleDirs. The error
// says in one line where it was looked for.
func (c *Config) PluginPath(name, exeDir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	dirs := c.ModuleDirs(exeDir)
	for _, d := range dirs {
		if p := filepath.Join(d, name); executable(p) == nil {
			return p, nil
		}
	}
	if i := slices.IndexFunc(dirs, func(d string) bool {
		_, err := os.Stat(filepath.Join(d, name))
		return err == nil
	}); i >= 0 {
		return "", executable(filepath.Join(dirs[i], name))
	}
	if len(dirs) == 0 {
		return "", fmt.Errorf("plugin %s not found: kernel/module-path is empty", shown(name))
	}
	return "", fmt.Errorf("plugin %s not found in %s", shown(name), strings.Join(dirs, ", "))
}

// notRunnable is the error of a plugin that is there but cannot be run, which
// execve(2) would call EACCES. It is fs.ErrPermission.
type notRunnable string

func (e notRunnable) Error() string { return string(e) }
func (notRunnable) Unwrap() error   { return fs.ErrPermission }

// executable says what keeps path from being run.
func executable(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("plugin %s: no such file", shown(path))
	case st.IsDir():
		return notRunnable(fmt.Sprintf("plugin %s: is a directory", shown(path)))
	case !st.Mode().IsRegular():
		return notRunnable(fmt.Sprintf("plugin %s: not a regular file", shown(path)))
	case st.Mode()&0o111 == 0:
		return notRunnable(fmt.Sprintf("plugin %s: not executable", shown(path)))
	}
	return nil
}

// DefaultSocket is where the server's socket is if nothing else is said:
// rumpus/default.sock in $XDG_RUNTIME_DIR, or else in /run/user/UID if that is
// there, or else /tmp/rumpus-UID/default.sock. Whoever makes the directory has
// to see that it is the user's own and 0700. environ nil is the process's own.
func DefaultSocket(environ []string) string {
	if environ == nil {
		environ = os.Environ()
	}
	dir := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "XDG_RUNTIME_DIR="); ok {
			dir = v
		}
	}
	uid := strconv.Itoa(os.Getuid())
	if !filepath.IsAbs(dir) {
		dir = "/run/user/" + uid
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return "/tmp/rumpus-" + uid + "/default.sock"
		}
	}
	return filepath.Join(dir, "rumpus", "default.sock")
}

// SocketPath is Server.Socket, or DefaultSocket if that is empty.
func (c *Config) SocketPath(environ []string) string {
	if c.Server.Socket != "" {
		return c.Server.Socket
	}
	return DefaultSocket(environ)
}
