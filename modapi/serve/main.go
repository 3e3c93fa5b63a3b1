package serve

import (
	"fmt"
	"os"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
)

// Main is the whole main function of a component process: it serves mods to
// the host that started the process and never returns. The exit status is
// Run's. Modules that cannot be served (none, a bad Info, two of one name) are
// an error of the program: one line on stderr and status 1.
func Main(mods ...modapi.Module) {
	names, err := moduleNames(mods)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	Run(dispatch.New(mods, dispatch.Options{Instance: os.Getenv(EnvInstance)}), names...)
}

// moduleNames checks what a program offers.
func moduleNames(mods []modapi.Module) ([]string, error) {
	if len(mods) == 0 {
		return nil, fmt.Errorf("this program has no modules")
	}
	var names []string
	seen := make(map[string]bool)
	for _, m := range mods {
		info := m.Info()
		if err := info.Check(); err != nil {
			return nil, err
		}
		if seen[info.Name] {
			return nil, fmt.Errorf("module %s: offered twice", info.Name)
		}
		seen[info.Name] = true
		names = append(names, info.Name)
	}
	return names, nil
}
