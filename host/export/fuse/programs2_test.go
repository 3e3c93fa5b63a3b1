package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rich makes what copies tend to lose: holes, hard links, times, modes, and
// extended attributes where the machine's own file system has them.
func rich(t *testing.T, dir string) (xattrs bool) {
	t.Helper()
	source(t, dir)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "sparse"))
	ok(err)
	_, err = f.WriteAt([]byte("begin"), 0)
	ok(err)
	_, err = f.WriteAt([]byte("end"), 8<<20)
	ok(err)
	ok(f.Close())
	ok(os.Link(filepath.Join(dir, "big"), filepath.Join(dir, "deep/big")))
	ok(os.Chmod(filepath.Join(dir, "deep"), os.ModeSticky|0o711))
	for i, name := range []string{"a.c", "sparse", "empty", "deep/a/b/c"} {
		at := time.Unix(1<<33+int64(i), 123456789) // past 2038
		ok(os.Chtimes(filepath.Join(dir, name), at, at))
	}
	err = unix.Setxattr(filepath.Join(dir, "a.h"), "user.rumpus", []byte("an attribute"), 0)
	return err == nil
}

// sameLinks expects that two trees have the same names of the same files, and
// holes that stayed holes.
func sameLinks(t *testing.T, dir string, xattrs bool) {
	t.Helper()
	for a, b := range map[string]string{"a.c": "sub/again.c", "big": "deep/big"} {
		x, err := os.Stat(filepath.Join(dir, a))
		y, err2 := os.Stat(filepath.Join(dir, b))
		if err != nil || err2 != nil || !os.SameFile(x, y) {
			t.Errorf("%s: %s and %s are not one file: %v, %v", dir, a, b, err, err2)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("%s: a file with holes has %d bytes of storage, %v", dir, st.Blocks*512, err)
	}
	if !xattrs {
		return
	}
	p := make([]byte, 100)
	if n, err := unix.Getxattr(filepath.Join(dir, "a.h"), "user.rumpus", p); err != nil || string(p[:max(n, 0)]) != "an attribute" {
		t.Errorf("%s: the attribute is %q, %v", dir, p[:max(n, 0)], err)
	}
}

// TestRoundTrips: rsync and tar bring everything into the mount and out again.
func TestRoundTrips(t *testing.T) {
	r := newRig(t, Options{Xattr: true})
	src := t.TempDir()
	xattrs := rich(t, src)
	want := tree(t, src)
	for _, how := range []struct {
		name string
		copy func(from, to string)
	}{
		{"rsync", func(from, to string) {
			r.run("rsync", "-aHXS", "--numeric-ids", from+"/", to)
			if out := r.run("rsync", "-aHXSnci", "--numeric-ids", "--omit-dir-times", from+"/", to); out != "" {
				t.Errorf("rsync finds a difference:\n%s", out)
			}
		}},
		{"tar", func(from, to string) {
			r.run("sh", "-c", `mkdir -p "$2" && tar -C "$1" --format=posix --xattrs --sparse -cf - . | tar -C "$2" --xattrs -xpf -`, "sh", from, to)
		}},
	} {
		t.Run(how.name, func(t *testing.T) {
			need(t, how.name)
			in, back := r.p(how.name), filepath.Join(t.TempDir(), "back")
			how.copy(src, in)
			if got := tree(t, in); got != want {
				t.Errorf("the copy is\n%s\nof\n%s", got, want)
			}
			sameLinks(t, in, xattrs)
			how.copy(in, back)
			if got := tree(t, back); got != want {
				t.Errorf("the copy of the copy is\n%s\nof\n%s", got, want)
			}
			sameLinks(t, back, xattrs)
		})
	}
}

// configure is what such scripts do: programs compiled to find out, files made
// from templates, a record of it.
const configure = `#!/bin/sh
set -e
src=$(cd "$(dirname "$0")" && pwd)
: >config.log
have() { cat >conftest.c; if ${CC-cc} -o conftest conftest.c >>config.log 2>&1 && ./conftest; then echo "#define $1 1" >>config.h.new; else echo "/* no $1 */" >>config.h.new; fi; rm -f conftest conftest.c; }
: >config.h.new
for h in stdio stdlib unistd none; do
have HAVE_$h <<EOF
#include <$h.h>
int main(void) { return 0; }
EOF
done
have HAVE_snprintf <<EOF
#include <stdio.h>
int main(void) { char b[9]; return snprintf(b, sizeof b, "%d", 42) != 2; }
EOF
mv config.h.new config.h
sed "s|@SRC@|$src|g; s|@CFLAGS@|${CFLAGS--O1}|g" "$src/Makefile.in" >Makefile.tmp
mv Makefile.tmp Makefile
echo "configured in $src" >config.status
chmod +x config.status
`

const makefileIn = `SRC = @SRC@
VPATH = @SRC@
CFLAGS = @CFLAGS@ -MMD -MP -I. -I@SRC@
OBJ = main.o one.o two.o
all: prog lib.a
prog: $(OBJ)
	$(CC) -o $@.tmp $(OBJ) && mv $@.tmp $@
lib.a: one.o two.o
	rm -f $@ && ar rc $@ one.o two.o && ranlib $@
%.o: %.c config.h
	$(CC) $(CFLAGS) -c -o $@ $<
	@echo $@ >>built
-include $(OBJ:.o=.d)
install: all
	mkdir -p $(DESTDIR)/bin && install -m 755 prog $(DESTDIR)/bin/ && ln -sf prog $(DESTDIR)/bin/prog2
distclean:
	rm -f prog lib.a *.o *.d built Makefile config.*
`

// TestConfigure: configure and make beside the sources and in a directory of
// their own; a header that changes has built again what depends on it, and
// nothing else.
func TestConfigure(t *testing.T) {
	need(t, "cc", "make", "ar", "install")
	r := newRig(t, Options{})
	for name, text := range map[string]string{
		"configure":   configure,
		"Makefile.in": makefileIn,
		"one.h":       "int one(void);\n", "two.h": "int two(void);\n",
		"one.c":  "#include \"one.h\"\nint one(void) { return 1; }\n",
		"two.c":  "#include \"two.h\"\nint two(void) { return 2; }\n",
		"main.c": "#include \"config.h\"\n#ifdef HAVE_none\n#error\n#endif\n#include <stdio.h>\n#include \"one.h\"\n#include \"two.h\"\nint main(void) { printf(\"%d\\n\", one() + two()); return 0; }\n",
	} {
		r.ok(os.MkdirAll(r.p("src"), 0o755))
		r.ok(os.WriteFile(r.p("src/"+name), []byte(text), 0o755))
	}
	r.ok(os.Mkdir(r.p("build"), 0o755))
	for _, dir := range []string{"src", "build"} {
		sh := func(script string) string { return r.run("sh", "-ec", "cd "+dir+"; "+script) }
		sh("../src/configure >/dev/null && make -s -j2 && make -s install DESTDIR=$PWD/root")
		if out := sh("root/bin/prog2; sort built | tr '\\n' ' '"); out != "3\nmain.o one.o two.o " {
			t.Errorf("%s: %q", dir, out)
		}
		// Seconds count here as little as they should: times have nanoseconds.
		if out := sh("rm built; make -s; test ! -e built; echo 'int two(void); /* new */' >../src/two.h; make -s; sort built | tr '\\n' ' '"); out != "main.o two.o " {
			t.Errorf("%s: built again: %q", dir, out)
		}
		sh("make -s distclean; rm -r root; test ! -e prog")
	}
}

// TestRenameRace: two processes replace a file by rename, two others always see
// a whole one.
func TestRenameRace(t *testing.T) {
	r := newRig(t, Options{})
	for _, sub := range []string{"", "/other"} {
		r.ok(os.MkdirAll(r.p("race"+sub), 0o755))
	}
	out := r.run("sh", "-c", `cd race; printf '%099d\n' 0 >target
w() { n=0; while [ $n -lt 150 ]; do n=$((n+1)); printf '%099d\n' $n >$1.$2 && mv -f $1.$2 target || exit 1; done; }
s() { n=0; while [ $n -lt 200 ]; do n=$((n+1)); s=$(cat target) || exit 2; [ ${#s} = 99 ] || exit 3; done; }
w x 1 & a=$!; w other/y 2 & b=$!; s & c=$!; s & d=$!
wait $a; echo $?; wait $b; echo $?; wait $c; echo $?; wait $d; echo $?; ls -A . other | tr '\n' ' '`)
	if out != "0\n0\n0\n0\n.: other target  other: " {
		t.Errorf("%q", out)
	}
	st, err := r.c.Stat(r.ctx, "/race/target")
	if err != nil || st.Size != 100 {
		t.Errorf("%d bytes, %v", st.Size, err)
	}
}

// pgUser runs a server: not root, which it refuses, and somebody with a name,
// which it wants.
const pgUser = 65534

// TestPostgres: a database is made, worked on, killed, and right again
// afterwards.
func TestPostgres(t *testing.T) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(bins) == 0 {
		t.Skip("postgresql is not installed")
	}
	r := newRig(t, Options{})
	sock, err := os.MkdirTemp("/tmp", "pg")
	r.ok(err)
	t.Cleanup(func() { os.RemoveAll(sock) })
	data := r.p("data")
	r.ok(os.Mkdir(data, 0o700))
	r.ok(os.Chmod(filepath.Dir(r.dir), 0o755)) // t.TempDir's own, on the way to the mount
	cred := (*syscall.Credential)(nil)
	if os.Geteuid() == 0 {
		cred = &syscall.Credential{Uid: pgUser, Gid: pgUser}
		r.ok(errors.Join(os.Chown(sock, pgUser, pgUser), os.Chown(data, pgUser, pgUser)))
	}
	bin := filepath.Dir(bins[len(bins)-1])
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(r.ctx, filepath.Join(bin, name), args...)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGHOST=" + sock, "PGUSER=me", "PGDATABASE=postgres", "LC_ALL=C", "TZ=UTC"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(sock, "log"))
			t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log)
		}
		return string(out)
	}
	ctl := func(args ...string) {
		t.Helper()
		run("pg_ctl", append([]string{"-D", data, "-s", "-w", "-t", "100"}, args...)...)
	}
	start := func() {
		t.Helper()
		ctl("-l", filepath.Join(sock, "log"), "-o", fmt.Sprintf("-k %s -c listen_addresses= -c shared_buffers=4MB -c max_connections=8", sock), "start")
	}
	run("initdb", "-D", data, "-U", "me", "-A", "trust", "--no-instructions", "--data-checksums", "--no-sync", "--locale=C")
	start()
	t.Cleanup(func() { // before the mount goes
		if b, err := os.ReadFile(filepath.Join(data, "postmaster.pid")); err == nil {
			var pid int
			if fmt.Fscan(bytes.NewReader(b), &pid); pid > 1 {
				syscall.Kill(pid, syscall.SIGQUIT)
			}
		}
	})
	run("pgbench", "-q", "-i", "-s", "1")
	if out := run("pgbench", "-c", "2", "-T", "3"); !strings.Contains(out, "number of failed transactions: 0") && !strings.Contains(out, "tps = ") {
		t.Errorf("pgbench: %s", out)
	}
	ctl("-m", "immediate", "stop") // the log has to be replayed
	start()
	const sums = "select (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history) and (select count(*) from pgbench_accounts) = 100000"
	if out := run("psql", "-Atc", sums); out != "t\n" {
		t.Errorf("the books do not balance: %s", out)
	}
	ctl("-m", "fast", "stop")
	run("pg_checksums", "-c", "-D", data)
}
