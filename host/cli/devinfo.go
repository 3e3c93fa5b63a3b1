package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// probed is what ProbeDisk answers.
type probed struct {
	Contents struct {
		Kind    string `json:"kind"`
		Type    string `json:"type,omitempty"`
		Version string `json:"version,omitempty"`
		Label   string `json:"label,omitempty"`
		UUID    string `json:"uuid,omitempty"`
		Size    int64  `json:"size,omitempty"`
		Block   int64  `json:"block,omitempty"`
		State   string `json:"state,omitempty"`
	} `json:"contents"`
	Table *struct {
		Kind     string   `json:"kind"`
		UUID     string   `json:"uuid,omitempty"`
		Label    string   `json:"label,omitempty"`
		Sector   int64    `json:"sector"`
		Parts    []part   `json:"partitions"`
		Inner    []part   `json:"inner,omitempty"`
		Warnings []string `json:"warnings,omitempty"`
	} `json:"table,omitempty"`
	TableErr string `json:"table_error,omitempty"`
}

// part is a partition of a table.
type part struct {
	Num    int    `json:"num"`
	Suffix string `json:"suffix"`
	Start  int64  `json:"start"`
	Size   int64  `json:"size"`
	Type   string `json:"type"`
	TypeID string `json:"type_id"`
	Name   string `json:"name,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Boot   bool   `json:"boot,omitempty"`
	Attrs  uint64 `json:"attrs,omitempty"`
	Err    string `json:"error,omitempty"`
}

// diskInfo is all that is known of a disk, as --json shows it.
type diskInfo struct {
	rumpclient.Disk
	*probed
	ProbeErr string     `json:"probe_error,omitempty"`
	Iostat   *iostatRow `json:"iostat,omitempty"`
}

func devInfo(ctx context.Context, c *call, k *rumpclient.Client, names []string) error {
	list, err := disks(ctx, k, names)
	if err != nil {
		return err
	}
	rows, err := iostats(ctx, k, nil)
	if err != nil {
		return err
	}
	infos := make([]diskInfo, len(list))
	for i, d := range list {
		infos[i].Disk = d
		for _, r := range rows {
			if r.Name == d.Name {
				infos[i].Iostat = &r
			}
		}
		b, err := k.ProbeDisk(ctx, d.Name)
		p := new(probed)
		if err == nil {
			if err = json.Unmarshal(b, p); err != nil {
				err = fmt.Errorf("what it holds: the component's answer makes no sense: %w (%v)", abi.EIO, err)
			}
		}
		if err != nil {
			if ctx.Err() != nil || exitCode(err) == exitNoKernel {
				return err
			}
			infos[i].ProbeErr = errorText(err)
			continue
		}
		infos[i].probed = p
	}
	if c.json {
		return writeJSON(c.out, infos)
	}
	for i := range infos {
		if i > 0 {
			c.printf("\n")
		}
		infos[i].print(c)
	}
	return nil
}

// print writes it for people. Its texts come from the medium.
func (d *diskInfo) print(c *call) {
	var rows [][]string
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{name + ":", printable(fmt.Sprintf(format, args...))})
	}
	add("disk", "%s, number %s", d.Name, d.Dev)
	of := "the kernel"
	if d.Instance != "" {
		of = d.Instance
	}
	add("driver", "%s, in %s", d.Driver, of)
	if d.Host != "" {
		add("file", "%s of the host", d.Host)
	}
	if len(d.On) > 0 {
		add("on", "%s", strings.Join(d.On, ", "))
	}
	if d.Error != "" {
		add("geometry", "%s", d.Error)
	} else if d.Size == 0 {
		add("size", "0: there is nothing in it")
	} else {
		add("size", "%d bytes (%s), sectors of %d bytes", d.Size, human(uint64(d.Size)), d.Sector)
	}
	if d.Type != "" {
		add("type", "%s", d.Type)
	}
	if d.Label != "" {
		add("label", "%s", d.Label)
	}
	state := map[bool]string{true: "read-only", false: "can be written"}[d.ReadOnly]
	switch {
	case d.Busy:
		state += fmt.Sprintf(", open %d times, by one for itself", d.Opens)
	case d.Opens > 0:
		state += fmt.Sprintf(", open %d times", d.Opens)
	}
	add("state", "%s", state)
	if r := d.Iostat; r != nil {
		add("transfers", "%d reads of %s, %d writes of %s", r.Reads, human(r.RBytes), r.Writes, human(r.WBytes))
	}
	if d.probed != nil {
		h := &d.Contents
		words := []string{h.Kind}
		for _, s := range []string{h.Type, h.Version, h.State} {
			if s != "" {
				words = append(words, s)
			}
		}
		add("contents", "%s", strings.Join(words, ", "))
		if h.Label != "" {
			add("volume", "%s", h.Label)
		}
		if h.UUID != "" {
			add("uuid", "%s", h.UUID)
		}
		if d.TableErr != "" {
			add("partitions", "%s", d.TableErr)
		}
	} else if d.ProbeErr != "" && d.Size > 0 {
		add("contents", "not known: %s", d.ProbeErr)
	}
	table(c.out, "ll", rows)
	if d.probed == nil || d.Table == nil {
		return
	}
	rows = [][]string{{"PARTITION", "START", "SIZE", "TYPE", "NAME", ""}}
	for _, p := range append(d.Table.Parts, d.Table.Inner...) {
		note := ""
		if p.Err != "" {
			note = "no device: " + p.Err
		} else if p.Boot {
			note = "active"
		}
		rows = append(rows, []string{printable(d.Name + p.Suffix), strconv.FormatInt(p.Start, 10), human(uint64(max(0, p.Size))), printable(p.Type), dash(printable(p.Name)), printable(note)})
	}
	table(c.out, "lrrlll", rows)
	for _, w := range d.Table.Warnings {
		c.printf("warning: %s\n", printable(w))
	}
}
