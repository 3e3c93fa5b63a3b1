package rumpclient_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// bothKinds runs a test with a way to make clients of one kernel, embedded and
// remote.
func bothKinds(t *testing.T, test func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client)) {
	t.Run("embedded", func(t *testing.T) {
		k := boot(t)
		test(t, k, func() *rumpclient.Client {
			c, err := k.Client("test")
			must(t, err)
			t.Cleanup(func() { c.Exit() })
			return c
		})
	})
	t.Run("remote", func(t *testing.T) {
		k := boot(t)
		url := "unix://" + proxy(t, k)
		test(t, k, func() *rumpclient.Client {
			c, err := rumpclient.Open(context.Background(), url)
			must(t, err)
			t.Cleanup(func() { c.Exit() })
			return c
		})
	})
}

// TestRfork makes children that share, copy and lack the descriptors, as
// t_lwproc's rfork does, and lets another client become each.
func TestRfork(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		must(t, c.MkdirAll(ctx, "/d", 0o755))
		must(t, c.Chdir(ctx, "/d"))
		fd, err := c.Open(ctx, "f", abi.O_RDWR|abi.O_CREAT, 0o644)
		must(t, err)
		if _, _, err := c.Rfork(ctx, abi.RUMP_RFFDG|abi.RUMP_RFCFDG); !errors.Is(err, abi.EINVAL) {
			t.Errorf("both flags: %v", err)
		}
		for _, tc := range []struct {
			name         string
			flags        int
			has, affects bool
		}{{"share", 0, true, true}, {"copy", abi.RUMP_RFFDG, true, false}, {"clear", abi.RUMP_RFCFDG, false, false}} {
			t.Run(tc.name, func(t *testing.T) {
				x, err := c.Dup(ctx, fd)
				must(t, err)
				pid, cookie, err := c.Rfork(ctx, tc.flags)
				must(t, err)
				n := dial()
				was, _ := n.Getpid(ctx)
				got, err := n.Attach(ctx, cookie)
				must(t, err)
				now, _ := n.Getpid(ctx)
				ppid, _ := n.Getppid(ctx)
				mine, _ := c.Getpid(ctx)
				if got != pid || now != pid || ppid != mine || was == now {
					t.Errorf("rfork said %d, attach %d, getpid %d, getppid %d of %d", pid, got, now, ppid, mine)
				}
				if _, err := k.Procs.Find(int32(was)); err == nil {
					t.Error("the process that it was is still there")
				}
				_, err = n.Fstat(ctx, x)
				if (err == nil) != tc.has {
					t.Errorf("the descriptor: %v", err)
				}
				if tc.has {
					must(t, n.Close(ctx, x))
				}
				if _, err := c.Fstat(ctx, x); (err != nil) != tc.affects {
					t.Errorf("the parent's after a close in the child: %v", err)
				}
				if wd, err := n.Getcwd(ctx); wd != "/d" || err != nil {
					t.Errorf("working directory %q, %v", wd, err)
				}
				must(t, n.Chdir(ctx, "/"))
				if wd, _ := c.Getcwd(ctx); wd != "/d" {
					t.Errorf("the parent's working directory is %q", wd)
				}
				if _, err := dial().Attach(ctx, cookie); !errors.Is(err, abi.EPERM) {
					t.Errorf("a cookie is good once: %v", err)
				}
			})
		}
		if _, err := c.Attach(ctx, rumpclient.Cookie{1}); !errors.Is(err, abi.EPERM) {
			t.Errorf("a made-up cookie: %v", err)
		}
	})
}

// TestRforkUnclaimed: a child that nobody became ends with its parent.
func TestRforkUnclaimed(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	c, err := k.Client("parent")
	must(t, err)
	pid, cookie, err := c.Rfork(ctx, 0)
	must(t, err)
	p, err := k.Procs.Find(int32(pid))
	must(t, err)
	must(t, c.Exit())
	<-p.Context().Done()
	n, err := k.Client("late")
	must(t, err)
	defer n.Exit()
	if _, err := n.Attach(ctx, cookie); !errors.Is(err, abi.EPERM) {
		t.Errorf("attach after its end: %v", err)
	}
	// Another user's cookie is none.
	root, err := k.Client("root")
	must(t, err)
	defer root.Exit()
	_, cookie, err = root.Rfork(ctx, 0)
	must(t, err)
	q, err := k.NewProc("other", abi.NewCred(1000, 1000))
	must(t, err)
	u := rumpclient.New(q)
	defer u.Exit()
	if _, err := u.Attach(ctx, cookie); !errors.Is(err, abi.EPERM) {
		t.Errorf("another user's child: %v", err)
	}
}

// TestKernelLwps is an embedder's lwps: made, used, released.
func TestKernelLwps(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	if _, err := k.NewLwp(99); !errors.Is(err, abi.ESRCH) {
		t.Errorf("no such process: %v", err)
	}
	l, err := k.RforkLwp(0, abi.RUMP_RFCFDG)
	must(t, err)
	var a abi.Sysargs
	must(t, l.Syscall(ctx, abi.SYS_getpid, &a))
	if int32(a.R[0]) != l.Pid() {
		t.Errorf("getpid %d in process %d", a.R[0], l.Pid())
	}
	must(t, l.Syscall(ctx, abi.SYS__lwp_self, &a))
	if int32(a.R[0]) != l.Lid() {
		t.Errorf("_lwp_self %d in lwp %d", a.R[0], l.Lid())
	}
	pid := l.Pid()
	must(t, l.Close())
	if _, err := k.NewLwp(pid); !errors.Is(err, abi.ESRCH) {
		t.Errorf("after the last lwp: %v", err)
	}
}

// TestRlimits: descriptors (EMFILE), open files of the kernel (ENFILE), size of
// files (EFBIG).
func TestRlimits(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		r, err := c.Getrlimit(ctx, abi.RLIMIT_NOFILE)
		if err != nil || r != (rumpclient.Rlimit{Cur: 1024, Max: 65536}) {
			t.Errorf("%v, %v", r, err)
		}
		must(t, c.Setrlimit(ctx, abi.RLIMIT_NOFILE, rumpclient.Rlimit{Cur: 3, Max: 10}))
		for i := range 4 {
			_, err := c.Open(ctx, "/", abi.O_RDONLY, 0)
			if (i == 3) != errors.Is(err, abi.EMFILE) {
				t.Errorf("open %d: %v", i, err)
			}
		}
		for _, bad := range []struct {
			which int
			r     rumpclient.Rlimit
		}{{99, rumpclient.Rlimit{}}, {abi.RLIMIT_CPU, rumpclient.Rlimit{Cur: 2, Max: 1}}, {-1, rumpclient.Rlimit{}}, {abi.RLIMIT_CPU, rumpclient.Rlimit{Cur: -2, Max: -2}}} {
			if err := c.Setrlimit(ctx, bad.which, bad.r); !errors.Is(err, abi.EINVAL) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		must(t, c.Setrlimit(ctx, abi.RLIMIT_NOFILE, rumpclient.Rlimit{Cur: 100, Max: 1 << 60}))
		if r, _ := c.Getrlimit(ctx, abi.RLIMIT_NOFILE); r.Max != 65536 {
			t.Errorf("no bound: %v", r)
		}

		must(t, c.Setrlimit(ctx, abi.RLIMIT_FSIZE, rumpclient.Rlimit{Cur: 10, Max: 20}))
		fd, err := c.Open(ctx, "/limited", abi.O_RDWR|abi.O_CREAT, 0o644)
		must(t, err)
		if n, err := c.Write(ctx, fd, make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("up to the limit: %d, %v", n, err)
		}
		if _, err := c.Write(ctx, fd, []byte("x")); !errors.Is(err, abi.EFBIG) {
			t.Errorf("beyond: %v", err)
		}
		if err := c.Ftruncate(ctx, fd, 11); !errors.Is(err, abi.EFBIG) {
			t.Errorf("ftruncate beyond: %v", err)
		}
		must(t, c.Ftruncate(ctx, fd, 3))

		must(t, c.SysctlSet(ctx, "kern.maxfiles", "16"))
		n := 0
		for ; n < 20 && err == nil; n++ {
			_, err = c.Open(ctx, "/", abi.O_RDONLY, 0)
		}
		if !errors.Is(err, abi.ENFILE) {
			t.Errorf("file %d: %v", n, err)
		}
		must(t, c.Setuid(ctx, 1000))
		if err := c.Setrlimit(ctx, abi.RLIMIT_NOFILE, rumpclient.Rlimit{Cur: 10, Max: 70000}); !errors.Is(err, abi.EPERM) {
			t.Errorf("more than there can be, by somebody who may not: %v", err)
		}
		if err := c.Setrlimit(ctx, abi.RLIMIT_FSIZE, rumpclient.Rlimit{Cur: 10, Max: 21}); !errors.Is(err, abi.EPERM) {
			t.Errorf("raised by a user: %v", err)
		}
		must(t, c.Setrlimit(ctx, abi.RLIMIT_FSIZE, rumpclient.Rlimit{Cur: 20, Max: 20}))
	})
}

// TestSetids is the family of setuid(2) as a table: from which ids, which call,
// what comes out.
func TestSetids(t *testing.T) {
	ctx := context.Background()
	k := boot(t)
	type ids [3]uint32 // real, effective, saved
	for _, tc := range []struct {
		name string
		from ids
		call func(c *rumpclient.Client) error
		want ids
		err  error
	}{
		{"root setuid", ids{0, 0, 0}, func(c *rumpclient.Client) error { return c.Setuid(ctx, 5) }, ids{5, 5, 5}, nil},
		{"setuid to saved", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Setuid(ctx, 3) }, ids{1, 3, 3}, nil},
		{"setuid to another", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Setuid(ctx, 4) }, ids{1, 2, 3}, abi.EPERM},
		{"root seteuid", ids{0, 0, 0}, func(c *rumpclient.Client) error { return c.Seteuid(ctx, 5) }, ids{0, 5, 0}, nil},
		{"seteuid back", ids{0, 5, 0}, func(c *rumpclient.Client) error { return c.Seteuid(ctx, 0) }, ids{0, 0, 0}, nil},
		{"seteuid to another", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Seteuid(ctx, 9) }, ids{1, 2, 3}, abi.EPERM},
		{"setreuid swaps", ids{1, 2, 1}, func(c *rumpclient.Client) error { return c.Setreuid(ctx, 2, 1) }, ids{2, 1, 1}, nil},
		{"setreuid of nothing", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Setreuid(ctx, -1, -1) }, ids{1, 2, 3}, nil},
		{"setreuid drops the saved one", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Setreuid(ctx, 1, 1) }, ids{1, 1, 1}, nil},
		{"setreuid to saved as real", ids{1, 2, 3}, func(c *rumpclient.Client) error { return c.Setreuid(ctx, 3, -1) }, ids{1, 2, 3}, abi.EPERM},
	} {
		cred := &abi.Cred{Ruid: tc.from[0], Euid: tc.from[1], Svuid: tc.from[2]}
		p, err := k.NewProc("ids", cred)
		must(t, err)
		c := rumpclient.New(p)
		if err := tc.call(c); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", tc.name, err)
		}
		q, err := k.Procs.Find(p.Pid())
		must(t, err)
		if n := q.Cred(); (ids{n.Ruid, n.Euid, n.Svuid}) != tc.want {
			t.Errorf("%s: %+v, not %v", tc.name, n, tc.want)
		}
		c.Exit()
	}
}

// TestSessions is getlogin, setlogin, setsid and setpgid through clients.
func TestSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		pid, err := c.Getpid(ctx)
		must(t, err)
		if name, err := c.Getlogin(ctx); name != "rumphobo" || err != nil {
			t.Errorf("login %q, %v", name, err)
		}
		if g, err := c.Getpgrp(ctx); g != 0 || err != nil {
			t.Errorf("group %d, %v", g, err)
		}
		if s, err := c.Setsid(ctx); s != pid || err != nil {
			t.Errorf("setsid %d, %v", s, err)
		}
		must(t, c.Setlogin(ctx, "somebody"))
		if name, _ := c.Getlogin(ctx); name != "somebody" {
			t.Errorf("login %q", name)
		}
		if g, _ := c.Getpgid(ctx, 0); g != pid {
			t.Errorf("group %d", g)
		}
		if s, err := c.Getsid(ctx, pid); s != pid || err != nil {
			t.Errorf("session %d, %v", s, err)
		}
		if _, err := c.Getsid(ctx, 9999); !errors.Is(err, abi.ESRCH) {
			t.Errorf("no such process: %v", err)
		}
		must(t, c.Setuid(ctx, 7))
		if err := c.Setlogin(ctx, "me"); !errors.Is(err, abi.EPERM) {
			t.Errorf("setlogin by a user: %v", err)
		}
	})
}

// TestDefectD: numbers below 0 and above the table are ENOSYS, from embedded
// and remote clients; the seed looked behind its table for the former.
func TestDefectD(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		for _, num := range []int{-1, -512, -1 << 31, abi.SYS_NSYSENT, 1<<31 - 1, -1 << 62, 1 << 40} {
			if err := c.Syscall(ctx, num, new(abi.Sysargs)); abi.ErrnoOf(err) != abi.ENOSYS {
				t.Errorf("system call %d: %v", num, err)
			}
		}
		if _, err := c.Getpid(ctx); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}
