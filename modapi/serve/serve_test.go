package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestMain lets the test binary play a component.
func TestMain(m *testing.M) {
	if os.Getenv("SERVE_TEST_ROLE") == "component" {
		Run(&backend{}, "tmpfs", "hostfs")
	}
	goleak.VerifyTestMain(m)
}

// backend answers with what it got, "fail" with an error; its data plane
// echoes.
type backend struct{}

func (*backend) Life(_ context.Context, frame []byte) ([]byte, error) {
	if string(frame) == "fail" {
		return nil, errors.New("no frame")
	}
	return append([]byte("re "), frame...), nil
}

func (*backend) ServeStream(_ context.Context, nc net.Conn) error {
	if _, err := io.Copy(nc, nc); err != nil {
		return err
	}
	return io.EOF
}

// component runs the test binary with the given descriptors 3 and up.
func component(t *testing.T, env []string, files ...*os.File) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append([]string{"SERVE_TEST_ROLE=component", "GORACE=atexit_sleep_ms=0", "TMPDIR=" + os.TempDir()}, env...)
	cmd.ExtraFiles = files
	return cmd
}

func cookie() string {
	h := Handshake()
	return h.MagicCookieKey + "=" + h.MagicCookieValue
}

func TestByHand(t *testing.T) {
	out, err := component(t, nil).CombinedOutput()
	var xe *exec.ExitError
	if !errors.As(err, &xe) || xe.ExitCode() != 2 {
		t.Errorf("exit: %v", err)
	}
	want := "this is a rumpus component (modules: tmpfs, hostfs); rumpus loads it, e.g. by `rumpus modload " + os.Args[0] + "`\n"
	if string(out) != want {
		t.Errorf("%q\nwant %q", out, want)
	}
}

func TestDescriptorsMissing(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	for _, tc := range []struct {
		env   string
		files []*os.File
		want  string
	}{
		{"", nil, "descriptor 3 is not the liveness pipe"},
		{"", []*os.File{null, b}, "descriptor 3 is not the liveness pipe"},
		{"", []*os.File{r}, "descriptor 4 is not the data plane"},
		{"", []*os.File{r, null}, "descriptor 4 is not the data plane"},
		{EnvGrants + "=a", []*os.File{r, b}, "RUMPUS_GRANTS: \\\"a\\\""},
		{EnvGrants + "=a=5", []*os.File{r, b}, "descriptor 5 is not open"},
	} {
		out, err := component(t, []string{cookie(), tc.env}, tc.files...).CombinedOutput()
		var xe *exec.ExitError
		if !errors.As(err, &xe) || xe.ExitCode() != 1 || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s %d files: %v\n%s\nwant %s", tc.env, len(tc.files), err, out, tc.want)
		}
	}
}

// TestEnds: a component ends by itself, with status 0, when the host closes
// the data plane or is gone, and not on SIGINT or SIGTERM.
func TestEnds(t *testing.T) {
	for _, how := range []string{"stream", "liveness"} {
		t.Run(how, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			host, child := pair(t)
			defer host.Close()
			cmd := component(t, []string{cookie()}, r, child)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r.Close()
			child.Close()
			line := make([]byte, 4)
			if _, err := io.ReadFull(out, line); err != nil || string(line) != "1|1|" {
				t.Fatalf("handshake %q, %v", line, err)
			}
			for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := host.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(host, line); err != nil || string(line) != "ping" {
				t.Fatalf("stream: %q, %v", line, err)
			}
			if how == "stream" {
				host.Close()
			} else {
				w.Close()
			}
			kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			kill.Stop()
		})
	}
}

// pair makes a stream socket pair.
func pair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fd, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd[0]), "a"), os.NewFile(uintptr(fd[1]), "b")
}

func TestLife(t *testing.T) {
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(nil)
	set := Versions(&backend{})[Major]
	if err := set[PluginName].(*grpcPlugin).GRPCServer(nil, srv); err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	defer srv.Stop()
	cc, err := grpc.NewClient("unix:"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for _, frame := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0xff}, MaxMessage-64)} {
		got, err := CallLife(t.Context(), cc, frame)
		if len(frame) > MaxMessage/2 { // the answer is longer than may be sent
			frame, got = frame[:MaxMessage-64], append([]byte("re "), frame...)
		}
		if err != nil || !bytes.Equal(got, append([]byte("re "), frame...)) {
			t.Errorf("%d bytes: %d back, %v", len(frame), len(got), err)
		}
	}
	if _, err := CallLife(t.Context(), cc, make([]byte, MaxMessage)); !errors.Is(err, abi.EMSGSIZE) {
		t.Errorf("too long: %v", err)
	}
	if _, err := CallLife(t.Context(), cc, []byte("fail")); err == nil || !strings.Contains(err.Error(), "no frame") {
		t.Errorf("failure: %v", err)
	}
	if err := Versions(nil)[Major][PluginName].(*grpcPlugin).GRPCServer(nil, srv); err == nil {
		t.Error("served without a backend")
	}
}

func TestGrantNames(t *testing.T) {
	many := make([]string, MaxGrants+1)
	for i := range many {
		many[i] = "g" + string(rune('A'+i))
	}
	for _, tc := range []struct {
		names []string
		want  string
		err   error
	}{
		{nil, "", nil},
		{[]string{"a"}, "a=5", nil},
		{[]string{"host.dir:/data", "b c"}, "host.dir:/data=5;b c=6", nil},
		{[]string{""}, "", abi.EINVAL},
		{[]string{"a;b"}, "", abi.EINVAL},
		{[]string{"a=b"}, "", abi.EINVAL},
		{[]string{"a\x00"}, "", abi.EINVAL},
		{[]string{"a", "a"}, "", abi.EINVAL},
		{[]string{strings.Repeat("a", 256)}, "", abi.EINVAL},
		{many, "", abi.E2BIG},
	} {
		got, err := FormatGrants(tc.names)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q: %q, %v", tc.names, got, err)
		}
	}
	for _, tc := range []struct {
		in   string
		want map[string]int
		err  error
	}{
		{"", map[string]int{}, nil},
		{"a=5;b=6", map[string]int{"a": 5, "b": 6}, nil},
		{"a", nil, abi.EINVAL},
		{"a=", nil, abi.EINVAL},
		{"=5", nil, abi.EINVAL},
		{"a=4", nil, abi.EINVAL},
		{"a=-1", nil, abi.EINVAL},
		{"a=69", nil, abi.EINVAL},
		{"a=5;a=6", nil, abi.EINVAL},
		{"a=5;b=5", nil, abi.EINVAL},
		{"a=5;", nil, abi.EINVAL},
		{strings.Repeat("a=5;", 65), nil, abi.E2BIG},
	} {
		got, err := ParseGrants(tc.in)
		if !reflect.DeepEqual(got, tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%q: %v, %v", tc.in, got, err)
		}
	}
}

// FuzzGrants: what is parsed names descriptors in range, each once.
func FuzzGrants(f *testing.F) {
	for _, s := range []string{"", "a=5", "a=5;b=6", "x=99999999999999999999", ";;", "a=5;b=05"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseGrants(s)
		if err != nil {
			if abi.ErrnoOf(err) == abi.EIO {
				t.Fatalf("%q: error without a number: %v", s, err)
			}
			return
		}
		seen := map[int]bool{}
		for name, fd := range m {
			if !ValidGrant(name) || fd < FdGrants || fd >= FdGrants+MaxGrants || seen[fd] {
				t.Fatalf("%q: %v", s, m)
			}
			seen[fd] = true
		}
	})
}

func TestGrantedAbsent(t *testing.T) {
	if f, err := Granted("none"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("%v, %v", f, err)
	}
}
