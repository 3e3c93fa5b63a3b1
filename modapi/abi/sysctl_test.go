package abi

import (
	"bytes"
	"testing"
)

// TestSysctlCoding codes names, nodes and descriptions there and back.
func TestSysctlCoding(t *testing.T) {
	name, rest, err := ParseSysctlName(append(AppendSysctlName(nil, []int32{1, CTL_QUERY}), 9), 2)
	if err != nil || len(name) != 2 || name[1] != CTL_QUERY || !bytes.Equal(rest, []byte{9}) {
		t.Errorf("name %v %v %v", name, rest, err)
	}
	for _, n := range []int{-1, 0, 3, CTL_MAXNAME + 1} {
		if _, _, err := ParseSysctlName(make([]byte, 11), n); err != EINVAL {
			t.Errorf("name of %d: %v", n, err)
		}
	}
	b := AppendSysctlNode(nil, SysctlNode{-3, CTLTYPE_BOOL, CTLFLAG_READWRITE, "x"})
	b = AppendSysctlNode(b, SysctlNode{4, CTLTYPE_INT, 0, string(bytes.Repeat([]byte("y"), 40))})
	nodes, err := ParseSysctlNodes(b)
	if err != nil || len(nodes) != 2 || nodes[0] != (SysctlNode{-3, CTLTYPE_BOOL, CTLFLAG_READWRITE, "x"}) || len(nodes[1].Name) != SYSCTL_NAMELEN-1 {
		t.Errorf("nodes %v %v", nodes, err)
	}
	if _, err := ParseSysctlNodes(b[1:]); err != EINVAL {
		t.Error(err)
	}
	d := AppendSysctlDesc(AppendSysctlDesc(nil, 5, "five"), 6, "")
	m, err := ParseSysctlDescs(d)
	if err != nil || len(m) != 2 || m[5] != "five" || len(d)%4 != 0 {
		t.Errorf("descriptions %v %v", m, err)
	}
}

// FuzzSysctl: what a kernel answers may be anything.
func FuzzSysctl(f *testing.F) {
	f.Add(AppendSysctlDesc(AppendSysctlDesc(nil, 5, "five"), 6, ""))
	f.Add(AppendSysctlNode(nil, SysctlNode{1, 2, 3, "x"}))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseSysctlNodes(b)
		ParseSysctlDescs(b)
		ParseSysctlName(b, 3)
	})
}
