//go:build !linux

package ring

import (
	"fmt"
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
