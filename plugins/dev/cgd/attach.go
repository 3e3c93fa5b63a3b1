package cgd

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"strings"
	"unsafe"

	"golang.org/x/crypto/argon2"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/crypt"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/luks"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/xts"
)

// newLUKS opens a LUKS volume.
func newLUKS(ctx context.Context, low devops.BlockIO, lg *devops.Geom, on abi.Dev, r *cgdio.Request) (*unit, error) {
	if len(r.Secrets) != 1 || len(r.Params) != 0 {
		return nil, fmt.Errorf("LUKS wants one passphrase or key file, and no parameters: %w", abi.EINVAL)
	}
	dev := reader{ctx, low.Strategy, lg}
	h, err := luks.Read(dev, lg.Size)
	if err != nil {
		return nil, err
	}
	v, err := h.Unlock(ctx, dev, r.Secrets[0], int(r.Slot))
	if err != nil {
		return nil, err
	}
	defer v.Wipe()
	c, err := v.NewCipher()
	if err != nil {
		return nil, err
	}
	u := &unit{
		c: c, off: v.Offset, size: v.SectorSize, first: v.Sector(0), unit: devops.DevBsize,
		info: cgdio.Info{
			Kind: cgdio.LUKS, Dev: on, Slot: int32(v.Slot), KeyBits: uint32(v.KeyBits()), Cipher: v.Cipher, Impl: impl(c),
			Size: v.Size, UUID: h.UUID, Label: h.Label,
		},
	}
	for i, n := range h.Notes {
		if i > 0 {
			u.info.Note += "; "
		}
		u.info.Note += n
	}
	return newUnit(low, lg, u, r.Flags)
}

// impl says how a cipher is computed.
func impl(c crypt.Cipher) string {
	if strings.HasPrefix(c.String(), "aes-xts") {
		return xts.Path()
	}
	return "crypto/aes"
}

// newCGD attaches a disk as NetBSD's cgd lays it out.
func newCGD(ctx context.Context, low devops.BlockIO, lg *devops.Geom, on abi.Dev, r *cgdio.Request) (*unit, error) {
	p, err := cgdio.ParseParams(r.Params)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	key, err := derive(ctx, p, r.Secrets)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	var c crypt.Cipher
	if p.Algorithm == "aes-xts" {
		c, err = xts.New(key)
	} else {
		c, err = crypt.NewCBC(crypt.EncBlkno, key)
	}
	if err != nil {
		return nil, err
	}
	u, err := newUnit(low, lg, &unit{
		c: c, size: int(lg.Sector), unit: int64(lg.Sector),
		info: cgdio.Info{Kind: cgdio.CGD, Dev: on, Slot: cgdio.AnySlot, KeyBits: uint32(p.KeyBits), Cipher: p.Algorithm, Impl: impl(c), Size: lg.Size},
	}, r.Flags)
	if err != nil {
		return nil, err
	}
	if err := u.verify(ctx, p.Verify); err != nil {
		c.Wipe()
		return nil, err
	}
	return u, nil
}

// derive makes the key: the exclusive or of what all keygens make.
func derive(ctx context.Context, p *cgdio.Params, secrets [][]byte) ([]byte, error) {
	want := p.Secrets()
	if len(secrets) != len(want) {
		return nil, fmt.Errorf("%d secrets, and the parameters want %d: %w", len(secrets), len(want), abi.EINVAL)
	}
	secret := make(map[int][]byte)
	for i, w := range want {
		if w.Random > 0 && len(secrets[i]) != w.Random {
			return nil, fmt.Errorf("a random key of %d bytes, not %d: %w", len(secrets[i]), w.Random, abi.EINVAL)
		}
		if len(secrets[i]) == 0 {
			return nil, fmt.Errorf("an empty passphrase: %w", abi.EACCES)
		}
		secret[w.Keygen] = secrets[i]
	}
	n := p.KeyBits / 8
	key := make([]byte, n)
	for i := range p.Keygens {
		k := &p.Keygens[i]
		if err := ctx.Err(); err != nil {
			clear(key)
			return nil, abi.ErrnoOf(err)
		}
		var part []byte
		switch k.Method {
		case "pkcs5_pbkdf2/sha1":
			s := secret[i]
			part, _ = pbkdf2.Key(sha1.New, unsafe.String(unsafe.SliceData(s), len(s)), k.Salt, int(k.Iterations), n)
		case "argon2id":
			part = argon2.IDKey(secret[i], k.Salt, k.Iterations, k.Memory, uint8(k.Parallelism), uint32(n))
			if k.Memory >= 64<<10 {
				debug.FreeOSMemory() // the process would carry it along, with what is in it
			}
		case "storedkey":
			part = append([]byte(nil), k.Key...)
		default:
			part = append([]byte(nil), secret[i]...)
		}
		if len(part) != n {
			clear(key)
			return nil, fmt.Errorf("keygen %s does not work here: %w", k.Method, abi.EINVAL)
		}
		subtle.XORBytes(key, key, part)
		clear(part)
	}
	return key, nil
}

// verify looks whether what is deciphered makes sense (verify_method of
// cgdconfig(8)). EACCES: it does not.
func (u *unit) verify(ctx context.Context, method string) error {
	r := reader{ctx, u.strategy, &u.geom}
	ok, err := true, error(nil)
	switch method {
	case "disklabel":
		ok, err = hasDisklabel(r)
	case "mbr":
		ok, err = hasMBR(r)
	case "gpt":
		ok, err = hasGPT(r)
	case "ffs":
		ok, err = hasFFS(r)
	}
	if err == nil && !ok {
		err = fmt.Errorf("the key is wrong: no %s was found behind it: %w", method, abi.EACCES)
	}
	return err
}

// some reads n bytes at off; what the disk is too small for is not there.
func (r reader) some(off, n int64) ([]byte, error) {
	if off > r.g.Size-n {
		return nil, nil
	}
	p := make([]byte, n)
	_, err := r.ReadAt(p, off)
	return p, err
}

// hasDisklabel looks for disklabel(5) in the first 8 KiB, wherever an
// architecture may keep it.
func hasDisklabel(r reader) (bool, error) {
	const magic, head = 0x82564557, 148
	p, err := r.some(0, min(8192, r.g.Size))
	if err != nil {
		return false, err
	}
	le := binary.LittleEndian
	for i := 0; i+head <= len(p); i += 4 {
		l := p[i:]
		if le.Uint32(l) != magic || le.Uint32(l[132:]) != magic {
			continue
		}
		n := head + 16*int(le.Uint16(l[138:]))
		if n > len(l) {
			continue
		}
		sum := uint16(0)
		for k := 0; k < n; k += 2 {
			sum ^= le.Uint16(l[k:])
		}
		if sum == 0 {
			return true, nil
		}
	}
	return false, nil
}

// hasMBR looks for the magic number of a master boot record, and whether each
// entry is active or not, and nothing else.
func hasMBR(r reader) (bool, error) {
	p, err := r.some(0, 512)
	if err != nil || p == nil || p[510] != 0x55 || p[511] != 0xaa {
		return false, err
	}
	for i := 446; i < 510; i += 16 {
		if p[i]&0x7f != 0 {
			return false, nil
		}
	}
	return true, nil
}

// hasGPT looks for the header of a GUID partition table in the second sector,
// with its checksum.
func hasGPT(r reader) (bool, error) {
	p, err := r.some(int64(r.g.Sector), 512)
	if err != nil || p == nil || string(p[:8]) != "EFI PART" {
		return false, err
	}
	le := binary.LittleEndian
	n, sum := le.Uint32(p[12:]), le.Uint32(p[16:])
	if n < 92 || n > 512 {
		return false, nil
	}
	clear(p[16:20])
	return crc32.ChecksumIEEE(p[:n]) == sum, nil
}

// hasFFS looks for a superblock where FFS keeps it, in either byte order.
func hasFFS(r reader) (bool, error) {
	for _, off := range []int64{65536, 8192, 0, 262144} {
		p, err := r.some(off+1372, 4)
		if err != nil {
			return false, err
		}
		if p == nil {
			continue
		}
		for _, m := range []uint32{binary.LittleEndian.Uint32(p), binary.BigEndian.Uint32(p)} {
			switch m {
			case 0x00011954, 0x19540119: // UFS1, UFS2
				return true, nil
			}
		}
	}
	return false, nil
}
