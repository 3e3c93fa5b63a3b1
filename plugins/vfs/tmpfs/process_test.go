package tmpfs_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// childEnv makes the test binary play a component: the stream is descriptor 3,
// the ring 4.
const childEnv = "RUMPUS_TMPFS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
	}
	modtest.RegisterBinding(modtest.Binding{Name: "process", Bind: func(tb testing.TB, _ []modapi.Module, _ map[string]*os.File) []modapi.Module {
		p := spawn(tb)
		var mods []modapi.Module
		for _, m := range p.link.Modules() {
			mods = append(mods, killable{m, p})
		}
		return mods
	}})
	os.Exit(m.Run())
}

func child() {
	s := dispatch.New([]modapi.Module{tmpfs.New()}, dispatch.Options{})
	f := os.NewFile(3, "stream")
	nc, err := net.FileConn(f)
	f.Close()
	if err == nil && ring.Supported() {
		err = s.SetRing(os.NewFile(4, "ring"))
	}
	if err == nil {
		s.ServeStream(context.Background(), nc)
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(0)
}

// process is a component in a process of its own.
type process struct {
	cmd  *exec.Cmd
	link *modproxy.Link
	once sync.Once
}

// killable is a module of one that can be killed.
type killable struct {
	modapi.Module
	p *process
}

func (k killable) Kill() { k.p.kill() }

func (p *process) kill() {
	p.once.Do(func() {
		p.cmd.Process.Signal(syscall.SIGKILL)
		p.cmd.Wait()
		p.link.Close()
	})
}

// spawn starts one.
func spawn(tb testing.TB) *process {
	tb.Helper()
	host, comp := modproxytest.Pair(tb)
	cf, err := comp.(*net.UnixConn).File()
	comp.Close()
	if err != nil {
		tb.Fatal(err)
	}
	defer cf.Close()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	p.cmd.Stderr = os.Stderr
	p.cmd.ExtraFiles = []*os.File{cf}
	opt := modproxy.Options{Instance: "test", Epoch: 1}
	if ring.Supported() {
		rf, err := ring.Create(true)
		if err != nil {
			tb.Fatal(err)
		}
		defer rf.Close()
		if opt.Ring, err = ring.Map(rf); err != nil {
			tb.Fatal(err)
		}
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, rf)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.link, err = modproxy.Open(tb.Context(), host, nil, opt)
	if err != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	return p
}

// TestProcess: random work in processes that are killed, beside one that is not.
func TestProcess(t *testing.T) {
	modtest.TestRecovery(t, func(*testing.T) modtest.FSUnderTest {
		return modtest.FSUnderTest{Mods: []modapi.Module{tmpfs.New()}, Type: "tmpfs", Options: map[string]string{"size": "1m"}}
	}, 5, 500)
}

// procKernel is a kernel with one mount, whose Store is the real one.
type procKernel struct {
	*modtest.Kernel
	s *store.Store
	x *store.Session
}

func (k *procKernel) Store(abi.Fsid) modapi.Store { return k.x }

// TestRecoverTime prints how long it takes from a death to a mount of ten
// thousand nodes with a hundred mutators replayed: with a process that stands
// by, and with one that has to be started. Times are not judged.
func TestRecoverTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	ctx := t.Context()
	k := &procKernel{Kernel: modtest.NewKernel(t, nil), s: store.New(store.Options{})}
	rounds := 7
	seq := abi.OpSeq(0)
	op := func() vfsops.Op {
		seq++
		return vfsops.Op{Seq: seq, Now: abi.Timespec{Sec: int64(seq)}, Caller: abi.KernelCaller}
	}
	var fs vfsops.FS
	bind := func(p *process, r modapi.Reason) {
		t.Helper()
		k.Forget()
		k.x = k.s.Open()
		if err := k.InitWith(p.link.Modules()[0], k, r, nil); err != nil {
			t.Fatal(err)
		}
		var err error
		fs, err = k.FSTypes["tmpfs"].Type.Mount(ctx, &vfsops.MountReq{Fsid: 1, Type: "tmpfs", Op: vfsops.Op{Seq: 1, Caller: abi.KernelCaller}, Seq: k.s.Seq()})
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(dir abi.Handle, name string, o vfsops.Op) vfsops.Mutated {
		t.Helper()
		m, err := fs.(vfsops.Creator).Create(ctx, vfsops.CreateReq{Op: o, Dir: dir, Name: []byte(name), Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	p := spawn(t)
	bind(p, modapi.Fresh)
	root, err := fs.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []abi.Handle
	for d := range 20 {
		m, err := fs.(vfsops.Creator).Mkdir(ctx, vfsops.CreateReq{Op: op(), Dir: root.Handle, Name: fmt.Append(nil, d), Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, m.Node.Handle)
		for i := range 500 {
			create(m.Node.Handle, fmt.Sprint("file", i), op())
		}
	}
	for _, spare := range []bool{true, false} {
		var took []time.Duration
		for round := range rounds {
			if err := fs.(vfsops.Checkpointer).Checkpoint(ctx, seq); err != nil {
				t.Fatal(err)
			}
			if err := k.x.Commit(seq); err != nil {
				t.Fatal(err)
			}
			type done struct {
				dir  abi.Handle
				name string
				op   vfsops.Op
				got  vfsops.Mutated
			}
			var log []done
			for i := range 100 {
				o, dir, name := op(), dirs[(round+i)%len(dirs)], fmt.Sprint("new", spare, round, "-", i)
				log = append(log, done{dir, name, o, create(dir, name, o)})
			}
			var next *process
			if spare {
				next = spawn(t)
			}
			begin := time.Now()
			p.kill()
			k.s.Drop()
			if next == nil {
				next = spawn(t)
			}
			p = next
			bind(p, modapi.Restart)
			for _, d := range log {
				d.op.Fileid, d.op.Gen = d.got.Node.Handle.File, d.got.Node.Handle.Gen
				if got := create(d.dir, d.name, d.op); got != d.got {
					t.Fatalf("replay answers %+v, not %+v", got, d.got)
				}
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		t.Logf("spare %v: p50 %v, p99 %v", spare, took[len(took)/2], took[len(took)-1])
	}
}

// BenchmarkCheckpoint is what a checkpoint adds to each of a thousand creations,
// in a process; beside it is what one costs without.
func BenchmarkCheckpoint(b *testing.B) {
	ctx := context.Background()
	k := &procKernel{Kernel: modtest.NewKernel(b, nil), s: store.New(store.Options{})}
	k.x = k.s.Open()
	if err := k.InitWith(spawn(b).link.Modules()[0], k, modapi.Fresh, nil); err != nil {
		b.Fatal(err)
	}
	fs, err := k.FSTypes["tmpfs"].Type.Mount(ctx, &vfsops.MountReq{Fsid: 1, Type: "tmpfs", Options: map[string]string{"nodes": "100m"}, Op: vfsops.Op{Seq: 1, Caller: abi.KernelCaller}})
	if err != nil {
		b.Fatal(err)
	}
	root, err := fs.Root(ctx)
	if err != nil {
		b.Fatal(err)
	}
	seq := abi.OpSeq(1)
	op := func() vfsops.Op {
		seq++
		return vfsops.Op{Seq: seq, Now: abi.Timespec{Sec: int64(seq)}, Caller: abi.KernelCaller}
	}
	var creates, checkpoints time.Duration
	const n = 1000
	for b.Loop() {
		d, err := fs.(vfsops.Creator).Mkdir(ctx, vfsops.CreateReq{Op: op(), Dir: root.Handle, Name: fmt.Append(nil, seq)})
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		for i := range n {
			if _, err := fs.(vfsops.Creator).Create(ctx, vfsops.CreateReq{Op: op(), Dir: d.Node.Handle, Name: fmt.Append(nil, "file", i)}); err != nil {
				b.Fatal(err)
			}
		}
		made := time.Now()
		if err := fs.(vfsops.Checkpointer).Checkpoint(ctx, seq); err != nil {
			b.Fatal(err)
		}
		if err := k.x.Commit(seq); err != nil {
			b.Fatal(err)
		}
		checkpoints += time.Since(made)
		creates += made.Sub(begin)
	}
	b.ReportMetric(float64(creates.Nanoseconds())/float64(b.N)/n, "ns/create")
	b.ReportMetric(float64(checkpoints.Nanoseconds())/float64(b.N)/n, "ns/create-checkpointed")
}
