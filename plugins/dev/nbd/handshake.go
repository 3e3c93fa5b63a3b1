package nbd

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// Bounds of what a server may say in a handshake.
const (
	maxReplies   = 64
	maxReplySize = 64 << 10
)

// export is what a server told about its export.
type export struct {
	proto.Export
	block      proto.BlockSize
	structured bool
}

// greet negotiates for the export, in wait at most.
func greet(nc net.Conn, name string, wait time.Duration) (x export, err error) {
	nc.SetDeadline(time.Now().Add(wait))
	defer nc.SetDeadline(time.Time{})
	var b [proto.ChunkSize]byte
	if err = readFull(nc, b[:proto.GreetingSize]); err != nil {
		return x, err
	}
	flags, err := proto.ParseGreeting(b[:])
	if err != nil {
		return x, err
	}
	mine := flags & (proto.FlagFixedNewstyle | proto.FlagNoZeroes)
	if _, err = nc.Write([]byte{0, 0, byte(mine >> 8), byte(mine)}); err != nil {
		return x, err
	}
	x.block = proto.BlockSize{Min: 1, Preferred: 4096, Max: proto.MaxPayload}
	if flags&proto.FlagFixedNewstyle == 0 {
		return x, x.byName(nc, name, flags)
	}
	last, _, err := x.option(nc, proto.OptStructuredReply, nil)
	if err != nil {
		return x, err
	}
	x.structured = last == proto.RepAck
	g := proto.GoRequest{Name: name, Infos: []proto.Info{proto.InfoBlockSize}}
	last, text, err := x.option(nc, proto.OptGo, g.Append(nil))
	switch {
	case err != nil:
		return x, err
	case last == proto.RepErrUnsup: // an old server
		return x, x.byName(nc, name, flags)
	case last == proto.RepErrUnknown:
		return x, fmt.Errorf("export %q: %v%s: %w", name, last, text, abi.ENOENT)
	case last != proto.RepAck:
		return x, fmt.Errorf("export %q: %v%s: %w", name, last, text, abi.EACCES)
	case x.Flags&proto.HasFlags == 0:
		return x, fmt.Errorf("the server does not tell the export's size: %w", proto.ErrProtocol)
	}
	return x, nil
}

// byName chooses the export the old way.
func (x *export) byName(nc net.Conn, name string, flags uint16) error {
	if _, err := nc.Write(proto.AppendOption(nil, proto.OptExportName, []byte(name))); err != nil {
		return err
	}
	n := proto.OldSize
	if flags&proto.FlagNoZeroes == 0 {
		n += proto.OldPad
	}
	var b [proto.OldSize + proto.OldPad]byte
	if err := readFull(nc, b[:n]); err != nil {
		return fmt.Errorf("export %q: %w", name, err)
	}
	var err error
	x.Export, err = proto.ParseExport(b[:proto.OldSize])
	return err
}

// option sends an option and takes the replies, up to the last one. text is what
// an error says.
func (x *export) option(nc net.Conn, o proto.Opt, data []byte) (last proto.Rep, text string, err error) {
	if _, err := nc.Write(proto.AppendOption(nil, o, data)); err != nil {
		return 0, "", err
	}
	for range maxReplies {
		var h [proto.ReplySize]byte
		if err := readFull(nc, h[:]); err != nil {
			return 0, "", err
		}
		r, err := proto.ParseReply(h[:])
		if err != nil {
			return 0, "", err
		}
		if r.Opt != o || r.Len > maxReplySize {
			return 0, "", fmt.Errorf("reply to option %d, of %d bytes: %w", r.Opt, r.Len, proto.ErrProtocol)
		}
		b := make([]byte, r.Len)
		if err := readFull(nc, b); err != nil {
			return 0, "", err
		}
		if r.Type.IsErr() {
			if s := string(b[:min(len(b), 200)]); s != "" && proto.ValidString(s) {
				text = fmt.Sprintf(" (%q)", s)
			}
			return r.Type, text, nil
		}
		switch r.Type {
		case proto.RepAck:
			return r.Type, "", nil
		case proto.RepInfo:
			i, p, err := proto.ParseInfo(b)
			switch {
			case err != nil:
			case i == proto.InfoExport:
				x.Export, err = proto.ParseExport(p)
			case i == proto.InfoBlockSize:
				x.block, err = proto.ParseBlockSize(p)
			}
			if err != nil {
				return 0, "", err
			}
		}
	}
	return 0, "", fmt.Errorf("more than %d replies to option %d: %w", maxReplies, o, proto.ErrProtocol)
}

func readFull(nc net.Conn, b []byte) error {
	_, err := io.ReadFull(nc, b)
	return err
}
