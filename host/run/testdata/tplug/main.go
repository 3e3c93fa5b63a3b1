// Command tplug is a component that plays what its instance is called, for the
// tests of host/run.
package main

import (
	"context"
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

func main() {
	name := os.Getenv(serve.EnvInstance)
	m := &module{info: modapi.Info{Name: name, Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1.0.0"}}
	switch kind, _, _ := strings.Cut(strings.TrimPrefix(name, "t_"), "_"); kind {
	case "exit":
		fmt.Fprintln(os.Stderr, "no such disk")
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour)
	case "wire":
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  serve.Handshake(),
			VersionedPlugins: map[int]plugin.PluginSet{7: {"module": &none{}}},
			GRPCServer:       plugin.DefaultGRPCServer,
		})
	case "kern":
		m.info.Kern = 200000000
	case "caps":
		m.info.Caps = 1
	case "class": // says something else than the configuration
		m.info.Class = modapi.ClassNet
	case "init":
		m.init = func(modapi.Kernel, modapi.Reason, modapi.Props) error {
			return fmt.Errorf("the disk has no label: %w", abi.ENODEV)
		}
	case "die":
		m.init = func(modapi.Kernel, modapi.Reason, modapi.Props) error { panic("no disk at all") }
	case "flaky": // comes up once
		m.init = func(k modapi.Kernel, r modapi.Reason, _ modapi.Props) error {
			if r == modapi.Restart {
				panic("cannot be restarted")
			}
			_, err := k.AttachChr("flaky", devops.NoChr{})
			return err
		}
	case "fault": // does to itself what is written to it
		m.init = func(k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
			_, err := k.AttachChr("fault", &fault{k: k})
			return err
		}
	case "poison": // dies of some names
		serve.Main(poison()...)
		return
	case "fini": // writes down that it was finished
		m.init = func(k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
			path, _ := p["path"].(string)
			f, err := k.Granted("host.file:" + filepath.Clean(path))
			m.file = f
			return err
		}
	}
	serve.Main(m)
}

// module is a module that does as it is told.
type module struct {
	info modapi.Info
	init func(modapi.Kernel, modapi.Reason, modapi.Props) error
	file *os.File
}

func (m *module) Info() modapi.Info { return m.info }

func (m *module) Init(_ context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if m.init == nil {
		return nil
	}
	return m.init(k, r, p)
}

func (m *module) Fini(context.Context) error {
	if m.file == nil {
		return nil
	}
	_, err := m.file.WriteString("finished\n")
	return err
}

// none is a plugin of another version.
type none struct{}

func (*none) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }
func (*none) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}
func (*none) Server(*plugin.MuxBroker) (any, error)              { return nil, nil }
func (*none) Client(*plugin.MuxBroker, *rpc.Client) (any, error) { return nil, nil }
