package dev

// majors are the character device majors of NetBSD/amd64 (majors.amd64 and
// sys/conf/majors) for names that a driver may well have here.
var majors = map[string]uint32{
	"cons": 0, "ctty": 1, "mem": 2, "wd": 3, "pts": 5, "ptc": 6, "log": 7, "com": 8,
	"fd": 9, "sd": 13, "st": 14, "cd": 15, "lpt": 16, "ccd": 18, "filedesc": 22,
	"bpf": 23, "md": 24, "spkr": 27, "tun": 40, "vnd": 41, "audio": 42, "rnd": 46,
	"wsdisplay": 47, "wskbd": 48, "wsmouse": 49, "midi": 58, "raid": 62, "ld": 69,
	"cgd": 81, "ksyms": 85, "crypto": 160, "pf": 161, "fss": 163, "ptm": 165, "dk": 168,
	"drvctl": 167, "tap": 169, "putter": 178, "cpuctl": 188,
}

// bmajors are the block device majors.
var bmajors = map[string]uint32{
	"wd": 0, "fd": 2, "sd": 4, "st": 5, "cd": 6, "vnd": 14, "ccd": 16, "md": 17, "raid": 18, "ld": 19, "cgd": 21,
	"dk": 168, "fss": 163,
}

// Majors from firstDynamic on go to drivers that are not in the table; NetBSD
// has none there. lastMajor is what a device number has room for.
const (
	firstDynamic = 360
	lastMajor    = 0xfff
	maxUnit      = 0xfffff
)
