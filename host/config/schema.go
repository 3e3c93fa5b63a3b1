package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"time"
)

// node is one place of the schema: what may stand at a key.
type node struct {
	kind kind
	// fields are a section's keys, names the same sorted.
	fields map[string]*node
	names  []string
	// elem is what a map or a list holds.
	elem *node
	// keyRule checks the names of a map or a free map.
	keyRule func(string) error
	// nested lets a free map hold lists and maps too.
	nested bool
	// parse is a leaf's; see values.go.
	parse func(any) (any, error)
	// typ is a leaf's type, for the reading of strings.
	typ reflect.Type
	// rule may be nil; see rules.go.
	rule func(any) (any, error)
}

type kind uint8

const (
	section kind = iota // a struct: known keys
	mapOf               // names of the user's, one schema for all
	listOf              // a list of sections
	free                // names and values of the user's
	leaf
)

// parsers has the leaf types.
var parsers = map[reflect.Type]func(any) (any, error){
	reflect.TypeFor[bool]():          parseBool,
	reflect.TypeFor[int]():           parseInt,
	reflect.TypeFor[string]():        parseText,
	reflect.TypeFor[[]string]():      parseTexts,
	reflect.TypeFor[[]any]():         parseList,
	reflect.TypeFor[time.Duration](): parseDuration,
	reflect.TypeFor[Size]():          parseSize,
	reflect.TypeFor[CPUs]():          parseCPUs,
	reflect.TypeFor[Mode]():          parseMode,
}

// schema is the whole of it, and paths its keys below the top, joined by "/",
// with "*" for the names of maps and entries of lists.
var (
	schema = schemaOf(reflect.TypeFor[Config](), "")
	paths  = schema.paths("")
)

// schemaOf derives the schema from a struct and its tags. It panics on a tag
// that says nothing known, when the program starts.
func schemaOf(t reflect.Type, tag reflect.StructTag) *node {
	n := &node{typ: t}
	if r := tag.Get("rule"); r != "" {
		if n.rule = rules[r]; n.rule == nil {
			panic("config: no rule " + r)
		}
	}
	names := tag.Get("keys") + tag.Get("free")
	if names != "" {
		if n.keyRule = keyRules[names]; n.keyRule == nil {
			panic("config: no key rule " + names)
		}
	}
	switch parse := parsers[t]; {
	case parse != nil:
		n.kind, n.parse = leaf, parse
	case tag.Get("free") != "":
		n.kind, n.nested = free, names == "any" || names == "device"
	case t.Kind() == reflect.Map:
		n.kind, n.elem = mapOf, schemaOf(t.Elem(), "")
	case t.Kind() == reflect.Slice:
		n.kind, n.elem = listOf, schemaOf(t.Elem(), "")
	case t.Kind() == reflect.Struct:
		n.kind, n.fields = section, map[string]*node{}
		for f := range t.Fields() {
			if name := f.Tag.Get("koanf"); name != "-" {
				n.fields[name] = schemaOf(f.Type, f.Tag)
				n.names = append(n.names, name)
			}
		}
		sort.Strings(n.names)
	default:
		panic("config: no schema for " + t.String())
	}
	return n
}

// paths lists every key below n.
func (n *node) paths(prefix string) []string {
	var out []string
	for _, name := range n.names {
		p := prefix + name
		out = append(out, p)
		out = append(out, n.fields[name].paths(p+"/")...)
	}
	if n.elem != nil {
		out = append(out, n.elem.paths(prefix+"*/")...)
	}
	return out
}

// fault is a value that does not fit the schema.
type fault struct {
	path []string
	msg  string
}

func faultf(path []string, format string, args ...any) *fault {
	return &fault{slices.Clone(path), fmt.Sprintf(format, args...)}
}

// maxFaults bounds how many mistakes of one source are told.
const maxFaults = 50

// checker holds a value against the schema and collects what does not fit.
type checker struct {
	seen   func(path []string) // called for every place that the value sets
	faults []*fault
}

// add notes a mistake and reports whether there was none.
func (c *checker) add(f *fault) bool {
	if f != nil && len(c.faults) < maxFaults {
		c.faults = append(c.faults, f)
	}
	return f == nil
}

// check holds v, found at path, against the schema. It gives v back with each
// leaf in its field's type and each mapping as map[string]any, without what does
// not fit.
//
// Nothing at all stands for an empty section, map or list, so that one whose
// lines are all commented out does not get in the way.
func (n *node) check(path []string, v any, c *checker) any {
	c.seen(path)
	switch n.kind {
	case leaf:
		out, f := n.checkLeaf(path, v)
		if !c.add(f) {
			return nil
		}
		return out
	case listOf:
		return n.checkList(path, v, c)
	}
	out := map[string]any{}
	m, f := stringKeys(path, v)
	if !c.add(f) {
		return out
	}
	limit := maxFree
	if n.kind == mapOf {
		limit = maxComponents
	}
	if n.kind != section && len(m) > limit {
		c.add(faultf(path, "%d entries, at most %d are allowed", len(m), limit))
		return out
	}
	for _, k := range sortedKeys(m) {
		at := append(slices.Clip(path), k)
		var sub any
		switch n.kind {
		case section:
			field := n.fields[k]
			if field == nil {
				c.add(faultf(at, "%s", unknown(k, n.names, paths)))
				continue
			}
			sub = field.check(at, m[k], c)
		default:
			if err := n.keyRule(k); err != nil {
				c.add(faultf(at, "%v", err))
				continue
			}
			if n.kind == mapOf {
				sub = n.elem.check(at, m[k], c)
			} else {
				c.seen(at)
				sub, f = n.checkFree(at, m[k], 0)
				c.add(f)
			}
		}
		if sub != nil {
			out[k] = sub
		}
	}
	return out
}

func (n *node) checkLeaf(path []string, v any) (any, *fault) {
	if v == nil && n.typ.Kind() == reflect.Slice {
		v = []any{}
	}
	out, err := n.parse(v)
	if err == nil && n.rule != nil {
		out, err = n.rule(out)
	}
	var r refusal
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, &r):
		return nil, faultf(path, "%s", r)
	}
	return nil, faultf(path, "got %s, %v", got(v), err)
}

func (n *node) checkList(path []string, v any, c *checker) any {
	if v == nil {
		return []any{}
	}
	l, ok := v.([]any)
	if !ok {
		c.add(faultf(path, "got %s, wanted a list", got(v)))
		return nil
	}
	if n.rule != nil {
		if _, err := n.rule(l); err != nil {
			c.add(faultf(path, "%v", err))
			return nil
		}
	}
	out := make([]any, len(l))
	for i, e := range l {
		out[i] = n.elem.check(append(slices.Clip(path), strconv.Itoa(i)), e, c)
	}
	return out
}

// checkFree accepts what a free map may hold: scalars, and with nested also
// lists and mappings of these.
func (n *node) checkFree(path []string, v any, depth int) (any, *fault) {
	switch x := v.(type) {
	case bool, int, uint64:
		return x, nil
	case int64:
		return int(x), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, faultf(path, "got %s, wanted a finite one", got(v))
		}
		return x, nil
	case string:
		if err := checkText(x); err != nil {
			return nil, faultf(path, "got %s, %v", got(v), err)
		}
		return x, nil
	}
	wanted := "wanted text, a number, true or false"
	if !n.nested || v == nil {
		return nil, faultf(path, "got %s, %s", got(v), wanted)
	}
	if depth >= maxDepth {
		return nil, faultf(path[:min(len(path), 4)], "nested more than %d deep", maxDepth)
	}
	switch x := v.(type) {
	case []any:
		if len(x) > maxFree {
			return nil, faultf(path, "%d entries, at most %d are allowed", len(x), maxFree)
		}
		out := make([]any, len(x))
		for i, e := range x {
			var f *fault
			if out[i], f = n.checkFree(append(slices.Clip(path), strconv.Itoa(i)), e, depth+1); f != nil {
				return nil, f
			}
		}
		return out, nil
	case map[string]any, map[any]any:
		m, f := stringKeys(path, v)
		if f != nil {
			return nil, f
		}
		if len(m) > maxFree {
			return nil, faultf(path, "%d entries, at most %d are allowed", len(m), maxFree)
		}
		out := make(map[string]any, len(m))
		for _, k := range sortedKeys(m) {
			at := append(slices.Clip(path), k)
			if err := n.keyRule(k); err != nil {
				return nil, faultf(at, "%v", err)
			}
			if out[k], f = n.checkFree(at, m[k], depth+1); f != nil {
				return nil, f
			}
		}
		return out, nil
	}
	return nil, faultf(path, "got %s, %s", got(v), wanted)
}

// stringKeys is the mapping v with its names as text: YAML reads 1 and true as
// what they look like, as a name too.
func stringKeys(path []string, v any) (map[string]any, *fault) {
	switch m := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return m, nil
	case map[any]any:
		out := make(map[string]any, len(m))
		for k, e := range m {
			switch k.(type) {
			case string, int, bool:
			default:
				return nil, faultf(path, "a name is %s, wanted text", got(k))
			}
			name := fmt.Sprint(k)
			if _, twice := out[name]; twice {
				return nil, faultf(path, "the name %s is there twice", shown(name))
			}
			out[name] = e
		}
		return out, nil
	}
	return nil, faultf(path, "got %s, wanted a mapping", got(v))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
