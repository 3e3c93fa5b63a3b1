// Command prog simulates outside of a test, with flags of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
)

func main() {
	var wg sync.WaitGroup
	for seed := range 4 {
		wg.Go(func() {
			r, err := journalsim.Run(context.Background(), journalsim.Config{Seed: int64(seed)})
			if err != nil || r.Ops == 0 || r.Deaths == 0 {
				fmt.Println(err, r)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
	fmt.Println("fine", len(os.Args))
}
