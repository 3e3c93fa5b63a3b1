package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLog keeps what is logged.
type testLog struct {
	mu sync.Mutex
	l  []string
}

func (l *testLog) add(msg string, kv []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.l = append(l.l, fmt.Sprint(append([]any{msg}, kv...)...))
}
func (l *testLog) Debug(msg string, kv ...any) { l.add(msg, kv) }
func (l *testLog) Info(msg string, kv ...any)  { l.add(msg, kv) }
func (l *testLog) Warn(msg string, kv ...any)  { l.add(msg, kv) }
func (l *testLog) Error(msg string, kv ...any) { l.add(msg, kv) }

func newTestCounters() counters {
	c := func() *modapi.Counter { return new(modapi.Counter) }
	return counters{c(), c(), c(), c(), c()}
}

// open makes a unit; it ends with the test.
func open(t testing.TB, o unitOptions, dial dialFunc) *unit {
	t.Helper()
	if o.timeout == 0 {
		o.timeout = 10 * time.Second
	}
	u := newUnit("nbd0", o, dial, &testLog{}, newTestCounters())
	u.start()
	t.Cleanup(u.stop)
	return u
}

func dialUnix(path string) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// ready waits for the first connection.
func (u *unit) ready(t testing.TB) devops.Geom {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	u.up(ctx)
	g, err := u.geometry()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (u *unit) rw(ctx context.Context, flags devops.BufFlags, off int64, p []byte) error {
	b := devops.Buf{Blkno: off / 512, Bytes: int64(len(p)), Flags: flags}
	if k := len(p) / 3; k > 0 { // in pieces
		b.Data = abi.Iov{p[:k], p[k : 2*k], p[2*k:]}
	}
	return u.strategy(ctx, &b)
}

func (u *unit) op(ctx context.Context, flags devops.BufFlags, off, n int64) error {
	return u.strategy(ctx, &devops.Buf{Blkno: off / 512, Bytes: n, Flags: flags})
}

func pattern(p []byte, off, seed int64) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(off+int64(i))*0x9e3779b97f4a7c15+uint64(seed))
	}
}

// nbdkit is one in a process, that can be killed and started again.
type nbdkit struct {
	t    testing.TB
	sock string
	args []string
	c    *exec.Cmd
}

func startNbdkit(t testing.TB, args ...string) *nbdkit {
	t.Helper()
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("nbdkit is not installed")
	}
	dir, err := os.MkdirTemp("", "nbdkit")
	if err != nil {
		t.Fatal(err)
	}
	k := &nbdkit{t: t, sock: filepath.Join(dir, "s"), args: args}
	k.start()
	t.Cleanup(func() { k.kill(); os.RemoveAll(dir) })
	return k
}

func (k *nbdkit) start() {
	k.t.Helper()
	os.Remove(k.sock)
	k.c = exec.Command("nbdkit", append([]string{"-f", "-U", k.sock}, k.args...)...)
	var out bytes.Buffer
	k.c.Stderr = &out
	if err := k.c.Start(); err != nil {
		k.t.Fatal(err)
	}
	wait(k.t, func() bool {
		_, err := os.Stat(k.sock) // a connection that says nothing may end it
		return err == nil
	})
}

func (k *nbdkit) kill() {
	if k.c != nil {
		k.c.Process.Kill()
		k.c.Wait()
		k.c = nil
	}
}

func wait(t testing.TB, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it does not happen")
		}
	}
}

func (u *unit) logged(s string) bool {
	l := u.log.(*testLog)
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.l, "\n"), s)
}
