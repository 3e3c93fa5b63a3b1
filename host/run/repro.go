package run

import (
	"strings"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/repro"
	"github.com/rumpus-kernel/rumpus/modapi"
)

// keepRepros decides where the reproducers of this kernel go.
func (h *host) keepRepros() {
	dir := h.cfg.Kernel.Repro
	if dir == config.ReproOff {
		return
	}
	if dir == "" {
		dir = repro.DefaultDir(h.getenv)
	}
	h.repro = &repro.Dir{Path: dir, Redact: h.cfg.Kernel.ReproRedact, Plugin: h.pluginOf,
		Failed: func(path string, err error) {
			h.log.Error("a reproducer could not be kept", "file", path, "error", err)
		}}
}

// getenv is a variable of the environment, "" if it is not set.
func (h *host) getenv(name string) string {
	env := h.environ()
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// pluginOf is the plugin that an instance runs.
func (h *host) pluginOf(instance string) (plugin, program string, props modapi.Props) {
	plugin = instance
	for _, c := range h.cfg.Enabled() {
		if c.Name == instance {
			plugin, props = c.Plugin, modapi.Props(c.Props)
		}
	}
	program, _ = h.cfg.PluginPath(plugin, h.exeDir)
	return plugin, program, props
}
