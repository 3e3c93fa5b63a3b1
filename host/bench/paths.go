package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-plugin"
)

// path is a column of the comparison: a way to make operations, and who does
// the measuring.
type path struct {
	name string
	run  func(t task) (sample, error)
	pids []int // other processes that work for it
}

// The names that other code asks for.
const (
	pathLinux    = "linux"
	pathInproc   = "in-process"
	pathFuse     = "fuse"
	pathMount    = "mount"
	pathGRPC1    = "grpc-1"
	pathGRPC2    = "grpc-2"
	suffixRing   = "ring"
	suffixStream = "stream"
)

// rig is everything that a run needs, started once.
type rig struct {
	paths []path
	trees []treePlace
	undo  []func()
	notes io.Writer // where it says what is left out
}

// treePlace is a directory of a path where trees of files are made; Linux's is
// the first.
type treePlace struct{ path, dir string }

func (r *rig) add(name string, run func(task) (sample, error), pids ...int) {
	r.paths = append(r.paths, path{name, run, pids})
}

// here measures in this process.
func here(w way) func(task) (sample, error) {
	return func(t task) (sample, error) { return runTask(w, t) }
}

func (r *rig) later(f func()) { r.undo = append(r.undo, f) }

func (r *rig) close() {
	for i := len(r.undo) - 1; i >= 0; i-- {
		r.undo[i]()
	}
}

// newRig starts the paths that wanted says, and Linux's.
func newRig(notes io.Writer, wanted func(path string) bool) (_ *rig, err error) {
	r := &rig{notes: notes}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	dir, shm, err := workDir()
	if err != nil {
		return nil, err
	}
	r.later(func() { os.RemoveAll(dir) })
	l, err := newTmpfs(filepath.Join(dir, "linux"))
	if err != nil {
		return nil, err
	}
	if shm {
		r.add(pathLinux, here(l))
		r.trees = append(r.trees, treePlace{pathLinux, l.dir})
	} else {
		fmt.Fprintln(notes, "bench: no tmpfs at /dev/shm: no rows of linux, no ratios")
	}
	if wanted(pathInproc) {
		k, err := bootKernel(false, "", dir+"/host", "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pathInproc, err)
		}
		r.later(k.close)
		r.add(pathInproc, here(rump{c: k.client, pure: true}))
	}
	for _, tr := range []string{suffixStream, suffixRing} {
		if wanted("b-"+tr) || wanted("c-"+tr) {
			if err := r.addProcs(tr, dir, wanted); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range []struct{ path, role string }{{pathFuse, roleFuse}, {pathMount, roleMount}} {
		if !wanted(m.path) {
			continue
		}
		w, c, err := startFuse(m.role, dir+"/"+m.path)
		switch {
		case errors.Is(err, errAbsent):
			fmt.Fprintf(notes, "bench: no rows of %s: %v\n", m.path, err)
		case err != nil:
			return nil, err
		default:
			r.later(c.close)
			if m.path == pathMount {
				r.trees = append(r.trees, treePlace{m.path, w.dir})
			}
			r.add(m.path, here(w), append(childrenOf(c.pid()), c.pid())...)
		}
	}
	return r, r.addGRPC(wanted)
}

// addProcs boots a kernel with component processes, and a client process.
func (r *rig) addProcs(transport, dir string, wanted func(string) bool) error {
	env := transport
	if transport == suffixRing {
		env = "" // the default, if it is there
	}
	host := dir + "/host-" + transport
	if err := os.Mkdir(host, 0o777); err != nil {
		return err
	}
	k, err := bootKernel(true, env, host, dir+"/"+transport+".sock")
	if err != nil {
		return fmt.Errorf("kernel with component processes over the %s: %w", transport, err)
	}
	if transport == suffixRing && !k.rings() {
		k.close()
		fmt.Fprintln(r.notes, "bench: no rows of rings: this build's components answer over the stream")
		return nil
	}
	r.later(k.close)
	if wanted("b-" + transport) {
		r.add("b-"+transport, here(rump{c: k.client}), k.pids...)
	}
	if !wanted("c-" + transport) {
		return nil
	}
	var vars []string
	if env != "" {
		vars = append(vars, transportEnv+"="+env)
	}
	c, err := startChild(roleClient, k.socket, vars...)
	if err != nil {
		return err
	}
	r.later(c.close)
	if c.ring != (transport == suffixRing) {
		fmt.Fprintf(r.notes, "bench: no rows of c-%s: a client that is to have it has another transport\n", transport)
		return nil
	}
	// The kernel is in this process, the clock of the measuring is the client's.
	r.add("c-"+transport, func(t task) (sample, error) {
		defer t.collect()()
		return c.run(t)
	}, append([]int{os.Getpid()}, k.pids...)...)
	return nil
}

// addGRPC starts the go-plugin processes.
func (r *rig) addGRPC(wanted func(string) bool) error {
	for name, role := range map[string]string{pathGRPC1: roleGRPCComp, pathGRPC2: roleGRPCHost} {
		if !wanted(name) {
			continue
		}
		c, p, err := startGRPC(role)
		if err != nil {
			return err
		}
		r.later(p.Kill)
		pids := []int{pidOf(p)}
		if role == roleGRPCHost {
			b, err := c.call(bg, []byte{'P'})
			if err != nil || len(b) != 4 {
				return fmt.Errorf("%s: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
			}
			pids = append(pids, int(binary.LittleEndian.Uint32(b)))
		}
		r.add(name, here(grpcWay{c}), pids...)
	}
	return nil
}

// endPlugins ends what go-plugin may have left.
func endPlugins() { plugin.CleanupClients() }
