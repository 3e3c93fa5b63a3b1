package sysctl

import (
	"strings"
)

// Dynamic is a branch whose parts come and go by themselves, as proc.<pid>
// does: the tree asks for them at every use.
type Dynamic struct {
	Parts func() []string          // names of what there is now, such as pids
	Nodes func(part string) []Node // values below one, with names that are relative to it; nil if it is gone
}

// Dynamic adds such a branch below a name that has nothing else. Like the
// kernel's nodes it is permanent.
func (t *Tree) Dynamic(name string, d Dynamic) {
	t.mu.Lock()
	t.dyn[name] = d
	t.mu.Unlock()
}

// Branch describes a branch, so that it is there even with nothing below.
func (t *Tree) Branch(name, desc string) {
	t.mu.Lock()
	t.branch[name] = desc
	t.mu.Unlock()
}

// dynamic finds the dynamic branch that name is in, and what of name is below.
func (t *Tree) dynamic(name string) (d Dynamic, prefix, rest string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for p, d := range t.dyn {
		if name == p {
			return d, p, "", true
		}
		if r, ok := strings.CutPrefix(name, p+"."); ok {
			return d, p, r, true
		}
	}
	return Dynamic{}, "", "", false
}

// dynNodes are the values of a dynamic branch at and below name, with their
// whole names.
func (t *Tree) dynNodes(name string) []*Node {
	d, prefix, rest, ok := t.dynamic(name)
	if !ok {
		return nil
	}
	parts := []string{}
	if rest == "" {
		parts = d.Parts()
	} else {
		part, _, _ := strings.Cut(rest, ".")
		parts = append(parts, part)
	}
	var ns []*Node
	for _, p := range parts {
		for _, n := range d.Nodes(p) {
			n.Name = prefix + "." + p + "." + n.Name
			if n.Name == name || strings.HasPrefix(n.Name, name+".") {
				ns = append(ns, &n)
			}
		}
	}
	return ns
}

// below lists the values below a branch, in no order; "" is the root.
func (t *Tree) below(name string) []*Node {
	var ns []*Node
	t.mu.RLock()
	for k, n := range t.nodes {
		if name == "" || strings.HasPrefix(k, name+".") {
			ns = append(ns, n)
		}
	}
	var dyn []string
	for p := range t.dyn {
		if name == "" || strings.HasPrefix(p, name+".") {
			dyn = append(dyn, p)
		}
	}
	t.mu.RUnlock()
	if len(dyn) == 0 && name != "" {
		dyn = append(dyn, name)
	}
	for _, p := range dyn {
		ns = append(ns, t.dynNodes(p)...)
	}
	return ns
}
