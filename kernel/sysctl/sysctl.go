// Package sysctl is the kernel's tree of named values: sysctl(9).
//
// Nodes have dotted names. A node is either a branch (CTLTYPE_NODE) or a value
// of type int, quad, bool, string or struct (text here). Values are read and
// written as text, which the node's functions convert; a number of type int
// is 32 bits, quad 64.
//
// Every branch and value also has a number, the same as NetBSD's where that
// has one, so that a name can be a vector of numbers (numbers.go). Some
// branches are made anew at every use, as proc.<pid> is (dynamic.go).
//
// Nodes come from the kernel itself (permanent once Finalize was called: they
// can neither be added nor removed after it) and from modules, which may add
// and remove theirs at any time.
//
// Locks: one RWMutex over the tree, a leaf but for a node's functions, which
// are called without it.
package sysctl

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Type is the type of a node (CTLTYPE_*).
type Type string

// The types.
const (
	TypeNode   Type = "node"
	TypeInt    Type = "int"
	TypeQuad   Type = "quad"
	TypeBool   Type = "bool"
	TypeString Type = "string"
	TypeStruct Type = "struct"
)

// Node describes a value. Get is required; without Set the node is read-only
// (EPERM). Set gets text that Check has found right for the type.
type Node struct {
	Name string
	Type Type
	Desc string
	Get  func() string
	Set  func(string) error
	// GetFor takes the place of Get where the value depends on who asks.
	GetFor func(c *abi.Caller) string
	// Large is a value, such as a list of all open files, that is read only by
	// who names it: lists of what is below a branch pass over it.
	Large bool
	// Owner is the module that the node belongs to; "" is the kernel, whose
	// nodes are permanent after Finalize.
	Owner string
}

// Row is a node as listed.
type Row struct {
	Name     string `json:"name"`
	Type     Type   `json:"type"`
	Value    string `json:"value"`
	Desc     string `json:"desc"`
	Writable bool   `json:"writable"`
}

// Tree is a kernel's sysctl tree.
type Tree struct {
	mu    sync.RWMutex
	nodes map[string]*Node // protected by mu
	fixed bool             // protected by mu

	dyn     map[string]Dynamic // protected by mu
	branch  map[string]string  // descriptions of branches, protected by mu
	num     map[string]int32   // numbers given so far, protected by mu
	lastNum int32              // protected by mu
}

// New makes an empty tree.
func New() *Tree {
	return &Tree{nodes: make(map[string]*Node), dyn: make(map[string]Dynamic), branch: make(map[string]string), num: make(map[string]int32)}
}

// MaxName bounds a node's name, in bytes.
const MaxName = 256

func validName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for _, part := range strings.Split(s, ".") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-@") != "" {
			return false
		}
	}
	return true
}

// Create adds a node (sysctl_createv). EEXIST; EINVAL for a bad name; ENOTDIR
// if a part of its name is a value; EISDIR if it would be above other nodes;
// EPERM for a kernel node after Finalize.
func (t *Tree) Create(n Node) error {
	if !validName(n.Name) || n.Get == nil && n.GetFor == nil {
		return fmt.Errorf("sysctl node %.40q: %w", n.Name, abi.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fixed && n.Owner == "" {
		return fmt.Errorf("sysctl %s: the permanent tree is fixed: %w", n.Name, abi.EPERM)
	}
	if t.nodes[n.Name] != nil {
		return fmt.Errorf("sysctl %s: %w", n.Name, abi.EEXIST)
	}
	for i := range n.Name {
		if n.Name[i] == '.' && t.nodes[n.Name[:i]] != nil {
			return fmt.Errorf("sysctl %s: %s is a value: %w", n.Name, n.Name[:i], abi.ENOTDIR)
		}
	}
	if t.hasBelow(n.Name) {
		return fmt.Errorf("sysctl %s: there are nodes below it: %w", n.Name, abi.EISDIR)
	}
	if _, ok := t.branch[n.Name]; ok {
		return fmt.Errorf("sysctl %s: is a branch: %w", n.Name, abi.EISDIR)
	}
	for p := range t.dyn {
		if n.Name == p || strings.HasPrefix(n.Name, p+".") {
			return fmt.Errorf("sysctl %s: nobody adds to %s: %w", n.Name, p, abi.EPERM)
		}
	}
	t.nodes[n.Name] = &n
	return nil
}

func (t *Tree) hasBelow(name string) bool {
	for k := range t.nodes {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

// Destroy removes all nodes of a module (sysctl_teardown). The kernel's own
// are not removed.
func (t *Tree) Destroy(owner string) {
	if owner == "" {
		return
	}
	t.mu.Lock()
	for k, n := range t.nodes {
		if n.Owner == owner {
			delete(t.nodes, k)
		}
	}
	t.mu.Unlock()
}

// Finalize fixes the permanent tree (sysctl_finalize).
func (t *Tree) Finalize() {
	t.mu.Lock()
	t.fixed = true
	t.mu.Unlock()
}

func (t *Tree) find(name string) (*Node, error) {
	t.mu.RLock()
	n := t.nodes[name]
	_, branch := t.branch[name]
	_, dyn := t.dyn[name]
	branch = branch || dyn || n == nil && t.hasBelow(name)
	for b := range t.branch {
		branch = branch || strings.HasPrefix(b, name+".")
	}
	above := ""
	for i := range name {
		if name[i] == '.' && t.nodes[name[:i]] != nil {
			above = name[:i]
		}
	}
	t.mu.RUnlock()
	if n == nil && !branch && above == "" {
		for _, d := range t.dynNodes(name) {
			if d.Name == name {
				return d, nil
			}
			branch = true
		}
	}
	switch {
	case n != nil:
		return n, nil
	case branch:
		return nil, fmt.Errorf("sysctl %s: is a branch: %w", name, abi.EISDIR)
	case above != "":
		return nil, fmt.Errorf("sysctl %s: %s is a value: %w", name, above, abi.ENOTDIR)
	}
	return nil, fmt.Errorf("sysctl %s: %w", name, abi.ENOENT)
}

// Get reads a value as the kernel sees it. ENOENT; EISDIR for a branch; ENOTDIR
// below a value.
func (t *Tree) Get(name string) (string, error) { return t.GetAs(abi.KernelCaller, name) }

// GetAs is Get for a caller.
func (t *Tree) GetAs(c *abi.Caller, name string) (string, error) {
	n, err := t.find(name)
	if err != nil {
		return "", err
	}
	return n.value(c), nil
}

func (n *Node) value(c *abi.Caller) string {
	if n.GetFor != nil {
		return n.GetFor(c)
	}
	return n.Get()
}

// Set writes a value. Besides Get's errors EPERM for a read-only node, EINVAL
// for text that is not of the node's type. Who may is asked before.
func (t *Tree) Set(name, val string) error {
	n, err := t.find(name)
	if err != nil {
		return err
	}
	if n.Set == nil {
		return fmt.Errorf("sysctl %s: read-only: %w", name, abi.EPERM)
	}
	if err := check(n.Type, val); err != nil {
		return fmt.Errorf("sysctl %s: %q is no %s: %w", name, clip(val), n.Type, err)
	}
	if err := n.Set(val); err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	return nil
}

func check(t Type, val string) error {
	var err error
	switch t {
	case TypeInt:
		_, err = strconv.ParseInt(val, 0, 32)
	case TypeQuad:
		_, err = strconv.ParseInt(val, 0, 64)
	case TypeBool:
		if val != "0" && val != "1" {
			return abi.EINVAL
		}
	}
	if err != nil {
		return abi.EINVAL
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// List answers the node called name, or all nodes below it, or all nodes for
// "", sorted by name. ENOENT, ENOTDIR.
func (t *Tree) List(name string) ([]Row, error) { return t.ListAs(abi.KernelCaller, name) }

// ListAs is List for a caller.
func (t *Tree) ListAs(c *abi.Caller, name string) ([]Row, error) {
	if name != "" {
		if n, err := t.find(name); err == nil {
			return []Row{n.row(c)}, nil
		} else if abi.ErrnoOf(err) != abi.EISDIR {
			return nil, err
		}
	}
	ns := slices.DeleteFunc(t.below(c, name), func(n *Node) bool { return n.Large })
	sort.Slice(ns, func(i, j int) bool { return ns[i].Name < ns[j].Name })
	rows := make([]Row, len(ns))
	for i, n := range ns {
		rows[i] = n.row(c)
	}
	return rows, nil
}

func (n *Node) row(c *abi.Caller) Row {
	return Row{n.Name, n.Type, n.value(c), n.Desc, n.Set != nil}
}

// Const makes a Get function of a fixed text.
func Const(s string) func() string { return func() string { return s } }

// Int makes a Get function of a number.
func Int[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64](f func() T) func() string {
	return func() string { return fmt.Sprint(f()) }
}
