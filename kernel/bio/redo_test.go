package bio_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

var image = bio.ImageID{Size: 64 << 10, UUID: [16]byte{1, 2, 3}, Ino: 77}

// redoFile is a redo file with two entries.
func redoFile(t testing.TB, id bio.ImageID) []byte {
	var b bytes.Buffer
	e, err := bio.NewRedoEncoder(&b, id, 5)
	if err == nil {
		err = e.Entry(4096, abi.Iov{pattern(4096, 1), pattern(4096, 2)})
	}
	if err == nil {
		err = e.Entry(60<<10, abi.IovOf(pattern(4096, 3)))
	}
	if err == nil {
		err = e.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func redone() []byte {
	img := make([]byte, 64<<10)
	copy(img[4096:], pattern(4096, 1))
	copy(img[8192:], pattern(4096, 2))
	copy(img[60<<10:], pattern(4096, 3))
	return img
}

func TestRedoRoundTrip(t *testing.T) {
	f := redoFile(t, image)
	got := make([]byte, 64<<10)
	rd, err := bio.ReadRedo(bytes.NewReader(f), int64(len(f)), image, func(off int64, data []byte) error {
		copy(got[off:], data)
		return nil
	})
	if err != nil || rd.ID != image || rd.Seq != 5 || rd.Entries != 2 || rd.Bytes != 12288 || !bytes.Equal(got, redone()) {
		t.Errorf("%+v, %v", rd, err)
	}
	// What is behind the commit record does not count.
	if _, err := bio.ReadRedo(bytes.NewReader(append(f, "more"...)), int64(len(f)+4), image, nil); err != nil {
		t.Error(err)
	}
}

// TestRedoDamaged: each prefix is incomplete, and each byte that is wrong is
// found.
func TestRedoDamaged(t *testing.T) {
	f := redoFile(t, image)
	for n := range f {
		if _, err := bio.ReadRedo(bytes.NewReader(f[:n]), int64(n), image, nil); !errors.Is(err, bio.ErrIncomplete) {
			t.Fatalf("%d of %d bytes: %v", n, len(f), err)
		}
		bad := bytes.Clone(f)
		bad[n] ^= 0x40
		if _, err := bio.ReadRedo(bytes.NewReader(bad), int64(len(f)), image, nil); err == nil {
			t.Fatalf("byte %d is wrong, and nobody noticed", n)
		}
	}
	// A size that is a lie.
	if _, err := bio.ReadRedo(bytes.NewReader(f[:100]), int64(len(f)), image, nil); !errors.Is(err, bio.ErrIncomplete) {
		t.Errorf("shorter than it says: %v", err)
	}
}

// TestRecovery: a complete redo file is replayed and removed, an incomplete one
// removed, that of another image refused, and nothing is written for those two.
func TestRecovery(t *testing.T) {
	other, outside := image, image
	other.UUID[0] = 9
	outside.Size = 0
	var far bytes.Buffer
	e, _ := bio.NewRedoEncoder(&far, outside, 1)
	_ = e.Entry(64<<10, abi.IovOf(make([]byte, 4096)))
	_ = e.Commit()
	whole := redoFile(t, image)
	for _, tc := range []struct {
		name    string
		file    []byte
		ro      bool
		want    error
		image   []byte
		removed bool
	}{
		{"none", nil, false, nil, make([]byte, 64<<10), true},
		{"whole", whole, false, nil, redone(), true},
		{"half", whole[:len(whole)-3], false, nil, make([]byte, 64<<10), true},
		{"empty", []byte{}, false, nil, make([]byte, 64<<10), true},
		{"another's", redoFile(t, other), false, abi.EINVAL, make([]byte, 64<<10), false},
		{"another size", redoFile(t, bio.ImageID{Size: 1 << 20}), false, abi.EINVAL, make([]byte, 64<<10), false},
		{"outside", far.Bytes(), false, abi.EINVAL, nil, false},
		{"whole, read-only", whole, true, nil, make([]byte, 64<<10), false},
		{"half, read-only", whole[:90], true, nil, make([]byte, 64<<10), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := wlog.NewMem(64<<10, 512)
			store := wlog.NewMemRedo(tc.file)
			s := bio.New(bio.Options{})
			ctx := t.Context()
			flags := abi.O_RDWR
			if tc.ro {
				flags = abi.O_RDONLY
			}
			h, err := s.OpenDevice(ctx, dev0, m, flags)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(ctx)
			l, err := bio.NewLayered(ctx, h, bio.LayerOptions{Redo: store, ID: image})
			if !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if tc.image != nil && !bytes.Equal(m.Image(), tc.image) {
				t.Error("not the image that it should be")
			}
			if (store.Data() == nil) != tc.removed {
				t.Errorf("removed: %v", store.Data() == nil)
			}
			if l == nil {
				return
			}
			if tc.name == "whole, read-only" { // it lies over the device
				p := make([]byte, 64<<10)
				if err := l.IO().Strategy(ctx, buf(devops.BRead, 0, p)); err != nil || !bytes.Equal(p, redone()) {
					t.Errorf("read through the layer: %v", err)
				}
			}
			if err := l.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzReadRedo: no bytes make it panic, read outside of the image or without
// end.
func FuzzReadRedo(f *testing.F) {
	whole := redoFile(f, image)
	f.Add(whole)
	f.Add(whole[:100])
	f.Add(whole[:64])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var n uint64
		rd, err := bio.ReadRedo(bytes.NewReader(b), int64(len(b)), image, func(off int64, data []byte) error {
			if off < 0 || len(data) == 0 || len(data) > devops.MaxPhys || rd64(off)+uint64(len(data)) > 1<<63 {
				t.Errorf("entry of %d bytes at %d", len(data), off)
			}
			n++
			return nil
		})
		if err == nil && n != rd.Entries {
			t.Errorf("%d entries, told %d", rd.Entries, n)
		}
	})
}

func rd64(n int64) uint64 { return uint64(n) }
