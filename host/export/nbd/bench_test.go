package nbd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestAgainstNbdkit measures with fio, in one run and in turns, how fast a
// memory device is served here and by nbdkit's memory plugin:
//
//	RUMPUS_NBD_BENCH=1 go test -run TestAgainstNbdkit -v ./host/export/nbd
func TestAgainstNbdkit(t *testing.T) {
	if os.Getenv("RUMPUS_NBD_BENCH") == "" {
		t.Skip("RUMPUS_NBD_BENCH is not set")
	}
	tool(t, "fio")
	kit := tool(t, "nbdkit")
	const size = 256 << 20
	prompt := newMem(size, allOps|OpPrompt)
	slow := newMem(size, allOps) // served by workers
	_, path := serve(t, Options{}, Export{Name: "prompt", Backend: prompt}, Export{Name: "workers", Backend: slow})
	dir, err := os.MkdirTemp("", "nbdkit")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sock := filepath.Join(dir, "s")
	c := exec.Command(kit, "-f", "-U", sock, "memory", fmt.Sprint(size))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nbdkit does not come up")
		}
	}
	uris := map[string]string{
		"nbdkit":  "nbd+unix:///?socket=" + sock,
		"prompt":  "nbd+unix:///prompt?socket=" + path,
		"workers": "nbd+unix:///workers?socket=" + path,
	}
	for _, uri := range uris {
		fio(t, uri, "--rw=write", "--bs=1m", "--size=256m")
	}
	for _, j := range []struct {
		name string
		args []string
	}{
		{"4k randread qd16", []string{"--rw=randread", "--bs=4k", "--iodepth=16"}},
		{"4k randwrite qd16", []string{"--rw=randwrite", "--bs=4k", "--iodepth=16"}},
		{"1M read qd4", []string{"--rw=read", "--bs=1m", "--iodepth=4"}},
		{"1M write qd4", []string{"--rw=write", "--bs=1m", "--iodepth=4"}},
		{"mixed 70/30 16k qd16", []string{"--rw=randrw", "--rwmixread=70", "--bs=16k", "--iodepth=16"}},
		{"4k randread qd1", []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
	} {
		best := map[string]float64{}
		for range 3 {
			for _, name := range []string{"nbdkit", "prompt", "workers"} {
				best[name] = max(best[name], fio(t, uris[name], append(j.args, "--time_based", "--runtime=2", "--size=256m")...))
			}
		}
		r := best["prompt"] / best["nbdkit"]
		t.Logf("%-22s nbdkit %8.1f MB/s, prompt %8.1f (%.2f), workers %8.1f (%.2f)", j.name, best["nbdkit"]/1e6, best["prompt"]/1e6, r, best["workers"]/1e6, best["workers"]/best["nbdkit"])
	}
}

// fio runs a job and answers its bytes a second.
func fio(t testing.TB, uri string, args ...string) float64 {
	t.Helper()
	cmd := exec.Command(tool(t, "fio"), append([]string{"--name=j", "--ioengine=nbd", "--uri=" + uri, "--output-format=json"}, args...)...)
	cmd.Dir = t.TempDir() // it leaves its state of verifying there
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fio %q: %v", args, err)
	}
	var r struct {
		Jobs []struct {
			Error int `json:"error"`
			Read  struct {
				BW float64 `json:"bw_bytes"`
			} `json:"read"`
			Write struct {
				BW float64 `json:"bw_bytes"`
			} `json:"write"`
		} `json:"jobs"`
	}
	for len(out) > 0 && out[0] != '{' {
		out = out[1:]
	}
	if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) != 1 || r.Jobs[0].Error != 0 {
		t.Fatalf("fio %q: %v: %s", args, err, out)
	}
	return r.Jobs[0].Read.BW + r.Jobs[0].Write.BW
}
