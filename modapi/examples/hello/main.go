// Hello is a component process with the example module. Build it and load it
// into a running kernel:
//
//	go build -o /tmp/hello ./modapi/examples/hello
//	rumpus modload /tmp/hello
//	rumpus cat /dev/hello
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/examples/hello/hello"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

func main() { serve.Main(hello.New()) }
