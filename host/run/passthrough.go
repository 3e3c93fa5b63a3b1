package run

import (
	"os"
	"path"
	"strings"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
)

// backing opens the directory of the host that a hostfs shows, as far as it was
// granted to the instance that serves it: what Linux does by itself on files
// there is what that instance may do. It needs root; nil for everybody else, and
// for other file systems.
func (h *host) backing(m vfs.MountInfo) (*os.File, error) {
	if m.Type != "hostfs" || os.Geteuid() != 0 {
		return nil, nil
	}
	source := path.Clean(m.Source)
	for _, c := range h.cfg.Enabled() {
		if c.Name != m.Instance {
			continue
		}
		for _, g := range c.Grant {
			p, ok := strings.CutPrefix(g, "host.dir:")
			dir := strings.TrimSuffix(strings.TrimSuffix(p, ":rw"), ":ro")
			if !ok || path.Clean(dir) != source {
				continue
			}
			_, f, err := supervise.OpenGrant(g, os.Geteuid())
			return f, err
		}
	}
	return nil, nil
}
