package nbd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// Bounds of the option haggling.
const (
	maxOptions = 256     // options of one handshake
	maxSkipped = 1 << 20 // bytes of an option's data that are skipped, not a reason to leave
)

// metaID is the number of base:allocation.
const metaID = 1

// handshake negotiates. nil, nil: the client has left in order.
func (c *conn) handshake() (*Export, error) {
	c.nc.SetWriteDeadline(time.Now().Add(c.s.opt.Handshake))
	c.limitRead(inHandshake, c.s.opt.Handshake)
	if err := c.say(proto.AppendGreeting(nil, proto.FlagFixedNewstyle|proto.FlagNoZeroes)); err != nil {
		return nil, err
	}
	p, err := c.take(4)
	if err != nil {
		if errors.Is(err, errLeft) {
			return nil, nil // looked whether we are there
		}
		return nil, err
	}
	flags := uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
	if flags&^uint32(proto.FlagFixedNewstyle|proto.FlagNoZeroes) != 0 {
		return nil, fmt.Errorf("client flags %#x: %w", flags, proto.ErrProtocol)
	}
	c.fixed = flags&uint32(proto.FlagFixedNewstyle) != 0
	c.noZeroes = flags&uint32(proto.FlagNoZeroes) != 0
	for range maxOptions {
		p, err := c.take(proto.OptionSize)
		if err != nil {
			if errors.Is(err, errLeft) {
				return nil, nil
			}
			return nil, err
		}
		o, err := proto.ParseOption(p)
		if err != nil {
			return nil, err
		}
		if o.Len > proto.MaxOption {
			if o.Len > maxSkipped || o.Opt == proto.OptExportName {
				return nil, fmt.Errorf("option %d of %d bytes: %w", o.Opt, o.Len, proto.ErrProtocol)
			}
			if err := c.skip(int(o.Len)); err != nil {
				return nil, err
			}
			if err := c.say(proto.AppendReply(nil, o.Opt, proto.RepErrTooBig, nil)); err != nil {
				return nil, err
			}
			continue
		}
		data, err := c.take(int(o.Len))
		if err != nil {
			return nil, err
		}
		e, end, err := c.option(o.Opt, data)
		if e != nil || end || err != nil {
			return e, err
		}
	}
	return nil, fmt.Errorf("more than %d options: %w", maxOptions, proto.ErrProtocol)
}

// say writes b.
func (c *conn) say(b []byte) error {
	_, err := c.nc.Write(b)
	return err
}

// option answers one option. e: the handshake ends with this export; end: it
// ends without one.
func (c *conn) option(o proto.Opt, data []byte) (e *Export, end bool, err error) {
	if o == proto.OptExportName {
		return c.exportName(string(data))
	}
	if !c.fixed {
		return nil, false, fmt.Errorf("option %d from a client without fixed newstyle: %w", o, proto.ErrProtocol)
	}
	var out []byte
	reply := func(t proto.Rep, data []byte) { out = proto.AppendReply(out, o, t, data) }
	refuse := func(t proto.Rep, text string) { out = proto.AppendReply(nil, o, t, []byte(text)) }
	empty := len(data) == 0
	switch o {
	case proto.OptAbort:
		reply(proto.RepAck, nil)
		c.say(out) // it may have left
		return nil, true, nil
	case proto.OptList:
		if !empty {
			refuse(proto.RepErrInvalid, "the option has no data")
			break
		}
		for _, e := range c.s.list() {
			reply(proto.RepServer, proto.AppendServer(nil, e.Name, e.Description))
		}
		reply(proto.RepAck, nil)
	case proto.OptStartTLS:
		if !empty {
			refuse(proto.RepErrInvalid, "the option has no data")
			break
		}
		refuse(proto.RepErrPolicy, "there is no TLS here")
	case proto.OptStructuredReply:
		if !empty {
			refuse(proto.RepErrInvalid, "the option has no data")
			break
		}
		c.structured = true
		reply(proto.RepAck, nil)
	case proto.OptListMetaContext, proto.OptSetMetaContext:
		c.metaContext(o, data, reply, refuse)
	case proto.OptInfo, proto.OptGo:
		g, perr := proto.ParseGoRequest(data)
		if perr != nil {
			refuse(proto.RepErrInvalid, "the option's data makes no sense")
			break
		}
		x := c.s.lookup(g.Name)
		if x == nil {
			refuse(proto.RepErrUnknown, fmt.Sprintf("no export %q", g.Name))
			break
		}
		if ierr := c.choose(x); ierr != nil {
			refuse(proto.RepErrUnknown, "the device is not there: "+abi.ErrnoOf(ierr).Error())
			break
		}
		c.describe(x, &g, reply)
		reply(proto.RepAck, nil)
		if o == proto.OptGo {
			e = x
		}
	default:
		refuse(proto.RepErrUnsup, "")
	}
	return e, false, c.say(out)
}

// choose looks at the device of an export.
func (c *conn) choose(x *Export) error {
	c.info = x.Backend.Info()
	if err := c.info.check(); err != nil {
		return err
	}
	c.info.ReadOnly = c.info.ReadOnly || x.ReadOnly
	c.flags = c.info.flags(c.structured)
	c.be = x.Backend
	c.try, _ = x.Backend.(TryReader)
	c.tryWrite, _ = x.Backend.(TryWriter)
	c.meta = c.metaFor == x
	c.exp.Store(x)
	return nil
}

// describe sends the informations about the export that was chosen last.
func (c *conn) describe(x *Export, g *proto.GoRequest, reply func(proto.Rep, []byte)) {
	e := proto.Export{Size: uint64(c.info.Size), Flags: c.flags}
	reply(proto.RepInfo, e.Append(nil))
	if g.Wants(proto.InfoName) {
		reply(proto.RepInfo, proto.AppendInfoString(nil, proto.InfoName, x.Name))
	}
	if g.Wants(proto.InfoDescription) && x.Description != "" {
		reply(proto.RepInfo, proto.AppendInfoString(nil, proto.InfoDescription, x.Description))
	}
	if g.Wants(proto.InfoBlockSize) || c.info.Block > 1 {
		b := proto.BlockSize{Min: c.info.Block, Preferred: c.info.Preferred, Max: proto.MaxPayload}
		reply(proto.RepInfo, b.Append(nil))
	}
}

// exportName is the old way to choose: without a way to say no.
func (c *conn) exportName(name string) (*Export, bool, error) {
	x := c.s.lookup(name)
	if x == nil || !proto.ValidString(name) {
		return nil, false, fmt.Errorf("export %.80q: %w", name, abi.ENOENT)
	}
	if err := c.choose(x); err != nil {
		return nil, false, err
	}
	e := proto.Export{Size: uint64(c.info.Size), Flags: c.flags}
	out := e.AppendOld(nil)
	if !c.noZeroes {
		out = append(out, make([]byte, proto.OldPad)...)
	}
	return x, false, c.say(out)
}

// metaContext lists or sets the metadata contexts: there is base:allocation.
func (c *conn) metaContext(o proto.Opt, data []byte, reply func(proto.Rep, []byte), refuse func(proto.Rep, string)) {
	set := o == proto.OptSetMetaContext
	if set {
		c.metaFor = nil
	}
	if !c.structured {
		refuse(proto.RepErrInvalid, "structured replies come first")
		return
	}
	m, err := proto.ParseMetaRequest(data)
	switch {
	case errors.Is(err, proto.ErrTooMany):
		refuse(proto.RepErrTooBig, "")
		return
	case err != nil:
		refuse(proto.RepErrInvalid, "the option's data makes no sense")
		return
	}
	x := c.s.lookup(m.Name)
	if x == nil {
		refuse(proto.RepErrUnknown, fmt.Sprintf("no export %q", m.Name))
		return
	}
	found := len(m.Queries) == 0 && !set
	for _, q := range m.Queries {
		if !strings.Contains(q, ":") {
			refuse(proto.RepErrInvalid, "a query has no namespace")
			return
		}
		found = found || q == proto.BaseAllocation || q == "base:" && !set
	}
	if found {
		id := uint32(0)
		if set {
			id, c.metaFor = metaID, x
		}
		reply(proto.RepMetaContext, proto.AppendMetaContext(nil, id, proto.BaseAllocation))
	}
	reply(proto.RepAck, nil)
}
