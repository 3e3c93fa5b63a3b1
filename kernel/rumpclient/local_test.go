package rumpclient_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestLocalNettest(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		n := 0
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			ctx := soon(t)
			path := "/sock" + string(rune('a'+n))
			n++
			l, err := c.Listen(ctx, "unix", path)
			if err != nil {
				return nil, nil, nil, err
			}
			defer l.Close()
			if c1, err = c.Dial(ctx, "unix", path); err != nil {
				return nil, nil, nil, err
			}
			if c2, err = l.Accept(); err != nil {
				c1.Close()
				return nil, nil, nil, err
			}
			return c1, c2, func() { c1.Close(); c2.Close() }, nil
		})
	})
}

// TestLocalNames: names are files, with their permissions, and no more than
// that.
func TestLocalNames(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	c, err := k.Client("root")
	must(t, err)
	defer c.Exit()
	p, err := k.NewProc("user", abi.NewCred(1000, 100))
	must(t, err)
	u := rumpclient.New(p)
	defer u.Exit()
	must(t, c.Mkdir(ctx, "/d", 0o755))
	must(t, c.Chdir(ctx, "/d"))
	at := abi.SockaddrUnix("/d/s")
	sock := func(c *rumpclient.Client, typ int) int {
		t.Helper()
		s, err := c.Socket(ctx, abi.AF_LOCAL, typ, 0)
		must(t, err)
		return s
	}
	want := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) || err == nil {
			t.Errorf("%v, want %v", err, want)
		}
	}
	l := sock(c, abi.SOCK_STREAM)
	want(u.Bind(ctx, sock(u, abi.SOCK_STREAM), abi.SockaddrUnix("/d/u")), abi.EACCES)
	want(c.Bind(ctx, l, abi.SockaddrUnix("/none/s")), abi.ENOENT)
	want(c.Bind(ctx, l, abi.SockaddrUnix("/d/s/")), abi.ENOENT)
	must(t, c.Bind(ctx, l, abi.SockaddrUnix("s"))) // in the working directory
	if st, err := c.Stat(ctx, "/d/s"); err != nil || st.Type != abi.VSOCK || st.Mode != 0o755 {
		t.Errorf("%+v %v", st, err)
	}
	want(c.Bind(ctx, sock(c, abi.SOCK_STREAM), at), abi.EADDRINUSE)
	_, err = c.Open(ctx, "/d/s", abi.O_RDONLY, 0)
	want(err, abi.EOPNOTSUPP)
	s := sock(c, abi.SOCK_STREAM)
	want(c.Connect(ctx, s, at), abi.ECONNREFUSED)
	must(t, c.ListenFd(ctx, l, 5))
	us := sock(u, abi.SOCK_STREAM)
	want(u.Connect(ctx, us, at), abi.EACCES)
	must(t, c.Chmod(ctx, "/d/s", 0o666))
	must(t, u.Connect(ctx, us, at))
	a, _, err := c.Accept(ctx, l, 0)
	must(t, err)
	var id [abi.UnpcbidSize]byte
	if n, err := c.Getsockopt(ctx, a, abi.SOL_LOCAL, abi.LOCAL_PEEREID, id[:]); n != len(id) || err != nil {
		t.Fatal(n, err)
	}
	if got, _ := abi.ParseUnpcbid(id[:]); got != (abi.Unpcbid{Pid: p.Pid(), Euid: 1000, Egid: 100}) {
		t.Errorf("peer: %+v", got)
	}
	must(t, c.WriteFile(ctx, "/d/file", nil, 0o644))
	want(c.Connect(ctx, s, abi.SockaddrUnix("/d/file")), abi.ENOTSOCK)
	want(c.Connect(ctx, s, abi.SockaddrUnix("/d/file/x")), abi.ENOTDIR)
	want(c.Connect(ctx, s, abi.SockaddrUnix("")), abi.ENOENT)
	want(c.Connect(ctx, sock(c, abi.SOCK_DGRAM), at), abi.EPROTOTYPE)
	must(t, c.Rename(ctx, "/d/s", "/d/moved"))
	must(t, c.Connect(ctx, s, abi.SockaddrUnix("/d/moved")))
	must(t, c.Unlink(ctx, "/d/moved"))
	want(c.Connect(ctx, sock(c, abi.SOCK_STREAM), abi.SockaddrUnix("/d/moved")), abi.ENOENT)
	// The connections are none of the name's business.
	if n, err := c.Sendto(ctx, a, []byte("still here"), 0, abi.Sockaddr{}); n != 10 || err != nil {
		t.Error(n, err)
	}
	buf := make([]byte, 20)
	if n, err := u.Read(ctx, us, buf); err != nil || string(buf[:n]) != "still here" {
		t.Errorf("%q %v", buf[:n], err)
	}
	// A name whose socket is closed stays, and nobody answers there.
	g := sock(c, abi.SOCK_DGRAM)
	must(t, c.Bind(ctx, g, abi.SockaddrUnix("/d/g")))
	must(t, c.Close(ctx, g))
	_, err = c.Sendto(ctx, sock(c, abi.SOCK_DGRAM), []byte("x"), 0, abi.SockaddrUnix("/d/g"))
	want(err, abi.ECONNREFUSED)
	want(c.Bind(ctx, sock(c, abi.SOCK_DGRAM), abi.SockaddrUnix("/d/g")), abi.EADDRINUSE)
	must(t, c.Unlink(ctx, "/d/g"))
	must(t, c.Bind(ctx, sock(c, abi.SOCK_DGRAM), abi.SockaddrUnix("/d/g")))
}

func TestSendmsg(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		must(t, c.WriteFile(ctx, "/f", []byte("content"), 0o644))
		a, b, err := c.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_STREAM|abi.SOCK_CLOEXEC, 0)
		must(t, err)
		fd, err := c.Open(ctx, "/f", abi.O_RDONLY, 0)
		must(t, err)
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		must(t, c.Setsockopt(ctx, b, abi.SOL_LOCAL, abi.LOCAL_CREDS, []byte{1, 0, 0, 0}))
		n, err := c.Sendmsg(ctx, a, []byte("two files"), abi.AppendRights(nil, fd, w), abi.Sockaddr{}, 0)
		if n != 9 || err != nil {
			t.Fatal(n, err)
		}
		must(t, c.Close(ctx, fd))
		must(t, c.Close(ctx, w))
		p := make([]byte, 100)
		m, err := c.Recvmsg(ctx, b, p, 1000, abi.MSG_CMSG_CLOEXEC)
		if err != nil || string(p[:m.N]) != "two files" || len(m.Cmsgs) != 2 || m.Flags != 0 {
			t.Fatalf("%q %+v %v", p[:m.N], m, err)
		}
		pid, err := c.Getpid(ctx)
		must(t, err)
		if cred, err := abi.ParseSockcred(m.Cmsgs[0].Data); err != nil || m.Cmsgs[0].Type != abi.SCM_CREDS || cred.Pid != int32(pid) {
			t.Errorf("%+v %v", cred, err)
		}
		fds, err := m.Cmsgs[1].Rights()
		if err != nil || len(fds) != 2 {
			t.Fatal(fds, err)
		}
		if fl, err := c.Fcntl(ctx, fds[0], abi.F_GETFD, 0); fl != abi.FD_CLOEXEC || err != nil {
			t.Errorf("close on exec: %d %v", fl, err)
		}
		if n, err := c.Read(ctx, fds[0], p); err != nil || string(p[:n]) != "content" {
			t.Errorf("%q %v", p[:n], err)
		}
		_, err = c.Write(ctx, fds[1], []byte("through"))
		must(t, err)
		must(t, c.Close(ctx, fds[1]))
		if got, err := readAll(ctx, c, r); err != nil || string(got) != "through" {
			t.Errorf("%q %v", got, err)
		}
		must(t, c.Close(ctx, r))
		// No room for what comes along: it is closed, and said to be.
		r, w, err = c.Pipe2(ctx, 0)
		must(t, err)
		for _, room := range []int{0, abi.CmsgSpace(0), abi.CmsgSpace(4)} {
			_, err = c.Sendmsg(ctx, a, []byte("x"), abi.AppendRights(nil, w, w, w), abi.Sockaddr{}, 0)
			must(t, err)
			m, err = c.Recvmsg(ctx, b, p, room, 0)
			if err != nil || m.N != 1 || m.Flags != abi.MSG_CTRUNC {
				t.Errorf("room of %d: %+v %v", room, m, err)
			}
			for i := range m.Cmsgs {
				fds, err := m.Cmsgs[i].Rights()
				if err != nil || len(fds) != 2 { // padding makes room for one more
					t.Errorf("%v %v", fds, err)
				}
				for _, fd := range fds {
					must(t, c.Close(ctx, fd))
				}
			}
		}
		must(t, c.Close(ctx, w))
		if got, err := readAll(ctx, c, r); err != nil || len(got) != 0 {
			t.Errorf("somebody holds it: %q %v", got, err)
		}
		for _, bad := range []struct {
			control []byte
			err     error
		}{{abi.AppendRights(nil, 999), abi.EBADF}, {abi.AppendRights(nil, -1), abi.EBADF}, {abi.AppendCmsg(nil, 0, 1, nil), abi.EINVAL},
			{[]byte{1, 2, 3}, abi.EINVAL}, {make([]byte, 5000), abi.EMSGSIZE}} {
			if _, err := c.Sendmsg(ctx, a, []byte("x"), bad.control, abi.Sockaddr{}, 0); !errors.Is(err, bad.err) {
				t.Errorf("%.20x: %v", bad.control, err)
			}
		}
		x := &abi.Sysargs{A: [6]uint64{uint64(a), 0, 1 << 40}, In: []byte("x")}
		if err := c.Syscall(ctx, abi.SYS_sendmsg, x); !errors.Is(err, abi.EINVAL) {
			t.Errorf("more control than there is: %v", err)
		}
		x = &abi.Sysargs{A: [6]uint64{uint64(a), 0, 1 << 63}, Out: p}
		if err := c.Syscall(ctx, abi.SYS_recvmsg, x); !errors.Is(err, abi.EINVAL) {
			t.Errorf("more control than there is: %v", err)
		}
		// Files that the sender's exit leaves in flight end with the receiver.
		_, err = c.Sendmsg(ctx, a, []byte("x"), abi.AppendRights(nil, a, b), abi.Sockaddr{}, 0)
		must(t, err)
		must(t, c.Close(ctx, a))
		must(t, c.Close(ctx, b))
		if s, err := c.Sysctl(ctx, "kern.openfiles"); err != nil || s != "2" { // fds[0], r
			t.Errorf("%s open files, %v", s, err)
		}
	})
}

// TestSendmsgUDP uses the same calls on sockets of a component.
func TestSendmsgUDP(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		a, err := c.ListenPacket(ctx, "udp", "127.0.0.1:0")
		must(t, err)
		defer a.Close()
		s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
		must(t, err)
		r := a.(rumpclient.PacketConn).Fd()
		to, err := c.Getsockname(ctx, r)
		must(t, err)
		if n, err := c.Sendmsg(ctx, s, []byte("hello"), nil, to, 0); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		p := make([]byte, 3)
		m, err := c.Recvmsg(ctx, r, p, 100, 0)
		if err != nil || m.N != 3 || string(p) != "hel" || m.From.Family != abi.AF_INET || m.Flags&abi.MSG_TRUNC == 0 {
			t.Errorf("%q %+v %v", p, m, err)
		}
	})
}

// TestLocalBusy: a file system with the name of an open socket is in use.
func TestLocalBusy(t *testing.T) {
	c, err := boot(t).Client("test")
	must(t, err)
	defer c.Exit()
	ctx := soon(t)
	must(t, c.Mkdir(ctx, "/mnt", 0o755))
	must(t, c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil))
	l, err := c.Listen(ctx, "unix", "/mnt/s")
	must(t, err)
	if err := c.Unmount(ctx, "/mnt", 0); !errors.Is(err, abi.EBUSY) {
		t.Errorf("in use: %v", err)
	}
	conn, err := c.Dial(ctx, "unix", "/mnt/s")
	must(t, err)
	must(t, l.Close())
	must(t, c.Unmount(ctx, "/mnt", 0))
	must(t, conn.Close())
}

// TestLocalAlone: AF_LOCAL needs no net component, and pairs no file system.
func TestLocalAlone(t *testing.T) {
	for _, mods := range [][]modapi.Module{nil, {tmpfs.New()}} {
		k := kernel.New(kernel.Options{Hostname: "rump", Modules: mods})
		must(t, k.Boot(context.Background()))
		c, err := k.Client("test")
		must(t, err)
		ctx := soon(t)
		a, b, err := c.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_SEQPACKET, 0)
		must(t, err)
		_, err = c.Write(ctx, a, []byte("record"))
		must(t, err)
		p := make([]byte, 100)
		if n, err := c.Read(ctx, b, p); err != nil || !bytes.Equal(p[:n], []byte("record")) {
			t.Errorf("%q %v", p[:n], err)
		}
		l, err := c.Listen(ctx, "unix", "/s")
		if mods == nil {
			if !errors.Is(err, abi.EOPNOTSUPP) || !strings.Contains(err.Error(), "vfs component not available") {
				t.Errorf("without a file system: %v", err)
			}
		} else if err != nil {
			t.Error(err)
		} else {
			l.Close()
		}
		c.Exit()
		k.Reboot(context.Background(), 0)
		if n := k.Files.Count(); n != 0 {
			t.Errorf("%d files are left", n)
		}
	}
}
