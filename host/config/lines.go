package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// locate finds the lines of the file's mistakes, and sorts all: the file's by
// line, then the others as they were found.
func (b *builder) locate(data []byte) {
	var doc yaml.Node
	lines := map[string]int{}
	if decodeNode(data, &doc) && len(doc.Content) > 0 {
		findLines(doc.Content[0], "", 0, lines)
	}
	for _, e := range b.errs {
		if e.File != b.name || e.Line > 0 {
			continue
		}
		// What is missing is looked for where it should be.
		for i := len(e.path); i > 0 && e.Line == 0; i-- {
			e.Line = lines[strings.Join(e.path[:i], "/")]
		}
	}
	rank := func(e *Error) int {
		if e.File == b.name {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(b.errs, func(x, y *Error) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Line, y.Line))
	})
}

// decodeNode reads the first document; false if it is none.
func decodeNode(data []byte, doc *yaml.Node) (ok bool) {
	defer func() {
		if recover() != nil { // see parseYAML
			ok = false
		}
	}()
	return yaml.Unmarshal(data, doc) == nil
}

// findLines notes the line of each key and each entry of a list below n, which
// is at path. What an alias stands for is where the alias is.
func findLines(n *yaml.Node, path string, depth int, lines map[string]int) {
	if depth > maxDepth+8 {
		return
	}
	sub := func(name string, line int, v *yaml.Node) {
		if path != "" {
			name = path + "/" + name
		}
		if _, twice := lines[name]; !twice {
			lines[name] = line
		}
		findLines(v, name, depth+1, lines)
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			sub(n.Content[i].Value, n.Content[i].Line, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			sub(strconv.Itoa(i), e.Line, e)
		}
	}
}
