package main

import (
	"context"
	"strconv"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// BenchmarkMutations is a mix of changes on tmpfs in a process of its own, with
// a journal and without one (norecover): what it costs that nothing is lost.
func BenchmarkMutations(b *testing.B) {
	r, err := bootKernel(true, "ring", b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	c, ctx := r.client, context.Background()
	dirs := map[string]string{"journal": "/j", "norecover": "/n"}
	for name, dir := range dirs {
		opts := map[string]string{}
		if name == "norecover" {
			opts[name] = ""
		}
		if err := c.Mkdir(ctx, dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := c.Mount(ctx, "tmpfs", dir, 0, "", opts); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range []string{"journal", "norecover", "journal", "norecover", "journal", "norecover"} {
		b.Run(name, func(b *testing.B) {
			taken := r.k.Evcnt.Attach("journal", "checkpoints")
			before := taken.Load()
			cpu := cpuTime(r.pids)
			defer func() {
				b.ReportMetric(float64(taken.Load()-before)/float64(b.N), "checkpoints/op")
				b.ReportMetric(float64(cpuTime(r.pids)-cpu)/float64(b.N), "cpu-ns/op")
			}()
			for i := range b.N {
				if err := mutations(ctx, c, dirs[name], i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// mutations are ten changes that leave nothing.
func mutations(ctx context.Context, c *rumpclient.Client, dir string, i int) error {
	d := dir + "/d" + strconv.Itoa(i)
	if err := c.Mkdir(ctx, d, 0o755); err != nil {
		return err
	}
	f := d + "/f"
	fd, err := c.Open(ctx, f, abi.O_CREAT|abi.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if _, err := c.Write(ctx, fd, []byte("contents")); err != nil {
		return err
	}
	if err := c.Close(ctx, fd); err != nil {
		return err
	}
	for _, fn := range []func() error{
		func() error { return c.Chmod(ctx, f, 0o600) },
		func() error { return c.Link(ctx, f, d+"/g") },
		func() error { return c.Symlink(ctx, "f", d+"/s") },
		func() error { return c.Rename(ctx, f, d+"/h") },
		func() error { return c.Unlink(ctx, d+"/g") },
		func() error { return c.Unlink(ctx, d+"/s") },
		func() error { return c.Unlink(ctx, d+"/h") },
		func() error { return c.Rmdir(ctx, d) },
	} {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}
