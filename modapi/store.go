package modapi

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Limits of a Store.
const (
	MaxStoreKey   = 1 << 10  // bytes of a key; none is empty
	MaxStoreValue = 64 << 10 // bytes of a value
	MaxStoreScan  = 1 << 20  // bytes of keys and values, and 8 for each record, that one Scan answers
)

// Store is memory of the kernel's in which a mounted file system keeps what a
// new process must find: records, key to value, in the order of the keys' bytes.
//
// What is written is pending until the kernel commits a checkpoint
// (vfsops.Checkpointer), which makes all of it valid at once. If the process
// dies before, none of it is: the next one sees what the last checkpoint left.
// Who writes sees what it wrote.
//
// A Store may be used by several goroutines at a time. Calls are answered out
// of memory, without waiting for anything but their way. Errors beside those
// below: ENXIO, there is no such mount any more, or the process has been
// replaced; EIO.
type Store interface {
	// Get answers the value of a key, which is the caller's. ENOENT; EINVAL
	// for an empty key or one longer than MaxStoreKey.
	Get(ctx context.Context, key []byte) ([]byte, error)
	// Scan answers the records from a key on (inclusive; nil = the first) to
	// another (exclusive; nil = the last), in order: at most max of them (0 =
	// any number) and at most MaxStoreScan bytes. There are no more in the
	// range only if it answers none; else go on behind the last one. They are
	// the caller's. EINVAL as Get.
	Scan(ctx context.Context, from, to []byte, max int) ([]StoreRec, error)
	// Write changes records, in order. Keys and values are copied. A long
	// list goes in several pieces: after an error some of it may be written.
	// EINVAL as Get; E2BIG for a value longer than MaxStoreValue; ENOMEM if the
	// kernel's memory limit would be exceeded.
	Write(ctx context.Context, ops []StoreOp) error
}

// StoreOp sets a record, or deletes it; to delete what is not there is no error.
type StoreOp struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// StoreRec is a record.
type StoreRec struct {
	Key   []byte
	Value []byte
}

// StoreAfter is the smallest key behind key, to go on from in a Scan. It is the
// empty key if there can be none.
func StoreAfter(key []byte) []byte {
	if len(key) < MaxStoreKey {
		return append(append(make([]byte, 0, len(key)+1), key...), 0)
	}
	// The longest keys: the next one is shorter and ends with a larger byte.
	for n := len(key); n > 0; n-- {
		if key[n-1] != 0xff {
			k := append([]byte(nil), key[:n]...)
			k[n-1]++
			return k
		}
	}
	return nil
}

// CheckStoreKey says what is wrong with a key.
func CheckStoreKey(key []byte) error {
	if len(key) == 0 || len(key) > MaxStoreKey {
		return fmt.Errorf("store: key of %d bytes: %w", len(key), abi.EINVAL)
	}
	return nil
}

// CheckStoreRange says what is wrong with the ends of a Scan.
func CheckStoreRange(from, to []byte, max int) error {
	if len(from) > MaxStoreKey || len(to) > MaxStoreKey || max < 0 {
		return fmt.Errorf("store: scan of at most %d records, keys of %d and %d bytes: %w", max, len(from), len(to), abi.EINVAL)
	}
	return nil
}

// CheckStoreOp says what is wrong with a change.
func CheckStoreOp(op *StoreOp) error {
	if err := CheckStoreKey(op.Key); err != nil {
		return err
	}
	if len(op.Value) > MaxStoreValue {
		return fmt.Errorf("store: value of %d bytes: %w", len(op.Value), abi.E2BIG)
	}
	return nil
}

// NoStore is the Store of a mount that has none: ENXIO to everything.
type NoStore struct{}

var _ Store = NoStore{}

// Get answers ENXIO.
func (NoStore) Get(context.Context, []byte) ([]byte, error) { return nil, abi.ENXIO }

// Scan answers ENXIO.
func (NoStore) Scan(context.Context, []byte, []byte, int) ([]StoreRec, error) {
	return nil, abi.ENXIO
}

// Write answers ENXIO.
func (NoStore) Write(context.Context, []StoreOp) error { return abi.ENXIO }
