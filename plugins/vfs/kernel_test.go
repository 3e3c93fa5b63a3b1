package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// This file runs both file systems under the kernel's VFS and compares them:
// the same random system calls must have the same results on each, and the
// host directory must look the same from the host.

var ctx = context.Background()

func su() vfs.Where { return vfs.Where{Caller: abi.KernelCaller} }

// attacher is a module's view of the VFS.
type attacher struct {
	modapi.Kernel
	fs  *vfs.VFS
	dir string
}

func (a attacher) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	return a.fs.AttachFS("vfs", name, t, c)
}

func (a attacher) Granted(name string) (*os.File, error) {
	if name != "host.dir:/data" {
		return nil, abi.ENOENT
	}
	return os.Open(a.dir)
}

func (a attacher) Store(id abi.Fsid) modapi.Store { return a.fs.Store("vfs", id) }

// boot makes a VFS with a tmpfs at / and at /tmpfs and dir at /hostfs.
func boot(t testing.TB, dir string) *vfs.VFS {
	t.Helper()
	k := vfs.New(vfs.Options{MemLimit: 64 << 20})
	k.SetAvailable(true)
	for _, m := range []modapi.Module{tmpfs.New(), hostfs.New()} {
		if err := m.Init(ctx, attacher{fs: k, dir: dir}, modapi.Fresh, nil); err != nil {
			t.Fatal(err)
		}
	}
	size := map[string]string{"size": "16m"}
	for _, a := range []vfs.MountArgs{
		{Type: "tmpfs", Dir: "/", Options: size},
		{Type: "tmpfs", Dir: "/tmpfs", Options: size},
		{Type: "hostfs", Dir: "/hostfs", Source: "/data"},
	} {
		if a.Dir != "/" {
			if err := k.Mkdir(ctx, su(), a.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.Mount(ctx, su(), a); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// open are open files, one a mount, as the same call opened them.
type open [2]*file.File

type machine struct {
	t     *rapid.T
	k     *vfs.VFS
	files []open
}

var roots = [2]string{"/tmpfs/", "/hostfs/"}

// both runs a call on each mount and compares what it answers.
func (m *machine) both(what string, call func(i int, root string) (string, error)) bool {
	var text [2]string
	var errs [2]error
	for i, root := range roots {
		text[i], errs[i] = call(i, root)
	}
	a, b := abi.ErrnoOf(errs[0]), abi.ErrnoOf(errs[1])
	if a != b || text[0] != text[1] {
		m.t.Fatalf("%s: tmpfs %q %v, hostfs %q %v", what, text[0], errs[0], text[1], errs[1])
	}
	return a == 0
}

func (m *machine) path(label string) string {
	names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "..", "l"}), 1, 4).Draw(m.t, label)
	if names[0] == ".." { // stay inside
		names[0] = "a"
	}
	depth := 0
	for i, n := range names {
		if n == ".." {
			depth--
		} else {
			depth++
		}
		if depth < 0 {
			names[i], depth = "b", depth+2
		}
	}
	return strings.Join(names, "/")
}

func (m *machine) actions() map[string]func(*rapid.T) {
	k := m.k
	mkdir := func(*rapid.T) {
		p := m.path("path")
		m.both("mkdir "+p, func(_ int, r string) (string, error) { return "", k.Mkdir(ctx, su(), r+p, 0o755) })
	}
	openFile := func(*rapid.T) {
		p := m.path("path")
		flags := rapid.SampledFrom([]int{abi.O_RDWR | abi.O_CREAT, abi.O_RDWR | abi.O_CREAT | abi.O_EXCL, abi.O_RDWR, abi.O_RDWR | abi.O_APPEND, abi.O_RDWR | abi.O_TRUNC | abi.O_CREAT}).Draw(m.t, "flags")
		var fs open
		if m.both("open "+p, func(i int, r string) (_ string, err error) {
			fs[i], err = k.Open(ctx, su(), r+p, flags, 0o644)
			return "", err
		}) {
			m.files = append(m.files, fs)
		}
	}
	pick := func() (open, bool) {
		if len(m.files) == 0 {
			return open{}, false
		}
		return m.files[rapid.IntRange(0, len(m.files)-1).Draw(m.t, "file")], true
	}
	return map[string]func(*rapid.T){
		"mkdir": mkdir, "mkdir2": mkdir, "open": openFile, "open2": openFile,
		"symlink": func(*rapid.T) {
			p, to := m.path("path"), m.path("target")
			m.both("symlink "+p, func(_ int, r string) (string, error) { return "", k.Symlink(ctx, su(), to, r+p) })
		},
		"link": func(*rapid.T) {
			p, to := m.path("path"), m.path("to")
			m.both("link "+p+" "+to, func(_ int, r string) (string, error) { return "", k.Link(ctx, su(), r+p, su(), r+to, false) })
		},
		"mkfifo": func(*rapid.T) {
			p := m.path("path")
			m.both("mkfifo "+p, func(_ int, r string) (string, error) { return "", k.Mkfifo(ctx, su(), r+p, 0o600) })
		},
		"rename": func(*rapid.T) {
			p, to := m.path("path"), m.path("to")
			flags := rapid.SampledFrom([]uint32{0, 0, abi.RENAME_EXCHANGE, abi.RENAME_NOREPLACE}).Draw(m.t, "flags")
			m.both(fmt.Sprintf("rename %s %s %d", p, to, flags), func(_ int, r string) (string, error) {
				return "", k.Rename(ctx, su(), r+p, su(), r+to, flags)
			})
		},
		"unlink": func(*rapid.T) {
			p := m.path("path")
			m.both("unlink "+p, func(_ int, r string) (string, error) { return "", k.Unlink(ctx, su(), r+p, 0) })
		},
		"rmdir": func(*rapid.T) {
			p := m.path("path")
			m.both("rmdir "+p, func(_ int, r string) (string, error) { return "", k.Rmdir(ctx, su(), r+p) })
		},
		"chmod": func(*rapid.T) {
			p, mode := m.path("path"), rapid.Uint32Range(0o700, 0o777).Draw(m.t, "mode")
			m.both("chmod "+p, func(_ int, r string) (string, error) { return "", k.Chmod(ctx, su(), r+p, mode, true) })
		},
		"truncate": func(*rapid.T) {
			p, size := m.path("path"), rapid.Int64Range(0, 20000).Draw(m.t, "size")
			m.both("truncate "+p, func(_ int, r string) (string, error) { return "", k.Truncate(ctx, su(), r+p, size) })
		},
		"write": func(*rapid.T) {
			if fs, ok := pick(); ok {
				text := rapid.StringN(1, 10, 30).Draw(m.t, "text")
				off := rapid.SampledFrom([]int64{file.Cur, 0, 1, 4095, 10000}).Draw(m.t, "off")
				m.both("write", func(i int, _ string) (string, error) {
					n, err := fs[i].Ops.Write(ctx, abi.KernelCaller, fs[i], []byte(text), off)
					return fmt.Sprint(n), err
				})
			}
		},
		"read": func(*rapid.T) {
			if fs, ok := pick(); ok {
				m.both("read", func(i int, _ string) (string, error) {
					buf := make([]byte, 30000)
					n, err := fs[i].Ops.Read(ctx, abi.KernelCaller, fs[i], buf, 0)
					return string(buf[:n]), err
				})
			}
		},
		"close": func(*rapid.T) {
			if len(m.files) > 0 {
				i := rapid.IntRange(0, len(m.files)-1).Draw(m.t, "file")
				fs := m.files[i]
				m.files = slices.Delete(m.files, i, i+1)
				m.both("close", func(i int, _ string) (string, error) { return "", fs[i].Release(ctx) })
			}
		},
		"stat": func(*rapid.T) {
			p, follow := m.path("path"), rapid.Bool().Draw(m.t, "follow")
			m.both("stat "+p, func(_ int, r string) (string, error) {
				st, err := k.Stat(ctx, su(), r+p, follow)
				return describe(&st.Vattr), err
			})
		},
	}
}

// describe is what must be the same on every file system: not the sizes of
// directories, ids, times and storage.
func describe(v *abi.Vattr) string {
	if v.Type == abi.VDIR {
		return fmt.Sprintf("%v %o %d", v.Type, v.Mode, v.Nlink)
	}
	mode := v.Mode
	if v.Type == abi.VLNK {
		mode = 0
	}
	return fmt.Sprintf("%v %o %d %d", v.Type, mode, v.Nlink, v.Size)
}

// tree lists everything below a path of the kernel.
func tree(t *rapid.T, k *vfs.VFS, dir string) (lines []string) {
	f, err := k.Open(ctx, su(), dir, abi.O_RDONLY|abi.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(dir, err)
	}
	defer f.Release(ctx)
	buf := make([]byte, 1000)
	for {
		n, err := k.Getdents(ctx, abi.KernelCaller, f, buf)
		if err != nil {
			t.Fatal(dir, err)
		}
		if n == 0 {
			break
		}
		des, err := abi.ParseDirents(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range des {
			if e.Name == "." || e.Name == ".." {
				continue
			}
			p := dir + "/" + e.Name
			st, err := k.Stat(ctx, su(), p, false)
			if err != nil || st.Type != e.Type || st.Fileid != e.Fileid {
				t.Fatalf("%s: %+v %+v %v", p, e, st, err)
			}
			line := e.Name + " " + describe(&st.Vattr)
			if st.Type == abi.VREG {
				line += " " + contents(t, k, p)
			}
			lines = append(lines, line)
			if st.Type == abi.VDIR {
				for _, l := range tree(t, k, p) {
					lines = append(lines, e.Name+"/"+l)
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func contents(t *rapid.T, k *vfs.VFS, p string) string {
	f, err := k.Open(ctx, su(), p, abi.O_RDONLY, 0)
	if err != nil {
		t.Fatal(p, err)
	}
	defer f.Release(ctx)
	buf := make([]byte, 40000)
	n, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, 0)
	if err != nil {
		t.Fatal(p, err)
	}
	return fmt.Sprintf("%q", strings.ReplaceAll(string(buf[:n]), "\x00", "."))
}

// hostTree lists what the host has, names and contents.
func hostTree(t *rapid.T, dir string) (lines []string) {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		line := strings.TrimPrefix(p, dir+"/")
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", strings.ReplaceAll(string(b), "\x00", "."))
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// short leaves of a line of tree what hostTree has.
func short(lines []string) (r []string) {
	for _, l := range lines {
		name, rest, _ := strings.Cut(l, " ")
		if _, text, ok := strings.Cut(rest, ` "`); ok {
			name += ` "` + text
		}
		r = append(r, name)
	}
	slices.Sort(r)
	return r
}

func TestSameUnderTheKernel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "vfs")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			rt.Fatal(err)
		}
		k := boot(t, dir)
		m := &machine{t: rt, k: k}
		defer func() {
			for _, fs := range m.files {
				_ = fs[0].Release(ctx)
				_ = fs[1].Release(ctx)
			}
			k.UnmountAll(ctx)
		}()
		rt.Repeat(m.actions())
		a, b := tree(rt, k, "/tmpfs"), tree(rt, k, "/hostfs")
		if !slices.Equal(a, b) {
			rt.Fatalf("trees differ:\ntmpfs\n%s\nhostfs\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		if h := hostTree(rt, dir); !slices.Equal(short(b), h) {
			rt.Fatalf("the host sees:\n%s\nwe see:\n%s", strings.Join(h, "\n"), strings.Join(short(b), "\n"))
		}
	})
}
