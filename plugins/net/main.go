// Command net is the plugin of the network: the module inet, which has the
// protocols of AF_INET and AF_INET6 and the interface class lo. See package
// inet.
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
)

func main() { serve.Main(inet.New()) }
