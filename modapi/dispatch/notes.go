package dispatch

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// notes collects what is told to the kernel without waiting, and sends it by
// one goroutine. Edges of one socket or device are merged, so that there is
// room for all of them and none is lost; log lines beyond maxLog are dropped
// and counted. It goes by the stream: package ring's README says why edges are
// not better off in the ring.
type notes struct {
	kick   chan struct{}
	sendMu sync.Mutex // one sender at a time: counters must not run backwards

	mu       sync.Mutex
	socks    map[abi.SockID]abi.PollEvents
	devs     map[abi.Dev]abi.PollEvents
	lines    []line
	lost     int
	counters []*counter
	evcnt    bool // send the counters now

	ticked atomic.Int64 // when the last tick was to be sent, ns since began
	tock   atomic.Bool  // send a tick
	began  time.Time
}

// tickPeriod is how often ticks are sent at most.
const tickPeriod = 20 * time.Millisecond

// tick has the kernel told that a handler gets on, if that was not done lately.
func (n *notes) tick() {
	now, last := int64(time.Since(n.began)), n.ticked.Load()
	if now-last < int64(tickPeriod) && last != 0 || !n.ticked.CompareAndSwap(last, now) {
		return
	}
	n.tock.Store(true)
	n.wake()
}

type line struct {
	mod  int
	text []byte
}

type counter struct {
	modapi.Counter
	mod         int
	group, name string
	told        bool
	sent        uint64
}

const maxLog = 256

func (n *notes) init() {
	n.kick = make(chan struct{}, 1)
	n.began = time.Now()
	n.socks = make(map[abi.SockID]abi.PollEvents)
	n.devs = make(map[abi.Dev]abi.PollEvents)
}

func (n *notes) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

func (n *notes) ready(r sockops.Ready) {
	n.mu.Lock()
	n.socks[r.Sock] |= r.Events
	n.mu.Unlock()
	n.wake()
}

func (n *notes) devReady(r devops.Ready) {
	n.mu.Lock()
	n.devs[r.Dev] |= r.Events
	n.mu.Unlock()
	n.wake()
}

func (n *notes) log(mod int, text []byte) {
	n.mu.Lock()
	if len(n.lines) < maxLog {
		n.lines = append(n.lines, line{mod, text})
	} else {
		n.lost++
	}
	n.mu.Unlock()
	n.wake()
}

// counter is the counter of that name, a new one if need be. Beyond what the
// wire can name, a counter counts and nobody sees it.
func (n *notes) counter(mod int, group, name string) *modapi.Counter {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.counters {
		if c.mod == mod && c.group == group && c.name == name {
			return &c.Counter
		}
	}
	c := &counter{mod: mod, group: group, name: name}
	if len(n.counters) < wire.MaxEvcnts && len(group) <= 31 && len(name) <= 63 {
		n.counters = append(n.counters, c)
		n.evcnt = true
	}
	n.wake()
	return &c.Counter
}

// flush sends what there is now, the counters too.
func (n *notes) flush(c *stream.Conn) {
	n.mu.Lock()
	n.evcnt = true
	n.mu.Unlock()
	n.send(c)
}

// run sends until the connection ends.
func (n *notes) run(c *stream.Conn, period time.Duration) {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		select {
		case <-c.Done():
			return
		case <-n.kick:
		case <-t.C:
			n.mu.Lock()
			n.evcnt = true
			n.mu.Unlock()
		}
		n.send(c)
	}
}

// send sends what there is. Errors are the connection's end, which run sees.
func (n *notes) send(c *stream.Conn) {
	n.sendMu.Lock()
	defer n.sendMu.Unlock()
	if n.tock.Swap(false) {
		c.Send(wire.OpTick, 0, nil, nil)
	}
	n.mu.Lock()
	var socks wire.ReadyMsg
	for id, ev := range n.socks {
		if len(socks.Edges) == wire.MaxEdges {
			n.wake()
			break
		}
		socks.Edges = append(socks.Edges, sockops.Ready{Sock: id, Events: ev})
		delete(n.socks, id)
	}
	var devs wire.DevReadyMsg
	for dev, ev := range n.devs {
		if len(devs.Edges) == wire.MaxEdges {
			n.wake()
			break
		}
		devs.Edges = append(devs.Edges, devops.Ready{Dev: dev, Events: ev})
		delete(n.devs, dev)
	}
	lines, lost := n.lines, n.lost
	n.lines, n.lost = nil, 0
	evcnts := map[int]*wire.EvcntMsg{}
	if n.evcnt {
		n.evcnt = false
		for i, k := range n.counters {
			v := k.Load()
			if k.told && v == k.sent {
				continue
			}
			m := evcnts[k.mod]
			if m == nil {
				m = &wire.EvcntMsg{}
				evcnts[k.mod] = m
			}
			e := wire.EvcntVal{ID: uint32(i), Value: v}
			if !k.told {
				e.Group, e.Name = k.group, k.name
			}
			m.Vals = append(m.Vals, e)
			k.told, k.sent = true, v
		}
	}
	n.mu.Unlock()

	if len(socks.Edges) > 0 {
		c.Send(wire.OpReady, 0, nil, abi.IovOf(socks.Append(nil)))
	}
	if len(devs.Edges) > 0 {
		c.Send(wire.OpDevReady, 0, nil, abi.IovOf(devs.Append(nil)))
	}
	for mod, m := range evcnts {
		c.Send(wire.OpEvcnt, uint64(mod), nil, abi.IovOf(m.Append(nil)))
	}
	for _, l := range lines {
		c.Send(wire.OpLog, uint64(l.mod), nil, abi.IovOf(l.text))
	}
	if lost > 0 {
		m := wire.LogMsg{Level: wire.LogWarn, Text: "log lines lost", KV: []string{"lost", strconv.Itoa(lost)}}
		c.Send(wire.OpLog, 0, nil, abi.IovOf(m.Append(nil)))
	}
}
