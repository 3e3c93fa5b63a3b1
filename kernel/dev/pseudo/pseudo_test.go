package pseudo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/ksyms"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// world is a device switch with both devices, and no driver component.
type world struct {
	*testing.T
	s     *dev.Switch
	msg   *kprintf.Msgbuf
	syms  *ksyms.Table
	files *file.Table
	ctx   context.Context
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	w := &world{T: t, s: dev.New(dev.Options{}), msg: kprintf.New(time.Now, nil, nil), syms: ksyms.New(), files: &file.Table{}, ctx: ctx}
	w.files.Max.Store(100)
	th := kthread.New(nil)
	t.Cleanup(func() {
		if err := th.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	})
	log, err := w.s.AttachChr("", "log", NewKlog(w.msg))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.AttachChr("", "ksyms", NewKsyms(w.syms)); err != nil {
		t.Fatal(err)
	}
	soft, err := th.Establish(kthread.SoftClock, func() { w.s.DevReady(devops.Ready{Dev: log}) })
	if err != nil {
		t.Fatal(err)
	}
	w.msg.OnWrite(soft.Schedule)
	return w
}

// open opens a node by name.
func (w *world) open(name string, flags int) (*file.File, error) {
	n, ok := w.s.Lookup(name)
	if !ok {
		w.Fatalf("no node %s", name)
	}
	ops, data, err := w.s.Open(w.ctx, abi.KernelCaller, n.Dev, flags)
	if err != nil {
		return nil, err
	}
	f, err := w.files.New(file.TypeVnode, ops, data, flags, abi.Root)
	if err != nil {
		w.Fatal(err)
	}
	return f, nil
}

func (w *world) read(f *file.File, n int) (string, error) {
	b := make([]byte, n)
	n, err := f.Ops.Read(w.ctx, abi.KernelCaller, f, b, file.Cur)
	return string(b[:n]), err
}

// TestKlog: messages are read once, with priorities, by one reader, who waits
// for more; poll and FIONREAD tell; what was not read waits for the next.
func TestKlog(t *testing.T) {
	w := newWorld(t)
	w.msg.Printf("boot")
	f, err := w.open("klog", abi.O_RDONLY|abi.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.open("klog", abi.O_RDONLY); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("opened twice: %v", err)
	}
	if ev := f.Ops.Poll(w.ctx, f, abi.POLLIN); ev != abi.POLLIN {
		t.Errorf("poll with a message: %v", ev)
	}
	if s, err := w.read(f, 5); err != nil || len(s) != 5 {
		t.Errorf("%q %v", s, err)
	}
	if b, err := f.Ops.Ioctl(w.ctx, abi.KernelCaller, f, abi.FIONREAD, nil); err != nil || fmt.Sprint(b) != "[15 0 0 0]" {
		t.Errorf("FIONREAD %v %v", b, err)
	}
	if s, err := w.read(f, 100); err != nil || !strings.HasSuffix(s, "boot\n") || len(s) != 15 {
		t.Errorf("%q %v", s, err)
	}
	if s, err := w.read(f, 100); abi.ErrnoOf(err) != abi.EAGAIN {
		t.Errorf("%q %v", s, err)
	}
	if ev := f.Ops.Poll(w.ctx, f, abi.POLLIN); ev != 0 {
		t.Errorf("poll without a message: %v", ev)
	}
	f.SetFlags(abi.O_RDONLY)
	got := make(chan string)
	go func() {
		s, err := w.read(f, 100)
		if err != nil {
			s = err.Error()
		}
		got <- s
	}()
	w.msg.Log(kprintf.LogWarning, "late")
	if s := <-got; !strings.HasPrefix(s, "<4>[") || !strings.HasSuffix(s, "late\n") {
		t.Errorf("waited for %q", s)
	}
	if err := f.Ops.Close(w.ctx, f); err != nil {
		t.Error(err)
	}
	w.msg.Printf("unread")
	if f, err = w.open("klog", abi.O_RDONLY); err != nil {
		t.Fatal(err)
	}
	if s, err := w.read(f, 100); err != nil || !strings.HasSuffix(s, "unread\n") || strings.Contains(s, "late") {
		t.Errorf("after the reopen: %q %v", s, err)
	}
	if err := f.Ops.Close(w.ctx, f); err != nil {
		t.Error(err)
	}
}

// TestKsyms: the table as text, as it was at the first open.
func TestKsyms(t *testing.T) {
	w := newWorld(t)
	if err := w.syms.Load(func() []ksyms.Sym { return []ksyms.Sym{{Addr: 0x1000, Name: "main", Module: ksyms.Kernel}} }); err != nil {
		t.Fatal(err)
	}
	if err := w.syms.Modload("foo", []string{"foo_bar"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open("ksyms", abi.O_RDWR); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("for writing: %v", err)
	}
	for _, want := range []string{"0000000000001000 T main\nffff800000000000 T foo_bar\t[foo]\n", "0000000000001000 T main\n"} {
		f, err := w.open("ksyms", abi.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		w.syms.Modunload("foo")
		var all []byte
		for {
			s, err := w.read(f, 7)
			if err != nil {
				t.Fatal(err)
			}
			if s == "" {
				break
			}
			all = append(all, s...)
		}
		if string(all) != want {
			t.Errorf("%q, want %q", all, want)
		}
		if err := f.Ops.Close(w.ctx, f); err != nil {
			t.Error(err)
		}
	}
	names := []string{}
	for _, n := range w.s.Nodes() {
		names = append(names, n.Name)
	}
	if !slices.Equal(names, []string{"klog", "ksyms"}) {
		t.Errorf("nodes %v", names)
	}
}
