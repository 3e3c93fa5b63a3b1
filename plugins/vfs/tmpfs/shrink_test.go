package tmpfs

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestShrink: the tables of many nodes lose their room when most have gone, and
// nothing else.
func TestShrink(t *testing.T) {
	const n = shrinkFrom + shrinkFrom/2
	k := mount(t, "nodes", fmt.Sprint(n+10), "size", "64m")
	root := k.rootH()
	var made []abi.Handle
	for i := range n {
		made = append(made, k.file(root, fmt.Sprint("f", i)))
	}
	d := k.FS.nodes[root.File].dir
	nodes, names := reflect.ValueOf(k.FS.nodes).Pointer(), reflect.ValueOf(d.names).Pointer()
	for i := range n - 10 {
		_, err := k.remove(root, fmt.Sprint("f", i), made[i])
		k.ok(err)
	}
	if reflect.ValueOf(k.FS.nodes).Pointer() == nodes || k.peak >= n/2 {
		t.Errorf("the table has the room of %d nodes", k.peak)
	}
	if reflect.ValueOf(d.names).Pointer() == names {
		t.Error("the directory has the room it had")
	}
	for i := n - 10; i < n; i++ {
		if es, e := k.lookup(root, fmt.Sprint("f", i)); e != 0 || len(es) != 1 || es[0].Handle != made[i] {
			t.Errorf("f%d: %+v, %v", i, es, e)
		}
	}
	if got := k.list(root, 4096); len(got) != 10 {
		t.Errorf("%d names", len(got))
	}
}
