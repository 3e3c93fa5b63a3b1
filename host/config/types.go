package config

import (
	"path"
	"time"
)

// Config is a whole, checked configuration. The koanf tags are the key names;
// rule names a check of rules.go that the value passes through, keys one for
// the names of a map, and free marks a map whose names the schema does not
// know.
type Config struct {
	Kernel     Kernel               `koanf:"kernel"`
	Server     Server               `koanf:"server"`
	Components map[string]Component `koanf:"components" keys:"component"`
	Mounts     []Mount              `koanf:"mounts" rule:"mounts"`
	// Devices are block devices, by the names of their nodes in /dev.
	Devices    map[string]Device    `koanf:"devices" keys:"device"`
	Interfaces map[string]Interface `koanf:"interfaces" keys:"interface"`
	Exports    Exports              `koanf:"exports"`
	Log        Log                  `koanf:"log"`

	// Source is the file that was read, or BuiltIn.
	Source string `koanf:"-"`
}

// BuiltIn is the Source of a configuration that no file had a part in.
const BuiltIn = "built-in defaults"

// Kernel holds what the kernel core is booted with.
type Kernel struct {
	// Hostname is kern.hostname; "" lets the kernel make one from the host's.
	Hostname string `koanf:"hostname" rule:"hostname"`
	// NCPU is the number of virtual CPUs (NetBSD's RUMP_NCPU).
	NCPU CPUs `koanf:"ncpu"`
	// Memlimit bounds the memory that the kernel uses for files; zero is a
	// quarter of the host's (RUMP_MEMLIMIT).
	Memlimit Size `koanf:"memlimit"`
	// Threads lets the kernel make threads of its own (RUMP_THREADS).
	Threads bool `koanf:"threads"`
	// Verbose prints the boot messages to the console (RUMP_VERBOSE).
	Verbose bool `koanf:"verbose"`
	// Blkfail is how many of 10000 block requests fail on purpose, in
	// decimal; "" is none (RUMP_BLKFAIL).
	Blkfail string `koanf:"blkfail" rule:"blkfail"`
	// BlkfailSeed is the seed of it, in decimal; "" is another one each time
	// (RUMP_BLKFAIL_SEED).
	BlkfailSeed string `koanf:"blkfail-seed" rule:"blkfail-seed"`
	// Repro is the directory in which reproducers are kept; "" is the user's
	// own (package repro), ReproOff none. ReproRedact redacts them.
	Repro       string `koanf:"repro"`
	ReproRedact bool   `koanf:"repro-redact"`
	// Sysctl is set at boot, by dotted name; values are string, bool, int,
	// uint64 or float64.
	Sysctl map[string]any `koanf:"sysctl" free:"sysctl"`
	// Secmodels are the security models, in the order they are asked.
	Secmodels []string `koanf:"secmodels" rule:"secmodels"`
	// Owner is who the uid that runs the host is inside the kernel; always
	// "root".
	Owner string `koanf:"owner" rule:"owner"`
	// ModulePath is kern.module.path: directories with plugin binaries,
	// $EXE standing for the directory of the rumpus program. See PluginPath.
	ModulePath []string `koanf:"module-path" rule:"module-path"`
}

// ReproOff is the Repro of a kernel that keeps none.
const ReproOff = "off"

// Server says how clients reach the kernel.
type Server struct {
	// Socket is a path; "" is DefaultSocket. A unix:// URL in the
	// configuration is reduced to its path.
	Socket string `koanf:"socket" rule:"socket"`
	// Mode is the permission of the socket.
	Mode Mode `koanf:"mode"`
	// Clients is how many may be connected at once, 1 to 65536.
	Clients int `koanf:"clients" rule:"clients"`
}

// Component is one plugin instance, a process of its own.
type Component struct {
	// Name is the key the component stands under.
	Name string `koanf:"-"`
	// Class is the slot it fills: vfs, net or dev. Default: the name, when
	// that is one of these.
	Class string `koanf:"class" rule:"class"`
	// Plugin is a name on Kernel.ModulePath, or a path (anything with a
	// "/"). Default: the name.
	Plugin  string `koanf:"plugin" rule:"plugin"`
	Enabled bool   `koanf:"enabled"`
	// Essential makes the boot fail if the component cannot be started.
	Essential bool `koanf:"essential"`
	// StartTimeout is how long the process may take from exec to attached.
	StartTimeout time.Duration `koanf:"start-timeout" rule:"duration"`
	Restart      Restart       `koanf:"restart"`
	// Grant names the capabilities the module may be given of those it wants.
	Grant   []string       `koanf:"grant" rule:"grant"`
	Sandbox Sandbox        `koanf:"sandbox"`
	Props   map[string]any `koanf:"props" free:"any"`
}

// Restart says what happens when a component dies.
type Restart struct {
	// Budget is how many deaths within Window are answered by a restart.
	Budget int           `koanf:"budget" rule:"budget"`
	Window time.Duration `koanf:"window" rule:"duration"`
	// Wait is how long a caller waits for a component that is restarting.
	Wait time.Duration `koanf:"wait" rule:"duration"`
	// Spare has a started process stand by, so that a restart is quick.
	Spare bool `koanf:"spare"`
}

// Sandbox says which parts of the sandbox a component may go without.
type Sandbox struct {
	// MayMiss is always empty in this version.
	MayMiss []string `koanf:"may-miss" rule:"may-miss"`
}

// Device is a block device that is attached at boot: one of Etfs and Md says
// what it is.
type Device struct {
	// Etfs is a disk image or block device of the host.
	Etfs string `koanf:"etfs"`
	// Offset and Size are the part of it that is shown, in bytes; a Size of 0
	// reaches to the end.
	Offset Size `koanf:"offset"`
	Size   Size `koanf:"size"`
	// RO lets nobody write, Nolock lets other kernels have the file too.
	RO     bool `koanf:"ro"`
	Nolock bool `koanf:"nolock"`
	// Md is the size of a disk in the memory of the dev component; the name is
	// md0, md1, ...
	Md Size `koanf:"md"`
	// Partitions attaches the partitions of it too.
	Partitions bool `koanf:"partitions"`
}

// Mount is one entry of the mount list; they are made in order.
type Mount struct {
	// Dir is absolute and clean. The first mount's is "/".
	Dir string `koanf:"dir" rule:"dir"`
	// Type is a file-system type that the kernel or a component attached.
	Type string `koanf:"type" rule:"fstype"`
	// Source is what is mounted, as the type understands it.
	Source string `koanf:"source"`
	// Instance is the component that has it; "" is whichever attached Type.
	Instance string `koanf:"instance" rule:"instance"`
	// Essential makes the boot fail if the mount cannot be made, Noauto leaves
	// it to `rumpus mount DIR`.
	Essential bool `koanf:"essential"`
	Noauto    bool `koanf:"noauto"`
	// Options is never nil; values are string, bool, int, uint64 or float64.
	Options map[string]any `koanf:"options" free:"scalars"`
}

// Interface is a network interface; lo0 is the only one and has no settings.
type Interface struct{}

// Exports are ways into the kernel other than the server. This version has FUSE
// and NBD only: the rest of it is empty.
type Exports struct {
	Fuse    []Fuse  `koanf:"fuse" rule:"nbd"`
	NineP   []any   `koanf:"9p" rule:"export"`
	SFTP    []any   `koanf:"sftp" rule:"export"`
	NBD     []NBD   `koanf:"nbd" rule:"nbd"`
	Socks   []any   `koanf:"socks" rule:"export"`
	Metrics Metrics `koanf:"metrics"`
}

// Fuse is a directory of the kernel that is mounted on one of the host.
type Fuse struct {
	// Dir is the directory of the host, absolute.
	Dir string `koanf:"dir" rule:"dir"`
	// Path is the directory of the kernel; "" is "/".
	Path string `koanf:"path" rule:"fuse-path"`
	// RO lets nobody change anything through it, NoCache has the host keep
	// nothing of it, Xattr gives it extended attributes.
	RO      bool `koanf:"ro"`
	NoCache bool `koanf:"nocache"`
	Xattr   bool `koanf:"xattr"`
	// AllowOther lets other users of the host in.
	AllowOther bool `koanf:"allow-other"`
	// Passthrough has Linux read and write the files of hostfs mounts itself.
	Passthrough bool `koanf:"passthrough"`
}

// NBD is one block device of the kernel that is served by the NBD protocol.
// Those with the same Socket or Listen share a server.
type NBD struct {
	// Device is a node below /dev, or the path of one.
	Device string `koanf:"device" rule:"device-path"`
	// Socket is a unix socket of the host, Listen a loopback address
	// (HOST:PORT); one of them is set.
	Socket string `koanf:"socket" rule:"socket"`
	Listen string `koanf:"listen" rule:"loopback"`
	// Name is the export's; "" is the last part of Device.
	Name string `koanf:"name" rule:"export-name"`
	RO   bool   `koanf:"ro"`
}

// ExportName is the name under which clients find the device.
func (n *NBD) ExportName() string {
	if n.Name != "" {
		return n.Name
	}
	return path.Base(n.Device)
}

// Address is where the device is served, as host/export/nbd.Listen takes it.
func (n *NBD) Address() string {
	if n.Socket != "" {
		return "unix:" + n.Socket
	}
	return "tcp:" + n.Listen
}

// Metrics is the export of counters; see Exports.
type Metrics struct {
	Listen string `koanf:"listen" rule:"listen"`
}

// Log is about the host's own log, not the kernel's message buffer.
type Log struct {
	// Level is trace, debug, info, warn, error or off.
	Level string `koanf:"level" rule:"level"`
	// JSON writes one object a line instead of text.
	JSON bool `koanf:"json"`
	// File is where to; "" is standard error.
	File string `koanf:"file"`
}

// defaults is the bottom layer, in the form of a file. What every component
// has by default is in componentDefaults.
func defaults() map[string]any {
	return map[string]any{
		"kernel": map[string]any{
			"hostname": "", "ncpu": "host", "memlimit": 0, "threads": true, "verbose": false,
			"blkfail": "", "blkfail-seed": "", "repro": "", "repro-redact": false, "sysctl": map[string]any{}, "secmodels": []any{"suser"}, "owner": "root",
			"module-path": []any{"$EXE/plugins"},
		},
		"server":     map[string]any{"socket": "", "mode": "0700", "clients": 256},
		"components": map[string]any{"vfs": map[string]any{}, "net": map[string]any{}, "dev": map[string]any{}},
		"mounts": []any{
			map[string]any{"dir": "/", "type": "tmpfs"},
			map[string]any{"dir": "/dev", "type": "devfs"},
		},
		"devices":    map[string]any{},
		"interfaces": map[string]any{"lo0": map[string]any{}},
		"exports": map[string]any{
			"fuse": []any{}, "9p": []any{}, "sftp": []any{}, "nbd": []any{}, "socks": []any{},
			"metrics": map[string]any{"listen": ""},
		},
		"log": map[string]any{"level": "warn", "json": false, "file": ""},
	}
}

// componentDefaults is what a component called name has where nothing is said.
// A name that is no class has none: saying so is the file's duty.
func componentDefaults(name string) map[string]any {
	m := map[string]any{
		"plugin": name, "enabled": true, "essential": false, "start-timeout": "10s",
		"restart": map[string]any{"budget": 5, "window": "10s", "wait": "5s", "spare": false},
		"grant":   []any{}, "sandbox": map[string]any{"may-miss": []any{}}, "props": map[string]any{},
	}
	if classes[name] {
		m["class"] = name
	}
	if name == "vfs" { // the one of which callers notice nothing but the time
		m["restart"].(map[string]any)["spare"] = true
	}
	if name == "dev" {
		m["grant"] = []any{"host.console"}
	}
	return m
}

// replaced are the sections that a layer which sets them sets whole.
var replaced = map[string]bool{"components": true, "interfaces": true}
