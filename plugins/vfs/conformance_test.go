package main

import (
	"os"
	"testing"
	"unicode/utf8"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the stream as a binding
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestConformTmpfs(t *testing.T) {
	modtest.TestFS(t, func(*testing.T) modtest.FSUnderTest {
		return modtest.FSUnderTest{
			Mods: []modapi.Module{tmpfs.New()}, Type: "tmpfs",
			Options: map[string]string{"size": "16m", "nodes": "100k"},
		}
	})
}

func TestConformHostfs(t *testing.T) {
	modtest.TestFS(t, func(t *testing.T) modtest.FSUnderTest {
		d, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return modtest.FSUnderTest{
			Mods: []modapi.Module{hostfs.New()}, Type: "hostfs", Source: "/data",
			Grants: map[string]*os.File{"host.dir:/data": d},
		}
	})
}

// image is memory that fat.Format writes to.
type image []byte

func (m image) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func TestConformMsdos(t *testing.T) {
	for name, o := range map[string]fat.FormatOptions{"fat16": {Bits: 16, Cluster: 2048, Root: 4096}, "fat32": {Bits: 32, Cluster: 512}} {
		t.Run(name, func(t *testing.T) {
			modtest.TestFS(t, func(t *testing.T) modtest.FSUnderTest {
				dev := abi.Makedev(99, 0)
				disk := modtest.NewRAM(16<<20, 512)
				if err := fat.Format(image(disk.Bytes()), 16<<20, o); err != nil {
					t.Fatal(err)
				}
				return modtest.FSUnderTest{
					Mods: []modapi.Module{fat.New()}, Type: "msdos", Source: "disk0", Dev: dev,
					Disks: map[abi.Dev]devops.BlockIO{dev: disk}, Kept: keptByFAT,
					BadName: func(s string) bool { return !utf8.ValidString(s) || s == " " || s == "..." },
					Refuses: vfsops.HasLinker | vfsops.HasSymlinker | vfsops.HasMknoder,
				}
			})
		})
	}
}

// keptByFAT is what FAT keeps of attributes: no owners, one bit of the mode of
// files, coarse times.
func keptByFAT(v *abi.Vattr) {
	ro := v.Mode&0o222 == 0 && v.Type == abi.VREG
	v.Mode, v.Uid, v.Gid = 0o755, 0, 0
	if ro {
		v.Mode = 0o555
	}
	v.Mtime = abi.Timespec{Sec: v.Mtime.Sec / 2 * 2}
	v.Ctime = v.Mtime
	v.Atime = abi.Timespec{Sec: v.Atime.Sec / 86400 * 86400}
	v.Btime.Nsec = v.Btime.Nsec / 10e6 * 10e6
}
