package rumpclient

import (
	"context"
	"encoding/json"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Disk is a block device of the kernel.
type Disk struct {
	Name     string   `json:"name"` // of the node in /dev
	Dev      string   `json:"dev"`  // "major,minor"
	Driver   string   `json:"driver"`
	Instance string   `json:"instance"` // of the plugin; "" = the kernel
	Type     string   `json:"type"`     // what the driver calls it
	Label    string   `json:"label"`
	Size     int64    `json:"size"`   // bytes
	Sector   uint32   `json:"sector"` // bytes
	ReadOnly bool     `json:"ro"`
	Opens    int      `json:"opens"`
	Busy     bool     `json:"busy"`  // one has it for itself
	Rank     int      `json:"rank"`  // how many lie below it
	On       []string `json:"on"`    // what it stands on
	Host     string   `json:"host"`  // path on the host, of etfs
	File     string   `json:"file"`  // path in the kernel, of vnd
	Error    string   `json:"error"` // why nothing is known of it
}

// Disks lists the block devices, by name.
func (c *Client) Disks(ctx context.Context) ([]Disk, error) {
	return list[Disk](ctx, c, abi.SYS_drvctl, "", func() *abi.Sysargs { return args(abi.DRV_LIST) })
}

// AttachDisk has a driver make block devices (drvctl): on is the node that they
// stand on or "", arg the driver's own (devops.Configurer). It answers the
// names of the new nodes. arg may hold keys: the caller clears it.
func (c *Client) AttachDisk(ctx context.Context, driver, on string, arg []byte) ([]string, error) {
	a := args(abi.DRV_ATTACH)
	a.Path[0], a.Path[1], a.In = driver, on, arg
	p := make([]byte, 256<<10) // all nodes that a driver can have: it must not be asked twice
	n, _, err := c.out(ctx, abi.SYS_drvctl, driver, a, p)
	if err != nil {
		return nil, err
	}
	var nodes []string
	if err := json.Unmarshal(p[:n], &nodes); err != nil {
		return nil, answer(abi.SYS_drvctl, driver, err)
	}
	return nodes, nil
}

// DetachDisk takes block devices away that AttachDisk made, all that came with a node.
// EBUSY: one is open, unless force.
func (c *Client) DetachDisk(ctx context.Context, node string, force bool) error {
	a := args(abi.DRV_DETACH)
	a.Path[0] = node
	if force {
		a.A[1] = 1
	}
	err := c.k.Syscall(ctx, abi.SYS_drvctl, a)
	free(a)
	return fail(abi.SYS_drvctl, node, err)
}

// ProbeDisk says what a block device holds, as a component sees it: a JSON object
// with contents (kind, type, label, uuid, ...) and table.
func (c *Client) ProbeDisk(ctx context.Context, node string) ([]byte, error) {
	return c.text(ctx, abi.SYS_drvctl, node, func() *abi.Sysargs {
		a := args(abi.DRV_PROBE)
		a.Path[0] = node
		return a
	})
}
