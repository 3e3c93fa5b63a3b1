package rumpclient_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// A program with a kernel of its own: a file in it is served and fetched over
// its network.
func Example() {
	ctx := context.Background()
	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New(), inet.New()}})
	if err := k.Boot(ctx); err != nil {
		log.Fatal(err)
	}
	defer k.Reboot(ctx, 0)
	c, err := k.Client("example")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Exit()
	if err := c.WriteFile(ctx, "/motd", []byte("hello from inside\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.FileServerFS(c.FS())}
	go srv.Serve(l)
	defer srv.Close()
	tr := &http.Transport{DialContext: c.Dial}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("http://127.0.0.1/motd")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Print(string(body))
	// Output: hello from inside
}
