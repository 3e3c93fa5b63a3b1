package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

// envRole makes the test binary play a component (or a host).
const envRole = "RUMPUS_TEST_ROLE"

// roles are what the test binary can play.
var roles = map[string]func(){
	"echo": func() { serve.Run(&echo{}, "echo") },
	"true": func() {},
	"exit3": func() {
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprintln(os.Stderr, "no such disk\x1b[31m")
		os.Exit(3)
	},
	"panic":   func() { panic("boom at start") },
	"logexit": func() { serve.Log().Error("cannot go on", "error", "no memory"); os.Exit(4) },
	"garbage": func() { fmt.Println("hello, world"); forever() },
	"mute":    func() { closed(os.Stdout); forever() },
	"hang":    func() { fmt.Fprintln(os.Stderr, "thinking"); forever() },
	"flood":   flood,
	"netrpc":  func() { fmt.Println("1|1|unix|/nowhere|netrpc"); forever() },
	"core2":   func() { fmt.Println("2|1|unix|/nowhere|grpc"); forever() },
	"nosock":  func() { fmt.Println("1|1|unix|/nowhere|grpc"); forever() },
	"late3":   func() { fmt.Println("1|1|unix|/nowhere|grpc"); os.Exit(3) },
	"version7": func() {
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  serve.Handshake(),
			VersionedPlugins: map[int]plugin.PluginSet{7: {"module": &none{}}},
			GRPCServer:       plugin.DefaultGRPCServer,
		})
	},
	"elsewhere": elsewhere,
	"deaf":      deaf,
	"host":      host,
	"sleeper":   func() { signal.Ignore(syscall.SIGTERM, syscall.SIGHUP); forever() },
}

func TestMain(m *testing.M) {
	if r, ok := roles[os.Getenv(envRole)]; ok {
		r()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// forever waits for the end.
func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

func closed(f *os.File) { f.Close() }

// flood prints without end and without a newline.
func flood() {
	b := bytes.Repeat([]byte{'x'}, 1<<16)
	for {
		if _, err := os.Stdout.Write(b); err != nil {
			os.Exit(0)
		}
	}
}

// elsewhere names the socket of another process, and links it into the
// private directory as well.
func elsewhere() {
	other := os.Getenv("RUMPUS_TEST_OTHER")
	if err := os.Symlink(other, filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "plugin1")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	fmt.Printf("1|1|unix|%s|grpc|\n", other)
	forever()
}

// deaf listens where it should and never answers.
func deaf() {
	path := filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "plugin1")
	if _, err := net.Listen("unix", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	fmt.Printf("1|1|unix|%s|grpc|\n", path)
	forever()
}

// none is a plugin of another version.
type none struct{}

func (*none) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }
func (*none) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}
func (*none) Server(*plugin.MuxBroker) (any, error)              { return nil, nil }
func (*none) Client(*plugin.MuxBroker, *rpc.Client) (any, error) { return nil, nil }

// host starts a component, prints its number and waits to be killed.
func host() {
	p, err := Start(context.Background(), Spec{Instance: "vfs", Path: os.Args[0], Env: []string{envRole + "=echo"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	forever()
}

// echo is a Backend that does as it is told by the text of a frame.
type echo struct{ granted map[string]*os.File }

func (e *echo) SetGranted(m map[string]*os.File) { e.granted = m }

func (e *echo) ServeStream(_ context.Context, nc net.Conn) error {
	_, err := io.Copy(nc, nc)
	return err
}

func (e *echo) Life(ctx context.Context, frame []byte) ([]byte, error) {
	verb, arg, _ := strings.Cut(string(frame), " ")
	switch verb {
	case "grants":
		var names []string
		for n := range e.granted {
			names = append(names, n)
		}
		sort.Strings(names)
		return []byte(strings.Join(names, ",")), nil
	case "read":
		f, err := serve.Granted(arg)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(f)
	case "env":
		return []byte(strings.Join(os.Environ(), "\n")), nil
	case "self":
		b, err := os.ReadFile("/proc/self/" + arg)
		return b, err
	case "stat": // uid pgid cwd signal-parent
		wd, _ := os.Getwd()
		return fmt.Appendf(nil, "%d %d %s %v", os.Getuid(), syscall.Getpgrp(), wd, syscall.Kill(os.Getppid(), 0)), nil
	case "fds":
		ents, err := os.ReadDir("/proc/self/fd")
		var l []string
		for _, x := range ents {
			t, _ := os.Readlink("/proc/self/fd/" + x.Name())
			l = append(l, x.Name()+" "+t)
		}
		return []byte(strings.Join(l, "\n")), err
	case "spawn": // a descendant that holds all it can get, in or out of the group
		c := exec.Command("/proc/self/exe")
		c.Env = []string{envRole + "=sleeper"}
		c.Stdout, c.Stderr = rawStderr(), rawStderr()
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: arg == "away"}
		if err := c.Start(); err != nil {
			return nil, err
		}
		return []byte(strconv.Itoa(c.Process.Pid)), nil
	case "print":
		fmt.Println(arg)
		return nil, nil
	case "log":
		serve.Log().Warn(arg, "k", 1)
		return nil, nil
	case "signal":
		n, _ := strconv.Atoi(arg)
		return nil, syscall.Kill(os.Getpid(), syscall.Signal(n))
	case "panic":
		go func() { panic(arg) }()
		<-ctx.Done()
	case "exit":
		n, _ := strconv.Atoi(arg)
		os.Exit(n)
	case "hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case "big":
		n, _ := strconv.Atoi(arg)
		return make([]byte, n), nil
	case "fail":
		return nil, errors.New(arg)
	}
	return append([]byte("echo "), frame...), nil
}

// rawStderr is the real stderr: go-plugin replaces os.Stderr.
func rawStderr() *os.File {
	fd, err := syscall.Dup(2)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "stderr")
}

// startRole starts the test binary as a component.
func startRole(t testing.TB, role string, change ...func(*Spec)) (*Process, error) {
	t.Helper()
	s := Spec{Instance: "vfs", Path: os.Args[0], Env: []string{envRole + "=" + role, "GORACE=atexit_sleep_ms=0"}, StartTimeout: 60 * time.Second}
	for _, c := range change {
		c(&s)
	}
	p, err := Start(t.Context(), s)
	if err == nil {
		t.Cleanup(p.Kill)
	}
	return p, err
}

// mustStart starts the echo component.
func mustStart(t testing.TB, change ...func(*Spec)) *Process {
	t.Helper()
	p, err := startRole(t, "echo", change...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// life calls and fails the test on an error.
func life(t testing.TB, p *Process, cmd string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	b, err := p.Life(ctx, []byte(cmd))
	if err != nil {
		t.Fatalf("life %q: %v", cmd, err)
	}
	return string(b)
}
