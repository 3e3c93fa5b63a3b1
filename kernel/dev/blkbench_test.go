package dev

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
)

// BenchmarkBlk reads from md by a BlkHandle: what the switch adds to the
// crossing that BenchmarkRead of package md measures.
func BenchmarkBlk(b *testing.B) {
	for _, binding := range []string{"direct", "ring"} {
		for _, c := range []struct {
			name string
			n    int64
		}{{"4k", 4096}, {"1m", 1 << 20}} {
			b.Run(binding+"/"+c.name, func(b *testing.B) {
				s := New(Options{})
				mods := []modapi.Module{md.New()}
				if binding == "ring" {
					mods = modproxytest.OpenRing(b, dispatch.New(mods, dispatch.Options{}), nil).Modules()
				}
				if err := mods[0].Init(b.Context(), devKernel{s}, modapi.Fresh, modapi.Props{"md": map[string]any{"md0": "64M"}}); err != nil {
					b.Fatal(err)
				}
				s.InstanceUp("dev")
				n, _ := s.Lookup("md0")
				h, err := s.OpenBlk(b.Context(), n.Dev, abi.O_RDONLY)
				if err != nil {
					b.Fatal(err)
				}
				defer mods[0].Fini(context.Background())
				defer h.Close(context.Background())
				p := make([]byte, c.n)
				off := int64(0)
				b.SetBytes(c.n)
				b.ReportAllocs()
				for b.Loop() {
					buf := devops.Buf{Blkno: off / 512, Bytes: c.n, Flags: devops.BRead, Data: abi.IovOf(p)}
					if err := h.Do(b.Context(), &buf); err != nil {
						b.Fatal(err)
					}
					off = (off + c.n) % (64 << 20)
				}
			})
		}
	}
}
