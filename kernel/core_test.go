package kernel_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/ksyms"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// bynum makes one call of __sysctl.
func bynum(t *testing.T, p *kernel.Proc, nums []int32, set []byte, out int) (*abi.Sysargs, error) {
	t.Helper()
	a := &abi.Sysargs{In: append(abi.AppendSysctlName(nil, nums), set...), Out: make([]byte, out)}
	a.SetInt(0, len(nums))
	if set != nil {
		a.A[1] = 1
	}
	err := p.Syscall(context.Background(), abi.SYS___sysctl, a)
	return a, err
}

// TestSysctlByNumber is NetBSD's sysctl(3): values, short buffers, refusals,
// what is below a node, and descriptions.
func TestSysctlByNumber(t *testing.T) {
	ctx := context.Background()
	k := booted(t, kernel.Options{NCPU: 3, Hostname: "hosty"})
	root, err := k.NewProc("root", abi.Root)
	if err != nil {
		t.Fatal(err)
	}
	user, err := k.NewProc("user", abi.NewCred(7, 7))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	defer user.Close()
	ncpu, hostname := []int32{abi.CTL_HW, 3}, []int32{abi.CTL_KERN, 10}
	if a, err := bynum(t, user, ncpu, nil, 8); err != nil || a.NO != 4 || binary.LittleEndian.Uint32(a.Out) != 3 {
		t.Errorf("hw.ncpu: %v %v", a.Out[:a.NO], err)
	}
	if a, err := bynum(t, user, hostname, nil, 0); err != nil || a.R[0] != 6 {
		t.Errorf("the length of a value: %d %v", a.R[0], err)
	}
	if a, err := bynum(t, user, hostname, nil, 3); abi.ErrnoOf(err) != abi.ENOMEM || string(a.Out) != "hos" || a.R[0] != 6 {
		t.Errorf("a short buffer: %q %d %v", a.Out, a.R[0], err)
	}
	if a, err := bynum(t, root, hostname, []byte("new\x00"), 10); err != nil || string(a.Out[:a.NO]) != "hosty\x00" {
		t.Errorf("the old value: %q %v", a.Out[:a.NO], err)
	}
	if v, _ := k.Sysctl.Get("kern.hostname"); v != "new" {
		t.Errorf("the new value: %q", v)
	}
	for _, tc := range []struct {
		name string
		p    *kernel.Proc
		nums []int32
		set  []byte
		want abi.Errno
	}{
		{"a read-only node", root, ncpu, []byte{1, 0, 0, 0}, abi.EPERM},
		{"somebody else", user, hostname, []byte("x\x00"), abi.EPERM},
		{"too few bytes", root, []int32{abi.CTL_KERN, 7}, []byte{1}, abi.EINVAL},
		{"a value that is refused", root, []int32{abi.CTL_KERN, 7}, []byte{1, 0, 0, 0}, abi.EINVAL},
		{"a branch", root, []int32{abi.CTL_KERN}, nil, abi.EISDIR},
		{"nothing", root, []int32{abi.CTL_KERN, 4000}, nil, abi.ENOENT},
		{"below a value", root, append(ncpu, 1), nil, abi.ENOTDIR},
		{"create", root, []int32{abi.CTL_KERN, abi.CTL_CREATE}, []byte("x"), abi.EPERM},
		{"destroy", root, []int32{abi.CTL_KERN, abi.CTL_DESTROY}, []byte("x"), abi.EPERM},
		{"query of a value", root, append(ncpu, abi.CTL_QUERY), nil, abi.ENOTDIR},
	} {
		if _, err := bynum(t, tc.p, tc.nums, tc.set, 100); abi.ErrnoOf(err) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	a := &abi.Sysargs{In: []byte{1, 2}}
	a.SetInt(0, 1)
	if err := root.Syscall(ctx, abi.SYS___sysctl, a); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("half a name: %v", err)
	}
	q, err := bynum(t, user, []int32{abi.CTL_QUERY}, nil, 10000)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := abi.ParseSysctlNodes(q.Out[:q.NO])
	names := map[string]int32{}
	for _, n := range nodes {
		names[n.Name] = n.Num
		if n.Type != abi.CTLTYPE_NODE || n.Flags != abi.CTLFLAG_PERMANENT {
			t.Errorf("top node %+v", n)
		}
	}
	for i, name := range strings.Fields("kern vm vfs net debug hw machdep user ddb proc vendor emul security") {
		if err != nil || names[name] != int32(i+1) {
			t.Errorf("%s is %d, want %d; %v", name, names[name], i+1, err)
		}
	}
	d, err := bynum(t, user, []int32{abi.CTL_HW, abi.CTL_DESCRIBE}, nil, 10000)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := abi.ParseSysctlDescs(d.Out[:d.NO]); err != nil || m[3] != "Number of CPUs" {
		t.Errorf("descriptions %v %v", m, err)
	}
}

// TestSysctlNodes: the nodes of the table are there, read as their type says,
// and those of processes and users are the caller's.
func TestSysctlNodes(t *testing.T) {
	ctx := context.Background()
	k := booted(t, kernel.Options{})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	for _, name := range strings.Fields(`kern.ostype kern.osrelease kern.osrevision kern.version kern.hostname kern.domainname kern.rawpartition
		hw.model hw.machine hw.machine_arch hw.ncpu hw.ncpuonline hw.byteorder hw.physmem hw.physmem64 hw.pagesize hw.alignbytes hw.disknames hw.iostatnames hw.iostats
		kern.module.autoload kern.module.verbose kern.module.path kern.module.autotime kern.evcnt kern.msgbuf kern.msgbufsize kern.urandom kern.arandom
		kern.timecounter.choice kern.timecounter.hardware kern.timecounter.timestepwarnings
		kern.uidinfo.proccnt kern.uidinfo.lwpcnt kern.uidinfo.lockcnt kern.uidinfo.sbsize
		kern.file kern.file2 kern.proc kern.proc2 kern.ntptime kern.cp_time kern.lwp
		proc.curproc.corename proc.curproc.stopfork proc.curproc.rlimit.descriptors.soft vfs.generic.fstypes`) {
		v, err := c.Sysctl(ctx, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		row, err := c.SysctlList(ctx, name)
		if err != nil || len(row) != 1 || row[0].Desc == "" {
			t.Errorf("%s: %+v %v", name, row, err)
			continue
		}
		switch row[0].Type {
		case "int":
			_, err = strconv.ParseInt(v, 10, 32)
		case "quad":
			_, err = strconv.ParseInt(v, 10, 64)
		case "bool":
			if v != "0" && v != "1" {
				err = fmt.Errorf("%q is no bool", v)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, _ := c.Sysctl(ctx, "kern.uidinfo.proccnt"); v != "2" { // proc0 and this one
		t.Errorf("processes of root: %s", v)
	}
	pid, _ := c.Getpid(ctx)
	for name, want := range map[string]string{
		fmt.Sprintf("kern.proc_args.%d.argv", pid): "prog", fmt.Sprintf("kern.proc_args.%d.nargv", pid): "1", "kern.proc_args.0.argv": "kernel",
	} {
		if v, err := c.Sysctl(ctx, name); v != want || err != nil {
			t.Errorf("%s: %q, %v", name, v, err)
		}
	}
	if _, err := c.Sysctl(ctx, "kern.proc_args.9999.argv"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("arguments of nobody: %v", err)
	}
	for name, want := range map[string]string{"kern.proc": `"name":"prog"`, "kern.proc2": `"name":"kernel"`, "kern.file": "[]", "kern.cp_time": "idle = ", "kern.ntptime": "time_state = 5"} {
		if v, err := c.Sysctl(ctx, name); err != nil || !strings.Contains(v, want) {
			t.Errorf("%s: %q, %v", name, v, err)
		}
	}
	rows, err := c.SysctlList(ctx, "kern")
	if err != nil || slices.ContainsFunc(rows, func(r rumpclient.SysctlNode) bool { return r.Name == "kern.proc" || r.Name == "kern.file" }) {
		t.Errorf("the list has the large ones: %v", err)
	}
	for nums, want := range map[[2]int32]string{{1, 14}: "kern.proc", {1, 15}: "kern.file", {1, 40}: "kern.ntptime", {1, 47}: "kern.proc2", {1, 51}: "kern.cp_time", {1, 77}: "kern.file2"} {
		if name, err := k.Sysctl.Name(nums[:]); name != want || err != nil {
			t.Errorf("%v: %s, %v", nums, name, err)
		}
	}
	if nums, err := k.Sysctl.Numbers(fmt.Sprintf("kern.proc_args.%d.argv", pid)); err != nil || !slices.Equal(nums, []int32{1, 48, int32(pid), 1}) {
		t.Errorf("%v, %v", nums, err)
	}
	name := fmt.Sprintf("proc.%d.rlimit.descriptors.soft", pid)
	if err := c.SysctlSet(ctx, name, "77"); err != nil {
		t.Error(err)
	}
	if v, err := c.Sysctl(ctx, "proc.curproc.rlimit.descriptors.soft"); err != nil || v != "77" {
		t.Errorf("the limit is %s, %v", v, err)
	}
	if err := c.SysctlSet(ctx, "proc.curproc.rlimit.descriptors.hard", "70"); err != nil {
		t.Error(err)
	}
	if v, err := c.Sysctl(ctx, name); err != nil || v != "70" {
		t.Errorf("the soft limit is %s, above the hard one; %v", v, err)
	}
	if err := c.SysctlSet(ctx, name, "-1"); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("a negative limit: %v", err)
	}
	if err := c.SysctlSet(ctx, "kern.module.autotime", "-1"); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("a negative autotime: %v", err)
	}
	if _, err := c.Sysctl(ctx, "proc.4711.corename"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("a process that is not there: %v", err)
	}
	var lwps []struct {
		Name, Wmesg string
	}
	text, err := c.Sysctl(ctx, "kern.lwp")
	if err == nil {
		err = json.Unmarshal([]byte(text), &lwps)
	}
	if err != nil || len(lwps) == 0 || lwps[0].Name != "softclk/0" {
		t.Errorf("kern.lwp %s %v", text, err)
	}
}

// TestUidinfoLocks: record locks count for their user, and go back to 0; the
// node is read by a remote client's means, by number.
func TestUidinfoLocks(t *testing.T) {
	ctx := t.Context()
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New()}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	nums, err := k.Sysctl.Numbers("kern.uidinfo.lockcnt")
	if err != nil {
		t.Fatal(err)
	}
	locks := func() uint64 {
		b := make([]byte, 8)
		if n, err := c.Sysctlnum(ctx, nums, b, nil); err != nil || n != 8 {
			t.Fatalf("%d %v", n, err)
		}
		return binary.LittleEndian.Uint64(b)
	}
	fd, err := c.Open(ctx, "/f", abi.O_RDWR|abi.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Flock(ctx, fd, abi.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if n := locks(); n != 1 {
		t.Errorf("%d locks", n)
	}
	if err := c.Close(ctx, fd); err != nil {
		t.Fatal(err)
	}
	if n := locks(); n != 0 {
		t.Errorf("%d locks in the end", n)
	}
	if n, err := c.Sysctlnum(ctx, nums, nil, nil); err != nil || n != 8 {
		t.Errorf("the length is %d, %v", n, err)
	}
	if n, err := c.Sysctlnum(ctx, nums, make([]byte, 3), nil); abi.ErrnoOf(err) != abi.ENOMEM || n != 8 {
		t.Errorf("a short buffer: %d, %v", n, err)
	}
	if _, err := c.Sysctlnum(ctx, nums, nil, make([]byte, 8)); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("a read-only node: %v", err)
	}
}

// TestKernelDevices opens /dev/klog and /dev/ksyms of a kernel without a driver
// component, and sees their transfers counted.
func TestKernelDevices(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New()}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	fd, err := c.Open(ctx, "/dev/klog", abi.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(ctx, "/dev/klog", abi.O_RDONLY, 0); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("opened twice: %v", err)
	}
	buf := make([]byte, 64<<10)
	if n, err := c.Read(ctx, fd, buf); err != nil || !strings.Contains(string(buf[:n]), "attached: tmpfs") {
		t.Errorf("%q %v", buf[:n], err)
	}
	got := make(chan string)
	go func() {
		n, err := c.Read(ctx, fd, buf)
		got <- fmt.Sprint(string(buf[:n]), err)
	}()
	k.Msg.Log(kprintf.LogNotice, "hello")
	if s := <-got; !strings.HasPrefix(s, "<5>") || !strings.HasSuffix(s, "hello\n<nil>") {
		t.Errorf("klog: %q", s)
	}
	b, err := c.ReadFile(ctx, "/dev/ksyms")
	if err != nil || !strings.Contains(string(b), " T github.com/rumpus-kernel/rumpus/kernel.New\n") || !strings.Contains(string(b), " T tmpfs_modinfo\t[tmpfs]\n") {
		t.Errorf("ksyms: %d bytes, %v", len(b), err)
	}
	if err := k.Ksyms.Load(ksyms.Go); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("second load of the symbols: %v", err)
	}
	r := k.Iostat.Find("log").Row()
	if r.Reads != 2 || r.RBytes == 0 {
		t.Errorf("iostat of klog: %+v", r)
	}
	if v, _ := c.Sysctl(ctx, "hw.iostatnames"); v != "ksyms log" && v != "log ksyms" {
		t.Errorf("hw.iostatnames %q", v)
	}
}

// TestModuleInUse: a mounted file system's module is EBUSY, and goes when it is
// not mounted any more; a builtin comes back with force only, and its symbols
// come and go with it.
func TestModuleInUse(t *testing.T) {
	ctx := context.Background()
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), misc{name: "extra"}}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	if err := c.Modunload(ctx, "tmpfs", 0); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("unload of the root's file system: %v", err)
	}
	if _, err := k.Ksyms.Getval("extra", "extra_modinfo"); err != nil {
		t.Error(err)
	}
	if err := c.Modunload(ctx, "extra", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Ksyms.Getval("extra", "extra_modinfo"); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("its symbols are there yet: %v", err)
	}
	if err := c.Modload(ctx, "extra", 0, nil); abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("load without force: %v", err)
	}
	rows, err := c.Modstat(ctx)
	if err != nil || len(rows) != 2 || rows[0].Refs != -1 || rows[0].Flag != "f" || rows[0].State != string(module.Disabled) {
		t.Errorf("%+v %v", rows, err)
	}
	if err := c.Modload(ctx, "extra", 1, nil); err != nil {
		t.Error(err)
	}
	if err := c.Modload(ctx, "extra", 8, nil); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("an unknown flag: %v", err)
	}
	for _, auto := range []bool{false, true} {
		if ok, err := c.Modmay(ctx, auto); !ok || err != nil {
			t.Errorf("may load %v: %v %v", auto, ok, err)
		}
	}
}
