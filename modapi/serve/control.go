package serve

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Major is the wire major number that this SDK speaks, the key of go-plugin's
// VersionedPlugins. A host and a component without a common one refuse each
// other (EPROGMISMATCH).
const Major = wire.Major

// MaxMessage bounds a control message in bytes, both ways.
const MaxMessage = 1 << 20

// Descriptor numbers that a component finds open at exec.
const (
	FdLive   = 3 // read end of the liveness pipe
	FdStream = 4 // data plane, a unix stream socket
	FdGrants = 5 // the first granted descriptor
)

// Environment of a component, beside go-plugin's own.
const (
	EnvInstance = "RUMPUS_INSTANCE"  // name of the instance, "vfs"
	EnvGrants   = "RUMPUS_GRANTS"    // "name=5;name2=6"
	EnvRing     = "RUMPUS_RING"      // "7", the descriptor of the ring; "" or absent: none
	EnvLogLevel = "RUMPUS_LOG_LEVEL" // "trace", "debug", "info", "warn", "error", "off"
)

// PluginName is the name under which go-plugin knows the one service.
const PluginName = "module"

// serviceName and lifeMethod name the one gRPC method.
const (
	serviceName = "rumpus.Module"
	lifeMethod  = "/" + serviceName + "/Life"
)

// Handshake is the cookie by which a component knows that a rumpus host
// started it. It is a courtesy to humans, not a protection.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		MagicCookieKey:   "RUMPUS_COMPONENT",
		MagicCookieValue: "b3f1c0de-rumpus-component",
	}
}

// Versions is the plugin set of every wire major that is spoken, for
// go-plugin's VersionedPlugins. The host passes a nil Backend.
func Versions(b Backend) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{
		Major: {PluginName: &grpcPlugin{backend: b}},
	}
}

// grpcPlugin ties the service into go-plugin.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	backend Backend
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer registers rumpus.Module.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.backend == nil {
		return errors.New("serve: no backend")
	}
	s.RegisterService(&moduleDesc, p.backend)
	return nil
}

// GRPCClient gives the host the connection as it is: see CallLife.
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// moduleDesc is what protoc would make of
//
//	service Module { rpc Life(google.protobuf.BytesValue) returns (google.protobuf.BytesValue); }
var moduleDesc = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*Backend)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Life", Handler: lifeHandler}},
}

func lifeHandler(srv any, ctx context.Context, dec func(any) error, ic grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.BytesValue)
	if err := dec(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, req any) (any, error) {
		out, err := srv.(Backend).Life(ctx, req.(*wrapperspb.BytesValue).GetValue())
		if ctx.Err() != nil && err != nil { // the caller's deadline, which both sides have
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		return wrapperspb.Bytes(out), nil
	}
	if ic == nil {
		return call(ctx, in)
	}
	return ic(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: lifeMethod}, call)
}

// CallLife is the host's side of rumpus.Module/Life: one encoded frame there,
// one back. The error is gRPC's status error, or EMSGSIZE for a frame above
// MaxMessage.
func CallLife(ctx context.Context, c grpc.ClientConnInterface, frame []byte) ([]byte, error) {
	if len(frame) > MaxMessage-16 {
		return nil, abi.EMSGSIZE
	}
	out := new(wrapperspb.BytesValue)
	if err := c.Invoke(ctx, lifeMethod, wrapperspb.Bytes(frame), out); err != nil {
		return nil, err
	}
	return out.GetValue(), nil
}
