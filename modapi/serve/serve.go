package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Backend is what a component process serves: modapi/dispatch for modules in
// Go. Both methods are called from several goroutines.
type Backend interface {
	// Life answers one encoded frame of the life family (modapi/wire family
	// 01) with another. What the module answers, errors included, is inside
	// the frame; an error here means that the bytes were no frame at all.
	Life(ctx context.Context, frame []byte) ([]byte, error)
	// ServeStream serves the data plane until the host closes it (nil or
	// io.EOF) or lies (any other error). It is called once. The process
	// ends when it returns.
	ServeStream(ctx context.Context, nc net.Conn) error
}

// Run serves b and never returns: the process exits with status 0 when the
// host ends it, 1 when it cannot serve (the reason is on stderr), 2 when it
// was not started by a rumpus host. modules are names to show to humans.
func Run(b Backend, modules ...string) {
	os.Exit(run(b, modules))
}

// run is Run up to the exit status.
func run(b Backend, modules []string) int {
	if !started() {
		notice(os.Stderr, modules)
		return 2
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	BoundMemory()
	log := Log()
	nameProcess(os.Getenv(EnvInstance))
	stream, err := inherited()
	if err != nil {
		log.Error(err.Error())
		return 1
	}
	files, err := grantedFiles()
	if err != nil {
		log.Error(err.Error())
		return 1
	}
	if g, ok := b.(GrantSetter); ok {
		g.SetGranted(files)
	}
	if err := giveRing(b); err != nil {
		log.Error(err.Error())
		return 1
	}
	go func() {
		err := b.ServeStream(context.Background(), stream)
		if err != nil && !errors.Is(err, io.EOF) {
			log.Error("data plane ended", "error", err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  Handshake(),
		VersionedPlugins: Versions(b),
		GRPCServer:       newServer,
		Logger:           log,
	})
	return 1 // the listener failed, or somebody else ended the server: both are logged
}

// RingSetter is a Backend that can use the shared memory of a ring beside the
// stream. The file is closed when SetRing has returned; an error means that
// everything goes by the stream.
type RingSetter interface {
	SetRing(f *os.File) error
}

// giveRing hands the ring on, if there is one.
func giveRing(b Backend) error {
	s := os.Getenv(EnvRing)
	if s == "" {
		return nil
	}
	fd, err := strconv.Atoi(s)
	if err != nil || fd < FdGrants || fd > FdGrants+MaxGrants || !takeOver(fd, syscall.S_IFREG) {
		return fmt.Errorf("%s: %q is not shared memory: %w", EnvRing, s, abi.EBADF)
	}
	f := os.NewFile(uintptr(fd), "ring")
	defer f.Close()
	if r, ok := b.(RingSetter); ok {
		if err := r.SetRing(f); err != nil {
			Log().Warn("no ring, everything goes by the stream", "error", err.Error())
		}
	}
	return nil
}

// newServer makes the gRPC server with both directions bounded.
func newServer(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage))...)
}

// started reports whether a rumpus host started this process.
func started() bool {
	h := Handshake()
	return os.Getenv(h.MagicCookieKey) == h.MagicCookieValue
}

// notice tells a human what this program is.
func notice(w io.Writer, modules []string) {
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	what := ""
	if len(modules) > 0 {
		what = " (modules: " + strings.Join(modules, ", ") + ")"
	}
	fmt.Fprintf(w, "this is a rumpus component%s; rumpus loads it, e.g. by `rumpus modload %s`\n", what, path)
}

// inherited takes over the two fixed descriptors: it starts to watch the
// liveness pipe and returns the data plane.
func inherited() (net.Conn, error) {
	if !takeOver(FdLive, syscall.S_IFIFO) {
		return nil, fmt.Errorf("descriptor %d is not the liveness pipe: %w", FdLive, abi.EBADF)
	}
	if !takeOver(FdStream, syscall.S_IFSOCK) {
		return nil, fmt.Errorf("descriptor %d is not the data plane: %w", FdStream, abi.EBADF)
	}
	f := os.NewFile(FdStream, "stream")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is not the data plane: %w", FdStream, abi.EBADF)
	}
	// Not blocking: a wait in Go's poller needs no thread of its own.
	if err := syscall.SetNonblock(FdLive, true); err != nil {
		nc.Close()
		return nil, fmt.Errorf("liveness pipe: %w", abi.EIO)
	}
	go watchHost(os.NewFile(FdLive, "liveness"))
	return nc, nil
}

// takeOver makes an inherited descriptor ours, not to be inherited further.
// It reports false if there is none of that number and type (0 = any). One
// that already closes on exec was not inherited: it is the Go runtime's own.
func takeOver(fd int, typ uint32) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return false
	}
	var st syscall.Stat_t
	if typ != 0 && (syscall.Fstat(fd, &st) != nil || uint32(st.Mode)&syscall.S_IFMT != typ) {
		return false
	}
	syscall.CloseOnExec(fd)
	return true
}

// watchHost ends the process when the host is gone. Nothing is flushed or
// tidied: what must outlive a component lives in the host.
func watchHost(live *os.File) {
	var b [16]byte
	for {
		if _, err := live.Read(b[:]); err != nil {
			os.Exit(0)
		}
	}
}

// nameProcess sets the name that ps and top show, "rumpus-vfs", at most 15
// bytes. Failure does not matter.
func nameProcess(instance string) {
	if instance != "" {
		_ = os.WriteFile("/proc/self/comm", []byte("rumpus-"+instance), 0)
	}
}

// Log is the process's logger: JSON lines on the real stderr, which the host
// reads, filters by level again and puts into its own log.
func Log() hclog.Logger { return processLog }

var processLog = hclog.New(&hclog.LoggerOptions{
	Output:     os.Stderr,
	JSONFormat: true,
	Level:      logLevel(os.Getenv(EnvLogLevel)),
})

// logLevel reads a level's name; an unknown one means everything.
func logLevel(s string) hclog.Level {
	if l := hclog.LevelFromString(s); l != hclog.NoLevel {
		return l
	}
	return hclog.Trace
}
