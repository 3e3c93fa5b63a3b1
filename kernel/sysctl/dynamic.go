package sysctl

import (
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Dynamic is a branch whose parts come and go by themselves, as proc.<pid>
// does: the tree asks for them at every use.
type Dynamic struct {
	Parts func() []string          // names of what there is now, such as pids
	Nodes func(part string) []Node // values below one, with names that are relative to it; nil if it is gone
	// Own is the part that a caller is shown when he lists the branch, or all
	// nodes: there may be thousands of others. Nil: all are shown.
	Own func(c *abi.Caller) string
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

// dynNodes are the values of a dynamic branch at and below name, which is a part
// or below one, with their whole names.
func (t *Tree) dynNodes(name string) []*Node {
	d, prefix, rest, ok := t.dynamic(name)
	if !ok || rest == "" {
		return nil
	}
	part, _, _ := strings.Cut(rest, ".")
	var ns []*Node
	for _, n := range d.Nodes(part) {
		n.Name = prefix + "." + part + "." + n.Name
		if n.Name == name || strings.HasPrefix(n.Name, name+".") {
			ns = append(ns, &n)
		}
	}
	return ns
}

// static lists the values below a branch that are not dynamic, in no order; ""
// is the root.
func (t *Tree) static(name string) []*Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var ns []*Node
	for k, n := range t.nodes {
		if name == "" || strings.HasPrefix(k, name+".") {
			ns = append(ns, n)
		}
	}
	return ns
}

// below lists the values below a branch that a caller is shown, in no order.
func (t *Tree) below(c *abi.Caller, name string) []*Node {
	ns := append(t.static(name), t.dynNodes(name)...)
	t.mu.RLock()
	dyn := make(map[string]Dynamic)
	for p, d := range t.dyn {
		if name == "" || p == name || strings.HasPrefix(p, name+".") {
			dyn[p] = d
		}
	}
	t.mu.RUnlock()
	for p, d := range dyn {
		var parts []string
		if d.Own != nil {
			parts = []string{d.Own(c)}
		} else {
			parts = d.Parts()
		}
		for _, part := range parts {
			ns = append(ns, t.dynNodes(p+"."+part)...)
		}
	}
	return ns
}
