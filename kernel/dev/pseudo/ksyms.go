package pseudo

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/ksyms"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Ksyms is /dev/ksyms (ksyms(4)): the symbols as text, one a line: the address
// in 16 hexadecimal digits, T, the name, and for those of modules a tab and the
// module in brackets. (NetBSD's is an ELF image of the same.) Those who have it
// open at the same time see the same table.
type Ksyms struct {
	devops.NoChr
	t *ksyms.Table

	mu    sync.Mutex
	opens int    // protected by mu
	text  []byte // protected by mu; of the first open
}

var (
	_ devops.Chr   = (*Ksyms)(nil)
	_ devops.Noder = (*Ksyms)(nil)
)

// NewKsyms makes the driver "ksyms".
func NewKsyms(t *ksyms.Table) *Ksyms { return &Ksyms{t: t} }

// Nodes is /dev/ksyms, which all may read.
func (*Ksyms) Nodes() []devops.Node { return []devops.Node{{Name: "ksyms", Mode: 0o444}} }

// Open makes the text: ENXIO for another unit than 0, EPERM for writing.
func (k *Ksyms) Open(_ context.Context, unit uint32, flags int) error {
	if unit != 0 {
		return abi.ENXIO
	}
	if flags&abi.O_ACCMODE != abi.O_RDONLY {
		return abi.EPERM
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opens++; k.opens > 1 {
		return nil
	}
	for _, s := range k.t.All() {
		k.text = fmt.Appendf(k.text, "%016x T %s", s.Addr, s.Name)
		if s.Module != ksyms.Kernel {
			k.text = fmt.Appendf(k.text, "\t[%s]", s.Module)
		}
		k.text = append(k.text, '\n')
	}
	return nil
}

// Close forgets the text behind the last.
func (k *Ksyms) Close(context.Context, uint32, int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opens--; k.opens == 0 {
		k.text = nil
	}
	return nil
}

// Read answers the text from off on.
func (k *Ksyms) Read(_ context.Context, _ uint32, off int64, dst abi.Iov, _ int) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if off < 0 {
		return 0, abi.EINVAL
	}
	if off >= int64(len(k.text)) {
		return 0, nil
	}
	return dst.CopyIn(k.text[off:]), nil
}
