package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/ext4"
)

// e2fsprogs runs a program of that package.
func e2fsprogs(t *testing.T, name string, args ...string) {
	t.Helper()
	var tool string
	for _, dir := range []string{"", "/sbin/", "/usr/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			tool = p
			break
		}
	}
	if tool == "" {
		t.Skipf("no %s (Debian package e2fsprogs)", name)
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func TestConformExt4(t *testing.T) {
	const size = 12 << 20
	for _, c := range []struct {
		name string
		typ  string
		old  bool // inodes of 128 bytes
		args []string
	}{
		{"ext4", "ext4", false, []string{"-t", "ext4", "-b", "4096", "-N", "8192", "-J", "size=4"}},
		{"ext2", "ext2", true, []string{"-t", "ext2", "-b", "4096", "-N", "8192", "-I", "128"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "img")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			seed := "6b16ae4e-2ef3-4ae0-a6a5-3a6a2a3b5ce1"
			e2fsprogs(t, "mke2fs", append(append([]string{"-q", "-F", "-U", seed, "-E", "nodiscard,hash_seed=" + seed}, c.args...), path)...)
			e2fsprogs(t, "debugfs", "-w", "-R", "rmdir lost+found", path)
			img, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			modtest.TestFS(t, func(t *testing.T) modtest.FSUnderTest {
				dev := abi.Makedev(99, 0)
				disk := modtest.NewRAM(size, 512)
				copy(disk.Bytes(), img)
				ut := modtest.FSUnderTest{
					Mods: []modapi.Module{ext4.New()}, Type: c.typ, Source: "disk0", Dev: dev,
					Disks: map[abi.Dev]devops.BlockIO{dev: disk},
				}
				if c.old {
					ut.Kept = keptByOldInodes
				}
				return ut
			})
		})
	}
}

// keptByOldInodes is what inodes of 128 bytes keep: whole seconds, and no time of
// birth.
func keptByOldInodes(v *abi.Vattr) {
	for _, ts := range []*abi.Timespec{&v.Atime, &v.Mtime, &v.Ctime} {
		ts.Nsec = 0
	}
	v.Btime = v.Ctime
	if v.Mtime.Before(v.Btime) {
		v.Btime = v.Mtime
	}
}

var _ vfsops.FSType = ext4.New()
