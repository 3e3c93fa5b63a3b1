package kernel_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/rumpus-kernel/rumpus/"

// kernelOrder is the order of the kernel's packages: each may import those
// that come after it, not those before (CONTRACTS.md, "Packages and
// versions"). Packages of one line do not import each other.
var kernelOrder = [][]string{
	{""}, // the assembly
	{"sysproxy", "rumpclient"},
	{"syscall"},
	{"pseudofs"},
	{"module"},
	{"proc"},
	{"vnd"},
	{"vfs", "socket"},
	{"journal"},
	{"store"},
	{"modproxy"},
	{"bio"},
	{"etfs"},
	{"dev"},
	{"file"},
	{"kprintf", "evlog"},
	{"event"},
	{"sysctl"},
	{"evcnt", "iostat"},
	{"kauth", "ksyms", "uidinfo"},
	{"kthread"},
	{"clock"},
	{"hyper"},
}

// thirdParty lists who may import what from outside the standard library.
var thirdParty = []struct {
	pkg     string   // import path prefix
	allowed []string // folders
	instead string
}{
	{"github.com/hashicorp/go-plugin", []string{"modapi/serve", "host"}, "modapi/serve and host/supervise are the only ones that know go-plugin"},
	{"google.golang.org/", []string{"modapi/serve", "host"}, "gRPC belongs to go-plugin's control plane"},
	{"github.com/knadh/koanf", []string{"host/config"}, "use host/config"},
	{"github.com/hashicorp/go-hclog", []string{"modapi/serve", "host"}, "modules log through modapi.Logger, the kernel through kprintf"},
	{"gvisor.dev/", []string{"plugins/net"}, "gVisor stays behind plugins/net"},
	{"golang.org/x/crypto", []string{"plugins/dev/cgd"}, "ciphers and key derivation stay behind plugins/dev/cgd"},
	{"github.com/hanwen/go-fuse", []string{"host/export/fuse", "host/bench"}, "FUSE stays behind host/export/fuse"},
	{"os/exec", []string{"host", "modapi/modtest"}, "only the host starts processes"},
}

func rank(rel string) int {
	rel = strings.TrimPrefix(strings.TrimPrefix(rel, "kernel"), "/")
	for i, line := range kernelOrder {
		for _, p := range line {
			if rel == p || p != "" && strings.HasPrefix(rel, p+"/") {
				return i
			}
		}
	}
	return -1
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// TestImportRules holds DESIGN.md's table: modapi imports only modapi, kernel
// modapi and kernel in order, host no plugins, a plugin modapi and itself. The
// rules bind code that is no test; modapi/examples, host/bench and host/chaos are free.
func TestImportRules(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(p, "../"))
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && p != ".." || d.Name() == "testdata" || rel == "bin" || rel == "modapi/examples" || rel == "host/bench" || rel == "host/chaos" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		dir := path.Dir(rel)
		for _, im := range f.Imports {
			name, _ := strconv.Unquote(im.Path.Value)
			if bad := violation(dir, name); bad != "" {
				t.Errorf("%s imports %s: %s", rel, name, bad)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files read: is the test in the right place?", files)
	}
}

func violation(dir, name string) string {
	for _, r := range thirdParty {
		if name == r.pkg || strings.HasPrefix(name, r.pkg) && (strings.HasSuffix(r.pkg, "/") || strings.HasPrefix(name, r.pkg+"/")) {
			ok := false
			for _, a := range r.allowed {
				ok = ok || within(dir, a)
			}
			if !ok {
				return r.instead
			}
		}
	}
	ours, ok := strings.CutPrefix(name, modulePath)
	if !ok {
		return ""
	}
	top, _, _ := strings.Cut(dir, "/")
	to, _, _ := strings.Cut(ours, "/")
	switch top {
	case "modapi":
		if to != "modapi" {
			return "modapi imports only modapi"
		}
	case "kernel":
		if to != "kernel" && to != "modapi" || within(ours, "modapi/serve") {
			return "kernel imports kernel and modapi, never modapi/serve"
		}
		if to == "kernel" {
			from, toRank := rank(dir), rank(ours)
			if from < 0 || toRank < 0 {
				return "a kernel package without a place in kernelOrder"
			}
			if from > toRank || from == toRank && dir != ours && !within(dir, ours) && !within(ours, dir) {
				return "against the order of the kernel's packages"
			}
		}
	case "host":
		if to == "plugins" {
			return "host never imports plugins"
		}
	case "plugins":
		own := strings.Join(strings.SplitN(dir, "/", 3)[:2], "/")
		if to != "modapi" && !within(ours, own) {
			return "a plugin imports modapi and itself"
		}
	}
	return ""
}

// TestImportRulesCanFail shows that the rules above refuse something.
func TestImportRulesCanFail(t *testing.T) {
	for _, tc := range [][2]string{
		{"modapi/wire", modulePath + "kernel/vfs"},
		{"kernel/file", modulePath + "kernel/vfs"},
		{"kernel/vfs", modulePath + "kernel/socket"},
		{"kernel", modulePath + "modapi/serve"},
		{"kernel/module", "github.com/hashicorp/go-plugin"},
		{"kernel", "os/exec"},
		{"host/cli", modulePath + "plugins/vfs/tmpfs"},
		{"plugins/vfs/tmpfs", modulePath + "plugins/dev/mem"},
		{"plugins/dev/mem", "gvisor.dev/gvisor/pkg/tcpip"},
		{"host/cli", "github.com/knadh/koanf/v2"},
	} {
		if violation(tc[0], tc[1]) == "" {
			t.Errorf("%s may import %s", tc[0], tc[1])
		}
	}
	if v := violation("kernel/vfs", modulePath+"kernel/file"); v != "" {
		t.Errorf("kernel/vfs may not import kernel/file: %s", v)
	}
}
