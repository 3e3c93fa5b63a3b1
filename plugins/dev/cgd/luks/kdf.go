package luks

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"runtime/debug"
	"unsafe"

	"golang.org/x/crypto/argon2"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// newHash is the hash of that name.
func newHash(name string) (func() hash.Hash, error) {
	switch name {
	case "sha1":
		return sha1.New, nil
	case "sha224":
		return sha256.New224, nil
	case "sha256":
		return sha256.New, nil
	case "sha384":
		return sha512.New384, nil
	case "sha512":
		return sha512.New, nil
	}
	return nil, fmt.Errorf("hash %.32q is not supported: %w", name, abi.EINVAL)
}

// derive makes the key of the slot's area from the passphrase.
func (s *Slot) derive(pass []byte, l Limits) ([]byte, error) {
	switch s.KDF {
	case "pbkdf2":
		return stretch(pass, s.salt, s.hash, s.iter, s.areaKey, l)
	case "argon2id", "argon2i":
		// Not more than argon2 itself wants at least (RFC 9106, 3.1).
		if s.memory < 8*uint64(s.cpus) || s.cpus < 1 || s.cpus > 64 || s.iter < 1 {
			return nil, fmt.Errorf("%s with %d passes, %d KiB, %d threads: %w", s.KDF, s.iter, s.memory, s.cpus, abi.EIO)
		}
		if s.memory > l.Memory || s.iter > l.Work/s.memory {
			return nil, fmt.Errorf("%s wants %d passes over %d KiB, more than is allowed here: %w", s.KDF, s.iter, s.memory, abi.EINVAL)
		}
		f := argon2.IDKey
		if s.KDF == "argon2i" {
			f = argon2.Key
		}
		key := f(pass, s.salt, uint32(s.iter), uint32(s.memory), uint8(s.cpus), uint32(s.areaKey))
		if s.memory >= 64<<10 {
			debug.FreeOSMemory() // the process would carry it along, with what is in it
		}
		return key, nil
	}
	return nil, fmt.Errorf("key derivation %.32q is not supported: %w", s.KDF, abi.EINVAL)
}

// stretch is PBKDF2.
func stretch(pass, salt []byte, name string, iter uint64, n int, l Limits) ([]byte, error) {
	h, err := newHash(name)
	if err != nil {
		return nil, err
	}
	blocks := uint64((n + h().Size() - 1) / h().Size())
	if iter < 1 || n < 1 {
		return nil, fmt.Errorf("pbkdf2 with %d iterations for %d bytes: %w", iter, n, abi.EIO)
	}
	if iter > l.Iterations/blocks {
		return nil, fmt.Errorf("pbkdf2 wants %d iterations, more than is allowed here: %w", iter, abi.EINVAL)
	}
	// A string of the same bytes: no copy of the passphrase is left behind.
	key, err := pbkdf2.Key(h, unsafe.String(unsafe.SliceData(pass), len(pass)), salt, int(iter), n)
	if err != nil {
		return nil, fmt.Errorf("pbkdf2: %v: %w", err, abi.EINVAL)
	}
	return key, nil
}

// matches says whether key is the one that the digest was made of.
func (d *digest) matches(key []byte, l Limits) (bool, error) {
	got, err := stretch(key, d.salt, d.hash, d.iter, len(d.want), l)
	if err != nil {
		return false, fmt.Errorf("digest: %w", err)
	}
	return subtle.ConstantTimeCompare(got, d.want) == 1, nil
}

// afMerge is AFmerge of the LUKS1 specification, 2.4: the key from its stripes.
func afMerge(area []byte, n, stripes int, name string) ([]byte, error) {
	h, err := newHash(name)
	if err != nil {
		return nil, err
	}
	key := make([]byte, n)
	for i := range stripes {
		subtle.XORBytes(key, key, area[i*n:(i+1)*n])
		if i < stripes-1 {
			diffuse(key, h())
		}
	}
	return key, nil
}

// diffuse replaces each part of p, as long as the hash, by the hash of its
// number and itself.
func diffuse(p []byte, h hash.Hash) {
	var num [4]byte
	var sum [sha512.Size]byte
	for i := 0; len(p) > 0; i++ {
		n := min(h.Size(), len(p))
		binary.BigEndian.PutUint32(num[:], uint32(i))
		h.Reset()
		h.Write(num[:])
		h.Write(p[:n])
		copy(p[:n], h.Sum(sum[:0]))
		p = p[n:]
	}
	clear(sum[:])
}
