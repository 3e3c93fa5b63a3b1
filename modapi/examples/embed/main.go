// Embed runs a rump kernel inside this program: a tmpfs, and a TCP/IP stack of
// its own on which it serves the tmpfs by HTTP and fetches from it.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func main() {
	ctx := context.Background()
	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New(), inet.New()}})
	check(k.Boot(ctx))
	defer k.Reboot(ctx, 0)
	c, err := k.Client("embed")
	check(err)
	check(c.WriteFile(ctx, "/hello.txt", []byte("hello from inside\n"), 0o644))
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:80")
	check(err)
	go http.Serve(l, http.FileServerFS(c.FS()))
	web := http.Client{Transport: &http.Transport{DialContext: c.Dial}}
	r, err := web.Get("http://127.0.0.1/hello.txt")
	check(err)
	io.Copy(os.Stdout, r.Body)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
