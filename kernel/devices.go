package kernel

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/etfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Device is a block device to attach when the kernel boots.
type Device struct {
	Driver string // "etfs", "vnd", "md", "dk", "nbd", ... as attached
	On     string // node that it stands on; "" = none
	Arg    []byte // the driver's own, see there
}

// attachEtfs makes the driver of the host's files.
func (k *Kernel) attachEtfs() {
	var number abi.Dev
	k.Etfs = etfs.New(etfs.Options{
		Open: k.hyp.OpenFile,
		Changed: func() {
			if err := k.Dev.BlkChanged("", number); err != nil {
				k.Msg.Logger("etfs").Error(err.Error())
			}
		},
	})
	n, err := k.Dev.AttachBlk("", "etfs", k.Etfs)
	if err != nil {
		k.Msg.Printf("etfs: %v", err)
		return
	}
	number = n
}

// attachDevices attaches devices: each after the one that it stands on, whatever
// their order. It answers those that a mount may yet help: a file that is not
// there, a node that is not there. With last there is no such hope. One that
// cannot be attached is told, and left out.
func (k *Kernel) attachDevices(ctx context.Context, rest []Device, last bool) []Device {
	for len(rest) > 0 {
		var later []Device
		for _, d := range rest {
			if _, err := k.block(d.On); d.On != "" && err != nil || !k.attachDevice(ctx, d, last) {
				later = append(later, d)
			}
		}
		if len(later) == len(rest) {
			break
		}
		rest = later
	}
	if !last {
		return rest
	}
	for _, d := range rest {
		k.attachDevice(ctx, d, true)
	}
	return nil
}

// attachDevice attaches one, and answers whether that is all that can be done:
// a vnd that fails is tried again unless it was the last time.
func (k *Kernel) attachDevice(ctx context.Context, d Device, last bool) bool {
	_, err := k.Attach(ctx, d.Driver, d.On, d.Arg)
	if err != nil && d.Driver == "vnd" && !last {
		return false
	}
	if err != nil {
		k.Msg.Logger("boot").Error(err.Error())
	}
	clear(d.Arg)
	return true
}

// block is the number of a block device by its node's name, with or without
// /dev/ before it. ENXIO.
func (k *Kernel) block(node string) (abi.Dev, error) {
	n, ok := k.Dev.Lookup(strings.TrimPrefix(node, "/dev/"))
	switch {
	case !ok:
		return abi.NoDev, fmt.Errorf("%.80q: no such disk: %w", node, abi.ENXIO)
	case !n.Blk:
		return abi.NoDev, fmt.Errorf("%.80s: not a block device: %w", node, abi.ENOTBLK)
	}
	return n.Dev, nil
}

// Attach has a driver make block devices from arg, its own, on the node that it
// stands on, if any. It answers the names of the new nodes. See dev.Switch.
func (k *Kernel) Attach(ctx context.Context, driver, on string, arg []byte) ([]string, error) {
	below := abi.NoDev
	if on != "" {
		var err error
		if below, err = k.block(on); err != nil {
			return nil, fmt.Errorf("attach %s: %w", driver, err)
		}
	}
	return k.Dev.Attach(ctx, driver, below, arg)
}

// Disk is a block device as drvctl lists it.
type Disk struct {
	Name     string   `json:"name"`
	Dev      string   `json:"dev"` // "major,minor"
	Driver   string   `json:"driver"`
	Instance string   `json:"instance"` // "" = the kernel
	Type     string   `json:"type"`     // what the driver calls it
	Label    string   `json:"label"`
	Size     int64    `json:"size"` // bytes
	Sector   uint32   `json:"sector"`
	ReadOnly bool     `json:"ro"`
	Opens    int      `json:"opens"`
	Busy     bool     `json:"busy"` // one has it for itself
	Rank     int      `json:"rank"`
	On       []string `json:"on"`    // what it stands on
	Host     string   `json:"host"`  // path on the host, of etfs
	File     string   `json:"file"`  // path in the kernel, of vnd
	Error    string   `json:"error"` // why Size and the like are not known
}

// Disks lists the block devices, by name.
func (k *Kernel) Disks(ctx context.Context) []Disk {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	hosts := make(map[string]string)
	for _, i := range k.Etfs.List() {
		hosts[i.Node] = i.Host
	}
	files := make(map[string]string)
	for _, i := range k.Vnd.List() {
		files[i.Name] = i.File
	}
	r := []Disk{}
	for _, i := range k.Dev.Blks() {
		d := Disk{Name: i.Name, Dev: i.Dev.String(), Driver: i.Driver, Instance: i.Instance, Opens: i.Opens, Busy: i.Busy, Rank: i.Rank, On: []string{}}
		switch d.Driver {
		case "etfs":
			d.Host = hosts[i.Name]
		case "vnd":
			d.File = files[i.Name]
		}
		for _, on := range i.On {
			d.On = append(d.On, k.Dev.BlkName(on))
		}
		if g, err := k.geometry(ctx, i.Dev); err != nil {
			d.Error = err.Error()
		} else {
			d.Type, d.Label, d.Size, d.Sector, d.ReadOnly = g.Type, g.Label, g.Size, g.Sector, g.ReadOnly
		}
		r = append(r, d)
	}
	return r
}

func (k *Kernel) geometry(ctx context.Context, n abi.Dev) (devops.Geom, error) {
	h, err := k.Dev.OpenBlk(ctx, n, abi.O_RDONLY)
	if err != nil {
		return devops.Geom{}, err
	}
	defer h.Close(ctx)
	return h.Geometry(ctx)
}

// drvctl serves drvctl(2) of who may.
func (k *Kernel) drvctl(ctx context.Context, a *abi.Sysargs) ([]byte, error) {
	switch a.Int(0) {
	case abi.DRV_LIST:
		return json.Marshal(k.Disks(ctx))
	case abi.DRV_ATTACH:
		nodes, err := k.Attach(ctx, a.Path[0], a.Path[1], a.In)
		if err != nil {
			return nil, err
		}
		return json.Marshal(nodes)
	case abi.DRV_DETACH:
		return nil, k.Dev.Detach(ctx, strings.TrimPrefix(a.Path[0], "/dev/"), a.Int(1) != 0)
	case abi.DRV_PROBE:
		n, err := k.block(a.Path[0])
		if err != nil {
			return nil, err
		}
		return k.Dev.Probe(ctx, n)
	}
	return nil, fmt.Errorf("drvctl %d: %w", a.Int(0), abi.EINVAL)
}
