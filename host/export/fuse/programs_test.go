package fuse

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree describes all that is below dir but for the times of directories and
// symbolic links, a line each.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", rel, st.Mode())
		switch {
		case st.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", to)
		case st.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %d %x", st.Size(), st.ModTime().UnixNano(), sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// source makes a small C project with what trees have: directories, links,
// modes, an empty file, a large one.
func source(t *testing.T, dir string) {
	t.Helper()
	files := map[string]string{
		"Makefile":    "prog: main.o a.o sub/b.o\n\t$(CC) -o $@ $^\n%.o: %.c a.h\n\t$(CC) -c -o $@ $<\nclean:\n\trm -f prog *.o sub/*.o\n",
		"a.h":         "int a(int), b(int);\n",
		"main.c":      "#include \"a.h\"\n#include <stdio.h>\nint main(void) { printf(\"%d\\n\", a(20) + b(1)); return 0; }\n",
		"a.c":         "#include \"a.h\"\nint a(int x) { return 2 * x; }\n",
		"sub/b.c":     "#include \"../a.h\"\nint b(int x) { return x + 1; }\n",
		"empty":       "",
		"big":         strings.Repeat("0123456789abcdef", 1<<17),
		"deep/a/b/c":  "x",
		"name with  ": "blanks",
	}
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "empty"), fs.ModeSetuid|0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("deep/a/b/c", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a.c"), filepath.Join(dir, "sub/again.c")); err != nil {
		t.Fatal(err)
	}
}

func TestTarAndCp(t *testing.T) {
	need(t, "tar", "cp")
	r := newRig(t, Options{})
	src := t.TempDir()
	source(t, src)
	want := tree(t, src)
	r.run("cp", "-a", src+"/.", r.p("cp"))
	if got := tree(t, r.p("cp")); got != want {
		t.Errorf("cp -a made\n%s\nof\n%s", got, want)
	}
	r.run("sh", "-c", "mkdir untar && tar -C cp --format=posix -cf t.tar . && tar -C untar -xpf t.tar")
	if got := tree(t, r.p("untar")); got != want {
		t.Errorf("tar made\n%s\nof\n%s", got, want)
	}
	back := t.TempDir()
	r.run("cp", "-a", "untar/.", back)
	if got := tree(t, back); got != want {
		t.Errorf("cp -a out of the mount made\n%s\nof\n%s", got, want)
	}
	a, err := os.Stat(r.p("untar/a.c"))
	r.ok(err)
	b, err := os.Stat(r.p("untar/sub/again.c"))
	r.ok(err)
	if !os.SameFile(a, b) {
		t.Error("two names of a file came out as two files")
	}
}

func TestBuild(t *testing.T) {
	need(t, "make", "cc")
	r := newRig(t, Options{})
	source(t, r.dir)
	r.run("make", "-j2")
	if out := r.run("./prog"); out != "42\n" {
		t.Errorf("the program says %q", out)
	}
	if out := r.run("make"); !strings.Contains(out, "up to date") {
		t.Errorf("make again: %s", out)
	}
	r.run("make", "clean")
}

func TestGit(t *testing.T) {
	need(t, "git")
	r := newRig(t, Options{})
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, kv := range []string{"AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"} {
		t.Setenv("GIT_"+kv, "tester")
	}
	r.ok(os.Mkdir(r.p("repo"), 0o755))
	source(t, r.p("repo"))
	r.run("git", "init", "-q", "repo")
	for i := range 5 {
		r.ok(os.WriteFile(r.p("repo/changing"), fmt.Append(nil, i), 0o644))
		r.run("git", "-C", "repo", "add", ".")
		r.run("git", "-C", "repo", "commit", "-q", "-m", fmt.Sprint("change ", i))
	}
	r.run("git", "clone", "-q", "repo", "clone")
	r.run("git", "clone", "-q", "--no-local", "repo", "packed")
	for _, d := range []string{"repo", "clone", "packed"} {
		r.run("git", "-C", d, "gc", "-q", "--aggressive", "--prune=now")
		r.run("git", "-C", d, "fsck", "--full", "--strict")
		if out := r.run("git", "-C", d, "status", "--porcelain"); out != "" {
			t.Errorf("%s is not clean: %s", d, out)
		}
	}
	r.run("rm", "-rf", "repo", "clone", "packed")
}

func TestSqlite(t *testing.T) {
	need(t, "sqlite3")
	r := newRig(t, Options{})
	for _, mode := range []string{"delete", "truncate", "persist", "wal"} {
		sql := fmt.Sprintf(`pragma journal_mode=%s; create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i+1 from n where i < 2000) insert into t select i, hex(randomblob(50)) from n;
begin; update t set b = upper(b) || a; rollback; begin; delete from t where a %% 3 = 0; commit; vacuum;
pragma integrity_check; select count(*) from t;`, mode)
		out := r.run("sqlite3", mode+".db", sql)
		if !strings.HasSuffix(out, "ok\n1334\n") {
			t.Errorf("%s: %s", mode, out)
		}
		// Two processes at a time: the locks have to work.
		inc := fmt.Sprintf("sqlite3 -cmd '.timeout 20000' %s.db 'begin immediate; update t set b = b + 1 where a = 1; commit'", mode)
		r.run("sqlite3", mode+".db", "update t set b = 0 where a = 1")
		r.run("sh", "-c", fmt.Sprintf("w() { for i in 1 2 3 4 5 6 7 8 9 10; do %s || exit 1; done; }; w & a=$!; w & b=$!; wait $a && wait $b", inc))
		if out := r.run("sqlite3", mode+".db", "select b from t where a = 1; pragma integrity_check"); out != "20\nok\n" {
			t.Errorf("%s: two processes counted to %s", mode, out)
		}
	}
}

func TestFio(t *testing.T) {
	need(t, "fio")
	r := newRig(t, Options{})
	state := t.TempDir()
	for _, engine := range []string{"psync", "mmap"} {
		r.run("fio", "--name=j", "--directory="+r.dir, "--aux-path="+state, "--size=8M", "--rw=randrw", "--bs=512-64k", "--verify=crc32c",
			"--verify_state_save=0", "--ioengine="+engine, "--end_fsync=1", "--minimal")
	}
}

// TestSparse: holes stay holes on both sides.
func TestSparse(t *testing.T) {
	need(t, "cp")
	r := newRig(t, Options{})
	f, err := os.Create(r.p("s"))
	r.ok(err)
	defer f.Close()
	const end = 1 << 32
	_, err = f.WriteAt([]byte("data"), end)
	r.ok(err)
	for _, w := range []struct {
		off    int64
		whence int
		want   int64
	}{{0, 3, end}, {0, 4, 0}, {end, 4, end + 4}} {
		if got, err := f.Seek(w.off, w.whence); err != nil || got != w.want {
			t.Errorf("seek %d, %d: %d, %v, wanted %d", w.off, w.whence, got, err, w.want)
		}
	}
	r.run("cp", "--sparse=auto", "s", "copy")
	if out := bytes.TrimSpace([]byte(r.run("du", "-k", "copy"))); !bytes.HasPrefix(out, []byte("4\t")) {
		t.Errorf("du says %q", out)
	}
}
