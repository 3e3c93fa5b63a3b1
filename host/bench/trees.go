package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// What is measured of trees of files.
const (
	stUntar = "untar a tree"
	stBuild = "build a tree"

	treeFiles = 5000 // beside a C unit for every buildOne of them
	buildOne  = 100
	treeRuns  = 3
	treeLimit = 2 * time.Minute
)

// tree is an archive like a source tree: a directory for every dozen files,
// sizes as they are in such trees (half below 4 KB, few large ones), and a C
// project whose units include all its headers.
func tree(files int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, data []byte) {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1700000000, 0)})
		w.Write(data)
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := bytes.Repeat([]byte("a line of a source tree, as long as such lines are\n"), 2000)
	for i := range files {
		if i%12 == 0 {
			w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/", i/12), Typeflag: tar.TypeDir, Mode: 0o755})
		}
		n := 1 << (8 + r.IntN(9)) // 256 bytes to 64 KB
		add(fmt.Sprintf("d%d/f%d", i/12, i), text[:n+r.IntN(n)/2])
	}
	units := max(files/buildOne, 2)
	mk := []byte("CC = cc\nall: prog\nOBJ =")
	inc := []byte("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
	for i := range units {
		add(fmt.Sprintf("h%d.h", i), fmt.Appendf(nil, "int fn%d(int);\n", i))
		inc = fmt.Appendf(inc, "#include \"h%d.h\"\n", i)
		mk = fmt.Appendf(mk, " u%d.o", i)
	}
	mk = append(mk, "\nprog: $(OBJ)\n\t$(CC) -o $@ $(OBJ)\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n"...)
	add("Makefile", mk)
	for i := range units {
		src := bytes.Clone(inc)
		if i == 0 {
			src = append(src, "int main(void) { printf(\"%d\\n\", fn1(1)); return 0; }\n"...)
		}
		src = fmt.Appendf(src, "int fn%d(int x) { char b[100]; snprintf(b, sizeof b, \"%%d\", x); return atoi(b) + (int)strlen(b); }\n", i)
		add(fmt.Sprintf("u%d.c", i), src)
	}
	w.Close()
	return b.Bytes()
}

// measureTrees makes the rows about trees of files that are asked for.
func (c *config) measureTrees(ctx context.Context, r *rig) ([]Row, error) {
	want := func(st string) bool { return c.wants(st, pathMount, 1) || c.wants(st, pathLinux, 1) }
	if !want(stUntar) && !want(stBuild) || len(r.trees) < 2 {
		return nil, nil
	}
	if _, err := exec.LookPath("tar"); err != nil {
		fmt.Fprintf(r.notes, "bench: no rows of trees: %v\n", err)
		return nil, nil
	}
	_, noMake := exec.LookPath("make")
	_, noCC := exec.LookPath("cc")
	build := noMake == nil && noCC == nil && want(stBuild)
	files, runs := treeFiles, treeRuns
	if c.t < 100*time.Millisecond {
		files, runs = treeFiles/50, 1
	}
	archive := tree(files)
	ctx, cancel := context.WithTimeout(ctx, treeLimit)
	defer cancel()
	took := map[string][]time.Duration{} // by operation and path
	for i := range runs {
		for _, t := range r.trees {
			dir := filepath.Join(t.dir, fmt.Sprint("tree", i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return nil, err
			}
			d, err := timed(ctx, dir, archive, "tar", "-xf", "-")
			if err != nil {
				return nil, err
			}
			took[stUntar+t.path] = append(took[stUntar+t.path], d)
			if build {
				if d, err = timed(ctx, dir, nil, "make", "-s", "-j2"); err != nil {
					return nil, err
				}
				took[stBuild+t.path] = append(took[stBuild+t.path], d)
			}
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
		}
	}
	var rows []Row
	for _, st := range []string{stUntar, stBuild} {
		linux := 0.0
		for _, t := range r.trees {
			all := took[st+t.path]
			if len(all) == 0 {
				continue
			}
			row := times(st, t.path, all)
			if t.path == pathLinux {
				linux = row.P50
			}
			row.Ratio = row.P50 / linux
			if c.wants(st, t.path, 1) {
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// timed runs a program in a directory and answers how long it took.
func timed(ctx context.Context, dir string, in []byte, name string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(in)
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, errors.Join(fmt.Errorf("%s in %s: %w: %s", name, dir, err, out), ctx.Err())
	}
	return time.Since(begin), nil
}
