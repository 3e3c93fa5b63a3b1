//go:build !linux

package ring

import (
	"fmt"
	"net"
	"os"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
)

// Mem is the mapped memory of a connection. Here there is none.
type Mem struct{}

// Unmap gives memory back that was never attached.
func (m *Mem) Unmap() {}

// Create makes the memory of a connection: EOPNOTSUPP here.
func Create(upcalls bool) (*os.File, error) { return nil, errNone }

// Map maps the memory of f: EOPNOTSUPP here.
func Map(f *os.File) (*Mem, error) { return nil, errNone }

// End is one end of a ring.
type End struct{}

// Attach puts memory to use beside a connection: EOPNOTSUPP here.
func Attach(c *stream.Conn, m *Mem, opt Options) (*End, error) { return nil, errNone }

// Supported reports whether this system can have rings.
func Supported() bool { return false }

var errNone = fmt.Errorf("shared-memory rings need Linux: %w", abi.EOPNOTSUPP)

// Passer is a connection that can carry a descriptor. Here there is none.
type Passer struct{ net.Conn }

// NewPasser answers nil.
func NewPasser(nc net.Conn, expect bool) *Passer { return nil }

// Send closes f.
func (p *Passer) Send(f *os.File) { f.Close() }

// Received answers nil.
func (p *Passer) Received() *os.File { return nil }
