//go:build !amd64

package xts

// best is x/crypto's code: there is no assembly for this architecture.
const best = wayPlain

func ways() []way { return []way{wayPlain} }

func (c *Cipher) run(_, _ []byte, _ *[batch * BlockSize]byte, _, _, _ int) {
	panic("xts: no assembly here")
}

func (s *schedules) expand([]byte, int) { panic("xts: no assembly here") }
