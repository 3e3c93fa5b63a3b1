package main

import (
	"fmt"
	"io"
	"os"

	"github.com/rumpus-kernel/rumpus/host/export/fuse"
)

// mountRole is the child that is a kernel with components in processes of their
// own, mounted twice below dir: hit, which the host caches, and miss, which it
// does not.
func mountRole(dir string) int {
	k, servers, err := mountKernel(dir)
	defer func() {
		for _, s := range servers {
			s.Close()
		}
		if k != nil {
			k.close()
		}
	}()
	say(sample{}, err)
	if err != nil {
		return 1
	}
	if file := os.Getenv(profileEnv); file != "" {
		if stop, err := profile(file + ".mount"); err == nil {
			defer stop()
		}
	}
	io.Copy(io.Discard, os.Stdin)
	return 0
}

func mountKernel(dir string) (*rumpKernel, []*fuse.Server, error) {
	host := dir + "/host"
	if err := os.Mkdir(host, 0o777); err != nil {
		return nil, nil, err
	}
	k, err := bootKernel(true, "", host, "")
	if err != nil {
		return nil, nil, err
	}
	data := pattern(largeIO)
	var servers []*fuse.Server
	for _, sub := range []string{"hit", "miss"} {
		many := "/" + sub + "/many"
		if err := k.client.MkdirAll(bg, many, 0o777); err != nil {
			return k, servers, err
		}
		for i := range maxCallers {
			if err := k.client.WriteFile(bg, name("/"+sub+"/f", i), data, 0o644); err != nil {
				return k, servers, err
			}
		}
		for i := range dirEntries {
			if err := k.client.WriteFile(bg, name(many+"/f", i), nil, 0o644); err != nil {
				return k, servers, err
			}
		}
		path := dir + "/" + sub
		if err := os.Mkdir(path, 0o755); err != nil {
			return k, servers, err
		}
		s, err := fuse.Mount(bg, k.k.VFS, fuse.Options{Dir: path, Path: "/" + sub, NoCache: sub == "miss"})
		if err != nil {
			return k, servers, fmt.Errorf("mount %s: %w", path, err)
		}
		servers = append(servers, s)
	}
	return k, servers, nil
}
