package kernel_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// BenchmarkEtfs is what a disk costs that is a file of the host: transfers at
// random places by pread and pwrite of the host, by the raw node of etfs with
// an embedded client, and by the raw node of vnd on a file of tmpfs: medians,
// and what they are to the host's.
//
//	go test -run '^$' -bench BenchmarkEtfs ./kernel
func BenchmarkEtfs(b *testing.B) {
	const size = 64 << 20
	dir := b.TempDir()
	if d, err := os.MkdirTemp("/dev/shm", "rumpus-etfs"); err == nil {
		dir = d
		b.Cleanup(func() { os.RemoveAll(d) })
	}
	img := filepath.Join(dir, "disk.img")
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i)
	}
	if err := os.WriteFile(img, data, 0o600); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	k := kernel.New(kernel.Options{Hostname: "rump", Modules: []modapi.Module{tmpfs.New()}, MemLimit: 256 << 20,
		Devices: []kernel.Device{{Driver: "etfs", Arg: fmt.Appendf(nil, `{"name": "disk0", "host": %q}`, img)}}})
	if err := k.Boot(ctx); err != nil {
		b.Fatal(err)
	}
	defer k.Reboot(ctx, 0)
	c, err := k.Client("bench")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Exit()
	if err := c.WriteFile(ctx, "/img", data, 0o600); err != nil {
		b.Fatal(err)
	}
	if _, err := c.AttachDisk(ctx, "vnd", "", []byte(`{"name": "vnd0", "file": "/img"}`)); err != nil {
		b.Fatal(err)
	}
	host, err := unix.Open(img, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(host)
	type transfer func(p []byte, off int64) (int, error)
	ways := []struct {
		name        string
		read, write transfer
	}{{"host", func(p []byte, off int64) (int, error) { return unix.Pread(host, p, off) },
		func(p []byte, off int64) (int, error) { return unix.Pwrite(host, p, off) }}}
	for _, node := range []string{"disk0", "vnd0"} {
		fd, err := c.Open(ctx, "/dev/r"+node, abi.O_RDWR, 0)
		if err != nil {
			b.Fatal(err)
		}
		ways = append(ways, struct {
			name        string
			read, write transfer
		}{node, func(p []byte, off int64) (int, error) { return c.Pread(ctx, fd, p, off) },
			func(p []byte, off int64) (int, error) { return c.Pwrite(ctx, fd, p, off) }})
	}
	for _, n := range []int{4 << 10, 1 << 20} {
		for _, op := range []string{"read", "write"} {
			b.Run(fmt.Sprintf("%s/%dK", op, n>>10), func(b *testing.B) {
				batch := max(1, 64<<10/n)
				p := data[:n]
				r := rand.New(rand.NewPCG(1, 2))
				times := make([][]float64, len(ways))
				// In turns, batch by batch: whatever else the machine does hits all.
				for b.Loop() {
					for i, w := range ways {
						f := w.read
						if op == "write" {
							f = w.write
						}
						began := time.Now()
						for range batch {
							if k, err := f(p, r.Int64N(size/int64(n))*int64(n)); k != n || err != nil {
								b.Fatal(k, err)
							}
						}
						times[i] = append(times[i], float64(time.Since(began))/float64(batch))
					}
				}
				b.ReportMetric(0, "ns/op")
				for i, w := range ways {
					slices.Sort(times[i])
					b.ReportMetric(times[i][len(times[i])/2], w.name+"-ns")
					if i > 0 {
						b.ReportMetric(times[i][len(times[i])/2]/times[0][len(times[0])/2], w.name+"/host")
					}
				}
			})
		}
	}
}
