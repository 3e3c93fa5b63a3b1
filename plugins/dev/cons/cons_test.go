package cons

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

const patience = 60 * time.Second

// kern is a kernel that takes one character device and may grant a file.
type kern struct {
	modapi.Kernel
	grant *os.File
	gerr  error
	err   error
	d     devops.Chr
	edges chan devops.Ready
}

func (k *kern) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	k.d = d
	return abi.Makedev(14, 0), k.err
}

func (k *kern) Granted(name string) (*os.File, error) {
	if k.gerr != nil {
		return nil, k.gerr
	}
	if name != Grant || k.grant == nil {
		return nil, abi.ENOENT
	}
	return k.grant, nil
}

func (k *kern) DevReady(r devops.Ready) {
	select {
	case k.edges <- r:
	default:
	}
}

// boot makes a console on a pipe and its read end.
func boot(t *testing.T) (*kern, modapi.Module, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	k := &kern{grant: w, edges: make(chan devops.Ready, 16)}
	m := New()
	if err := m.Init(bg, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	return k, m, r
}

func TestOutput(t *testing.T) {
	k, m, r := boot(t)
	i := m.Info()
	if err := i.Check(); err != nil || i.Class != modapi.ClassDriver {
		t.Errorf("info %+v: %v", i, err)
	}
	if n := k.d.(devops.Noder).Nodes(); len(n) != 1 || n[0] != (devops.Node{Name: "console", Unit: 0, Mode: 0o600}) {
		t.Errorf("nodes %+v", n)
	}
	if err := k.d.Open(bg, 0, abi.O_RDWR); err != nil {
		t.Fatal(err)
	}
	n, err := k.d.Write(bg, 0, 0, abi.Iov{[]byte("NetBSD "), nil, []byte("says hello\n")}, 0)
	if n != 18 || err != nil {
		t.Fatalf("write %d, %v", n, err)
	}
	if n, err := k.d.Read(bg, 0, 0, abi.IovOf(make([]byte, 4)), 0); n != 0 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if ev, err := k.d.Poll(bg, 0); ev != abi.POLLIN|abi.POLLRDNORM|abi.POLLOUT || err != nil {
		t.Errorf("poll %v, %v", ev, err)
	}
	for _, cmd := range []uint32{abi.TIOCGETA, abi.TIOCGWINSZ, abi.TIOCSCTTY, 0} {
		if _, err := k.d.Ioctl(bg, 0, cmd, nil); abi.ErrnoOf(err) != abi.ENOTTY {
			t.Errorf("ioctl %#x: %v", cmd, err)
		}
	}
	if _, err := k.d.Ioctl(bg, 0, abi.FIONBIO, make([]byte, 4)); err != nil {
		t.Errorf("FIONBIO: %v", err)
	}
	if err := k.d.Close(bg, 0, 0); err != nil {
		t.Error(err)
	}
	// Fini writes the rest out and closes.
	if err := m.Fini(bg); err != nil {
		t.Fatal(err)
	}
	if err := m.Fini(bg); err != nil {
		t.Fatalf("second fini: %v", err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "NetBSD says hello\n" {
		t.Errorf("the host got %q, %v", got, err)
	}
	if _, err := k.d.Write(bg, 0, 0, abi.IovOf([]byte("x")), 0); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("write after fini: %v", err)
	}
}

// TestFull fills queue and pipe with nobody reading: EAGAIN, never a wait; then
// an edge when it drains, and every byte arrives in order.
func TestFull(t *testing.T) {
	k, m, r := boot(t)
	var sent []byte
	next := byte(0)
	write := func() error {
		p := make([]byte, 5000)
		for i := range p {
			p[i] = next + byte(i)
		}
		n, err := k.d.Write(bg, 0, 0, abi.IovOf(p), 0)
		sent = append(sent, p[:n]...)
		next += byte(n)
		return err
	}
	// The pipe, what the goroutine holds and the queue take less than this.
	const enough = 64 << 20
	for {
		for len(k.edges) > 0 {
			<-k.edges
		}
		err := write()
		if abi.ErrnoOf(err) == abi.EAGAIN {
			break
		}
		if err != nil || len(sent) > enough {
			t.Fatalf("%d bytes sent, %v", len(sent), err)
		}
	}
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		got <- b
	}()
	select {
	case e := <-k.edges:
		if e.Events&abi.POLLOUT == 0 || e.Dev != abi.Makedev(14, 0) {
			t.Errorf("edge %+v", e)
		}
	case <-time.After(patience):
		t.Fatal("no edge")
	}
	if err := m.Fini(bg); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("%d bytes sent, %d arrived, or not the same", len(sent), len(b))
	}
}

// TestFiniBounded has nobody read at all.
func TestFiniBounded(t *testing.T) {
	k, m, _ := boot(t)
	for range 3 * QueueSize / 4096 {
		if _, err := k.d.Write(bg, 0, 0, abi.IovOf(make([]byte, 4096)), 0); err != nil {
			break
		}
	}
	ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.Fini(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("fini waits for ever")
	}
}

// TestReaderGone closes the host's end: writes fail with EIO in the end.
func TestReaderGone(t *testing.T) {
	k, m, r := boot(t)
	r.Close()
	if _, err := k.d.Write(bg, 0, 0, abi.IovOf([]byte("x")), 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-k.edges: // the failure is an edge
	case <-time.After(patience):
		t.Fatal("no edge")
	}
	if _, err := k.d.Write(bg, 0, 0, abi.IovOf([]byte("x")), 0); abi.ErrnoOf(err) != abi.EIO {
		t.Errorf("write: %v", err)
	}
	if ev, _ := k.d.Poll(bg, 0); ev&abi.POLLOUT == 0 {
		t.Errorf("poll %v", ev)
	}
	if err := m.Fini(bg); err != nil {
		t.Error(err)
	}
}

func TestNoGrant(t *testing.T) {
	k, m := &kern{}, New()
	if err := m.Init(bg, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	_, rerr := k.d.Read(bg, 0, 0, nil, 0)
	_, werr := k.d.Write(bg, 0, 0, nil, 0)
	_, ierr := k.d.Ioctl(bg, 0, abi.FIONBIO, nil)
	_, perr := k.d.Poll(bg, 0)
	for i, err := range []error{k.d.Open(bg, 0, 0), rerr, werr, ierr, perr} {
		if abi.ErrnoOf(err) != abi.ENXIO {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if err := m.Fini(bg); err != nil {
		t.Error(err)
	}
}

func TestInitFails(t *testing.T) {
	if err := New().Init(bg, &kern{gerr: abi.EIO}, modapi.Fresh, nil); abi.ErrnoOf(err) != abi.EIO {
		t.Errorf("broken grant: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := New().Init(bg, &kern{grant: w, err: abi.EEXIST}, modapi.Fresh, nil); abi.ErrnoOf(err) != abi.EEXIST {
		t.Errorf("name taken: %v", err)
	}
	if b, err := io.ReadAll(r); len(b) != 0 || err != nil {
		t.Errorf("the grant was not closed: %q, %v", b, err)
	}
}

// TestNoUnit asks for a unit that there is not.
func TestNoUnit(t *testing.T) {
	k, m, _ := boot(t)
	if err := k.d.Open(bg, 1, 0); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("open: %v", err)
	}
	if err := m.Fini(bg); err != nil {
		t.Error(err)
	}
}
