package modproxy

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// module is a module of the component.
type module struct {
	l     *Link
	index int
	info  modapi.Info

	// Protected by Link.mu.
	kernel   modapi.Kernel // from Init to Fini
	starting bool
	counters map[uint32]*counter
}

// counter is an event counter of the component.
type counter struct {
	c    *modapi.Counter
	last uint64
}

var (
	_ modapi.Module       = (*module)(nil)
	_ modapi.Stater       = (*module)(nil)
	_ modapi.AutoUnloader = (*module)(nil)
)

// maxInfo bounds the coded answer to OpInfo, maxStat that to OpStat, in bytes.
const (
	maxInfo = 256 << 10
	maxStat = 64 << 10
)

func (l *Link) info(ctx context.Context) error {
	b, err := l.life(ctx, wire.OpInfo, 0, nil, maxInfo)
	if err != nil {
		return err
	}
	var r wire.InfoRes
	if err := r.Parse(b); err != nil {
		return l.lie("reply to info: %v", err)
	}
	if len(r.Mods) == 0 {
		return fmt.Errorf("there are none: %w", abi.ENOENT)
	}
	seen := make(map[string]bool)
	mods := make([]*module, len(r.Mods))
	for i := range r.Mods {
		info := r.Mods[i]
		if err := info.Check(); err != nil {
			return err
		}
		if seen[info.Name] {
			return fmt.Errorf("two modules %s: %w", info.Name, abi.EINVAL)
		}
		seen[info.Name] = true
		info.Version = wire.ParseErrText([]byte(info.Version))
		mods[i] = &module{l: l, index: i, info: info, counters: make(map[uint32]*counter)}
	}
	l.mu.Lock()
	l.mods = mods
	l.mu.Unlock()
	return nil
}

// Info is what the module said of itself, checked.
func (m *module) Info() modapi.Info { return m.info }

// Init initialises the module; what it attaches goes to k.
func (m *module) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	if err := wire.CheckProps(p); err != nil {
		return err
	}
	m.set(k, true)
	req := wire.InitReq{Reason: r, Instance: m.l.opt.Instance, Props: p}
	if _, err := m.l.life(ctx, wire.OpInit, m.index, req.Append(nil), 0); err != nil {
		m.set(nil, false)
		m.l.dropBlocks(m)
		return err
	}
	m.set(k, false)
	return nil
}

// Fini ends the module. EBUSY: it stays.
func (m *module) Fini(ctx context.Context) error {
	if _, err := m.l.life(ctx, wire.OpFini, m.index, nil, 0); err != nil {
		return err
	}
	m.set(nil, false)
	m.l.dropBlocks(m)
	return nil
}

// Stat is what the module has to say; ENOTTY if it never does.
func (m *module) Stat(ctx context.Context) (string, error) {
	b, err := m.l.life(ctx, wire.OpStat, m.index, nil, maxStat)
	return string(b), err
}

// AutoUnload asks whether the module may go; ENOTTY if it does not say.
func (m *module) AutoUnload(ctx context.Context) error {
	_, err := m.l.life(ctx, wire.OpAutoUnload, m.index, nil, 0)
	return err
}

func (m *module) set(k modapi.Kernel, starting bool) {
	m.l.mu.Lock()
	defer m.l.mu.Unlock()
	m.kernel, m.starting = k, starting
	if k == nil {
		clear(m.counters)
	}
}
