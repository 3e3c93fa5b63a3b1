package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcMethod takes a message of bytes: an operation's letter and its
// arguments, and answers one.
const grpcMethod = "/rumpus.bench.Files/Call"

// grpcCaller is the service.
type grpcCaller interface {
	call(ctx context.Context, req []byte) ([]byte, error)
}

var grpcService = grpc.ServiceDesc{
	ServiceName: "rumpus.bench.Files",
	HandlerType: (*grpcCaller)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Call",
		Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			p, err := srv.(grpcCaller).call(ctx, in.Value)
			return &wrapperspb.BytesValue{Value: p}, err
		}}},
}

var grpcHandshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "RUMPUS_BENCH_PLUGIN", MagicCookieValue: "files"}

// grpcPlugin is the go-plugin glue.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl grpcCaller
}

// GRPCServer registers the service.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpcService, p.impl)
	return nil
}

// GRPCClient answers the connection.
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return grpcClient{c}, nil
}

type grpcClient struct{ c *grpc.ClientConn }

func (c grpcClient) call(ctx context.Context, req []byte) ([]byte, error) {
	out := new(wrapperspb.BytesValue)
	if err := c.c.Invoke(ctx, grpcMethod, &wrapperspb.BytesValue{Value: req}, out); err != nil {
		return nil, err
	}
	return out.Value, nil
}

// startGRPC starts a go-plugin process of the role and connects to it.
func startGRPC(role string) (grpcClient, *plugin.Client, error) {
	exe, err := os.Executable()
	if err != nil {
		return grpcClient{}, nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p := plugin.NewClient(&plugin.ClientConfig{HandshakeConfig: grpcHandshake, Plugins: plugin.PluginSet{"files": &grpcPlugin{}},
		Cmd: cmd, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(), SkipHostEnv: true})
	rpc, err := p.Client()
	if err == nil {
		var raw any
		if raw, err = rpc.Dispense("files"); err == nil {
			return raw.(grpcClient), p, nil
		}
	}
	p.Kill()
	return grpcClient{}, nil, fmt.Errorf("%s process: %w", role, err)
}

// grpcRole serves, as the component or as a host that forwards to one.
func grpcRole(role string) int {
	var impl grpcCaller = newGRPCFiles()
	if role == roleGRPCHost {
		next, p, err := startGRPC(roleGRPCComp)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer p.Kill()
		// The pid of the component is what CPU time is counted of.
		impl = &grpcForward{next, pidOf(p)}
	}
	plugin.Serve(&plugin.ServeConfig{HandshakeConfig: grpcHandshake, Plugins: plugin.PluginSet{"files": &grpcPlugin{impl: impl}},
		GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger()})
	return 0
}

func pidOf(p *plugin.Client) int {
	if r := p.ReattachConfig(); r != nil {
		return r.Pid
	}
	return 0
}

// grpcForward is the host between.
type grpcForward struct {
	next grpcClient
	comp int // its process
}

func (f *grpcForward) call(ctx context.Context, req []byte) ([]byte, error) {
	if len(req) == 1 && req[0] == 'P' {
		return binary.LittleEndian.AppendUint32(nil, uint32(f.comp)), nil
	}
	return f.next.call(ctx, req)
}

// grpcFiles is the component's file system: files and directories by path.
type grpcFiles struct {
	mu    sync.Mutex
	files map[string][]byte // protected by mu; nil: a directory
	list  []byte            // of a directory of dirEntries entries
}

func newGRPCFiles() *grpcFiles {
	f := &grpcFiles{files: make(map[string][]byte)}
	for i := range maxCallers {
		f.files[name("/bench/d/f", i)] = pattern(largeIO)
	}
	for i := range dirEntries {
		f.list = append(f.list, fmt.Sprintf("%024d%s", i, name("f", i))...) // as long as a record of getdents
	}
	return f
}

// call does one operation: s stat, o open, c close, r read, w write, n create,
// u unlink or rmdir, m mkdir, l list, g getpid. r is followed by the size, then
// the path; w by the size, the path and the data.
func (f *grpcFiles) call(_ context.Context, req []byte) ([]byte, error) {
	if len(req) < 5 {
		return nil, status.Error(codes.InvalidArgument, "short")
	}
	op, size, rest := req[0], int(binary.LittleEndian.Uint32(req[1:])), req[5:]
	f.mu.Lock()
	defer f.mu.Unlock()
	if op == 'w' {
		if size > len(rest) {
			return nil, status.Error(codes.InvalidArgument, "short")
		}
		path := string(rest[:len(rest)-size])
		copy(f.files[path], rest[len(rest)-size:])
		return nil, nil
	}
	path := string(rest)
	data, ok := f.files[path]
	switch op {
	case 'g':
		return []byte{1, 0, 0, 0}, nil
	case 'c':
		return nil, nil
	case 'l':
		return f.list, nil
	case 'n', 'm':
		if ok {
			return nil, status.Error(codes.AlreadyExists, path)
		}
		f.files[path] = nil
		return nil, nil
	}
	if !ok {
		return nil, status.Error(codes.NotFound, path)
	}
	switch op {
	case 's':
		return make([]byte, 128), nil // an abi.Stat's worth
	case 'o':
		return []byte{3, 0, 0, 0}, nil
	case 'r':
		return data[:min(size, len(data))], nil
	case 'u':
		delete(f.files, path)
		return nil, nil
	}
	return nil, status.Error(codes.Unimplemented, string(op))
}

// grpcWay makes operations over gRPC.
type grpcWay struct{ c grpcClient }

func (g grpcWay) bind(op string, caller int) (func() error, func(), error) {
	if hit, ok := hitOf[op]; ok {
		op = hit
	}
	path := name("/bench/d/f", caller)
	msg := func(op byte, size int, path string, data []byte) []byte {
		p := binary.LittleEndian.AppendUint32([]byte{op}, uint32(size))
		return append(append(p, path...), data...)
	}
	var msgs [][]byte
	switch op {
	case opGetpid:
		msgs = [][]byte{msg('g', 0, "", nil)}
	case opStat:
		msgs = [][]byte{msg('s', 0, path, nil)}
	case opOpen:
		msgs = [][]byte{msg('o', 0, path, nil), msg('c', 3, "", nil)}
	case opPread:
		msgs = [][]byte{msg('r', smallIO, path, nil)}
	case opPwrite:
		msgs = [][]byte{msg('w', smallIO, path, make([]byte, smallIO))}
	case opRead1M:
		msgs = [][]byte{msg('r', largeIO, path, nil)}
	case opWrite1M:
		msgs = [][]byte{msg('w', largeIO, path, make([]byte, largeIO))}
	case opCreate:
		msgs = [][]byte{msg('n', 0, path+".new", nil), msg('c', 3, "", nil), msg('u', 0, path+".new", nil)}
	case opMkdir:
		msgs = [][]byte{msg('m', 0, path+".new", nil), msg('u', 0, path+".new", nil)}
	case opReaddir:
		msgs = [][]byte{msg('l', 0, path, nil)}
	default:
		return nil, nil, errAbsent
	}
	return func() error {
		for _, m := range msgs {
			if _, err := g.c.call(bg, m); err != nil {
				return err
			}
		}
		return nil
	}, nil, nil
}
