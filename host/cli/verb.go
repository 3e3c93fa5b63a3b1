package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// group is a heading of the manual.
type group string

const (
	groupKernel  group = "Kernel"
	groupModules group = "Modules"
	groupFiles   group = "Files"
	groupMounts  group = "Mounts"
	groupDevices group = "Devices"
	groupNet     group = "Network"
	groupOther   group = "Other"
)

var groups = []group{groupKernel, groupModules, groupFiles, groupMounts, groupDevices, groupNet, groupOther}

// runFunc does the work of a verb; args are the operands.
type runFunc func(ctx context.Context, c *call, args []string) error

// example is a command line and what it does.
type example struct{ cmd, text string }

// verb is a command of rumpus with its manual page.
type verb struct {
	name  string
	group group
	// synopsis are the forms of the command line, without "rumpus NAME".
	synopsis []string
	// short is one line without a period.
	short string
	// long are the paragraphs of DESCRIPTION. One that begins with a space is
	// kept as it is, others are filled.
	long     []string
	examples []example
	// exit are further lines of EXIT STATUS.
	exit []string
	// min and max bound the number of operands; max < 0 is no bound.
	min, max int
	// server marks verbs that are no client of a kernel: a signal does not
	// decide their exit code.
	server bool
	// rewrite, if there is one, puts arguments that are older than getopt into
	// a form that is not.
	rewrite func(args []string) []string
	setup   func(fs *pflag.FlagSet) runFunc
}

// verbs are all verbs, in the order of the manual. It is filled by init because
// help reads it.
var verbs []*verb

func init() {
	verbs = []*verb{
		runVerb, haltVerb, dmesgVerb, eventsVerb, sysctlVerb, vmstatVerb, iostatVerb, psVerb, killVerb, fstatVerb,
		modstatVerb, modloadVerb, modunloadVerb, replayVerb,
		lsVerb, catVerb, writeVerb, cpVerb, mkdirVerb, rmVerb, rmdirVerb, mvVerb, lnVerb,
		readlinkVerb, statVerb, touchVerb, chmodVerb, chownVerb, findVerb, duVerb, treeVerb, shVerb,
		mountVerb, umountVerb, dfVerb, fuseVerb,
		devVerb, cgdconfigVerb, vndconfigVerb, nbdVerb, ddVerb,
		ncVerb, ifconfigVerb,
		benchVerb, configVerb, helpVerb, versionVerb,
	}
}

func verbNamed(name string) *verb {
	i := slices.IndexFunc(verbs, func(v *verb) bool { return v.name == name })
	if i < 0 {
		return nil
	}
	return verbs[i]
}

// aliases are names from elsewhere, for suggestions only.
var aliases = map[string]string{
	"insmod": "modload", "rmmod": "modunload", "lsmod": "modstat", "unmount": "umount",
	"copy": "cp", "delete": "rm", "del": "rm", "remove": "rm", "unlink": "rm", "dir": "ls", "list": "ls",
	"rename": "mv", "move": "mv", "symlink": "ln", "link": "ln", "netcat": "nc", "shutdown": "halt",
	"stop": "halt", "poweroff": "halt", "reboot": "halt", "start": "run", "boot": "run", "serve": "run",
	"ip": "ifconfig", "tee": "write", "put": "cp", "get": "cp", "type": "cat", "man": "help",
	"log": "dmesg", "logs": "dmesg", "check": "config", "md": "mkdir", "rd": "rmdir",
	"drvctl": "dev", "disk": "dev", "disks": "dev", "attach": "dev", "detach": "dev", "lsblk": "dev", "losetup": "vndconfig",
	"cryptsetup": "cgdconfig", "luks": "cgdconfig", "vnconfig": "vndconfig", "cgd": "cgdconfig",
}

// suggest finds the verb that was probably meant, or "".
func suggest(name string) string {
	if a := aliases[name]; a != "" {
		return a
	}
	best, bestD := "", 3
	for _, v := range verbs {
		d := distance(name, v.name)
		if strings.HasPrefix(v.name, name) && len(name) > 1 {
			d = min(d, 1)
		}
		if d < bestD && d < max(len(name), 2) {
			best, bestD = v.name, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 32 {
		return len(a)
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// Table is the table of verbs as README.md shows it, in Markdown: a row for each
// group. A test holds the two together.
func Table() string {
	var b strings.Builder
	b.WriteString("| group | verbs |\n|---|---|\n")
	for _, g := range groups {
		b.WriteString("| " + string(g) + " |")
		for _, v := range verbs {
			if v.group == g {
				b.WriteString(" `" + v.name + "`")
			}
		}
		b.WriteString(" |\n")
	}
	return b.String()
}
