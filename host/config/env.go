package config

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
)

// envPrefix begins the variables that are keys.
const envPrefix = "RUMPUS_"

// alias is one of NetBSD's variables and the key that it stands for.
type alias struct {
	name string
	path []string
	// value makes the key's value of the variable's.
	value func(s string) any
}

// aliases are the variables that NetBSD's rump kernels know. Flags are as
// there: 0 in front means no, anything else, even nothing, means yes.
var aliases = []alias{
	{"RUMP_BLKFAIL", []string{"kernel", "blkfail"}, asIs},
	{"RUMP_BLKFAIL_SEED", []string{"kernel", "blkfail-seed"}, asIs},
	{"RUMP_MEMLIMIT", []string{"kernel", "memlimit"}, asIs},
	{"RUMP_NCPU", []string{"kernel", "ncpu"}, asIs},
	{"RUMP_SERVER", []string{"server", "socket"}, asIs},
	{"RUMP_THREADS", []string{"kernel", "threads"}, notZero},
	{"RUMP_VERBOSE", []string{"kernel", "verbose"}, notZero},
}

func asIs(s string) any    { return s }
func notZero(s string) any { return !strings.HasPrefix(s, "0") }

// environment puts the two environment layers on top: NetBSD's names, then
// ours in the order of their names, so that RUMPUS_COMPONENTS comes before
// RUMPUS_COMPONENTS__NET__ENABLED. Of a name that is there twice the last
// counts, as in os/exec.
func (b *builder) environment(environ []string) {
	env := map[string]string{}
	for _, kv := range environ {
		if name, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "RUMP") {
			env[name] = v
		}
	}
	for _, a := range aliases {
		if v, ok := env[a.name]; ok {
			b.set(envSource(a.name), a.path, a.value(v))
		}
	}
	for _, name := range sortedKeys(env) {
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok || !isKey(rest) {
			continue
		}
		path, n, inFree := b.envPath(strings.Split(rest, "__"))
		v, err := any(env[name]), error(nil)
		if n != nil {
			if v, err = n.fromText(env[name], inFree); err != nil {
				b.wrong(envSource(name), faultf(path, "%s", err))
				continue
			}
		}
		b.set(envSource(name), path, v)
	}
}

func envSource(name string) string { return "environment " + shown(name) }

// isKey tells a variable that is meant as a key from others of the program's,
// RUMPUS_CONFIG among them: it begins with a section's name. Without "__"
// behind that it is a likely mistake, which must not go unnoticed.
func isKey(rest string) bool {
	first, _, _ := strings.Cut(rest, "_")
	return schema.fields[strings.ToLower(first)] != nil || strings.Contains(rest, "__")
}

// envPath finds the key that the parts of a variable's name mean: letter case
// does not count, and "_" is also "-" (and "." in sysctl names). Names in maps
// are those that are there already, or else new ones in small letters. If
// there is no such key, n is nil and path is the best that can be said.
func (b *builder) envPath(parts []string) (path []string, n *node, inFree bool) {
	n = schema
	for i, p := range parts {
		switch {
		case n != nil && n.kind == section:
			name := match(p, n.names)
			path, n = append(path, name), n.fields[name]
		case n != nil && n.kind == mapOf:
			path, n = append(path, match(p, sortedKeys(b.section(strings.Join(path, "/"))))), n.elem
		case n != nil && n.kind == free:
			there := sortedKeys(b.section(strings.Join(path, "/")))
			if n.nested {
				for j, q := range parts[i:] {
					name := match(q, there)
					path = append(path, name)
					// Below the first name nothing is known to match.
					if there = nil; j == 0 {
						there = sortedKeys(b.section(strings.Join(path, "/")))
					}
				}
				return path, n, true
			}
			// In sysctl names the parts are the words between dots.
			return append(path, match(strings.Join(parts[i:], "."), there)), n, true
		default:
			path, n = append(path, fold(p)), nil
		}
	}
	return path, n, false
}

// fold is a part of a variable's name in the case and with the hyphens of keys.
func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }

// match is the one of names that part means, or part itself in small letters
// (as it is, if it has some already).
func match(part string, names []string) string {
	for _, exact := range []bool{true, false} {
		for _, name := range names {
			if exact && strings.EqualFold(name, part) || !exact && fold(name) == fold(part) {
				return name
			}
		}
	}
	if part == strings.ToUpper(part) {
		return strings.ToLower(part)
	}
	return part
}

// fromText makes of a variable's or flag's text what YAML would have made of
// it in this place: text stays as it is, a list of texts may be written with
// commas, everything else is YAML. Text that is no such thing is left for
// check to refuse.
func (n *node) fromText(s string, inFree bool) (any, error) {
	switch {
	case n.kind == leaf && !inFree:
		switch n.typ.Kind() {
		case reflect.Bool:
			if v, err := strconv.ParseBool(s); err == nil {
				return v, nil
			}
			return s, nil
		case reflect.Slice:
			if t := strings.TrimSpace(s); !strings.HasPrefix(t, "[") {
				l := []any{}
				if t != "" {
					for e := range strings.SplitSeq(t, ",") {
						l = append(l, strings.TrimSpace(e))
					}
				}
				return l, nil
			}
		default:
			if _, notInt := n.parse(0); notInt != nil {
				return s, nil
			}
			if v, err := strconv.Atoi(s); err == nil {
				return v, nil
			}
			return s, nil
		}
	case inFree && s == "":
		return "", nil
	}
	v, err := parseYAML([]byte(s))
	if err != nil {
		return nil, errors.New("got " + got(s) + ", which is not YAML: " + err.Error())
	}
	if inFree && v == nil {
		return s, nil
	}
	return v, nil
}
