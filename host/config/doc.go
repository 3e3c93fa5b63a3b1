// Package config reads the configuration of a rumpus host: what the kernel is
// called, which components fill its slots, what is mounted where, and how
// others reach it. It is the only package that knows koanf.
//
// A configuration is built from layers, each on top of the one before:
//
//	built-in defaults      three components, / and /dev, lo0
//	a YAML file            --config, $RUMPUS_CONFIG, or ./config.yaml if it is there
//	RUMP_* environment     NetBSD's six names, by a fixed table
//	RUMPUS_* environment   the key, "/" written as "__" and "-" as "_"
//	overrides              the command line's --set key=value
//
// A key is the path of names from the top, joined by "/": kernel/ncpu. koanf's
// usual delimiter is ".", but sysctl names hold dots, and a layer that wrote
// kernel.sysctl.kern.maxfiles would silently miss the file's
// "kern.maxfiles". No name may hold a "/" for the same reason.
//
// # How layers meet
//
// Values of a later layer win one by one, with these exceptions. Lists (mounts
// among them) are replaced whole. A file, a variable or an override that sets
// "components" or "interfaces" itself replaces the whole set, so that leaving
// net out of a file's components means an empty net slot; setting
// components/net/enabled alone changes only that. Inside one component what is
// left out has its default: a component is enabled because its name is there.
//
// # Strictness
//
// Every layer is held against a schema derived from the structs of this
// package before koanf merges it: unknown keys, wrong types and values out of
// range are refused, and so is what this version of the kernel cannot honour.
// What is wrong is told by Load all at once (Errors), or what only the whole can
// show once everything else is right. An *Error is one line that names the
// source, the key and what is wrong. The merged result is decoded with
// ErrorUnused, so that schema and structs cannot drift apart unnoticed. The
// bytes of a file are not trusted: whatever they are, Load answers with a
// Config or *Errors.
//
// Load keeps nothing: a Config is plain data, safe for concurrent readers as
// long as nobody writes to it. There are no locks in this package.
package config
