package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// refused wants an error with an errno and a text.
func refused(t *testing.T, what string, err error, errno abi.Errno, text string) {
	t.Helper()
	if !errors.Is(err, errno) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, errno, text)
	}
}

func TestSlots(t *testing.T) {
	img := format(t, 18<<20, append(cheap("pbkdf2"), "--type", "luks2")...)
	add := func(slot, text string, more ...string) {
		args := append([]string{"luksAddKey", "-q", "--key-file", secret(t, pass), "--new-key-slot", slot}, append(cheap("argon2id"), more...)...)
		command(t, "cryptsetup", append(args, img, secret(t, text))...)
	}
	add("3", "three")
	add("7", "seven")
	command(t, "cryptsetup", "config", "--key-slot", "7", "--priority", "prefer", img)
	command(t, "cryptsetup", "config", "--key-slot", "3", "--priority", "ignore", img)
	all := load(t, img)
	want := volumeKey(t, img)
	for _, tc := range []struct {
		pass string
		slot int
		open int
		err  abi.Errno
	}{
		{pass, AnySlot, 0, 0},
		{pass, 0, 0, 0},
		{pass, 7, 0, abi.EACCES},
		{"seven", AnySlot, 7, 0},
		{"seven", 0, 0, abi.EACCES},
		{"three", AnySlot, 0, abi.EACCES}, // priority ignore
		{"three", 3, 3, 0},
		{"wrong", AnySlot, 0, abi.EACCES},
		{"", AnySlot, 0, abi.EACCES},
		{pass, 5, 0, abi.ENOENT},
		{pass + "\n", AnySlot, 0, abi.EACCES},
	} {
		_, v, err := open(all, tc.pass, tc.slot)
		switch {
		case tc.err != 0:
			if !errors.Is(err, tc.err) || v != nil {
				t.Errorf("%q, slot %d: %v, %v", tc.pass, tc.slot, v, err)
			}
			if tc.pass == "wrong" && !strings.Contains(err.Error(), "no key slot opened with this passphrase") {
				t.Errorf("wrong passphrase: %v", err)
			}
		case err != nil:
			t.Errorf("%q, slot %d: %v", tc.pass, tc.slot, err)
		case v.Slot != tc.open || !bytes.Equal(v.key, want):
			t.Errorf("%q, slot %d: opened %d", tc.pass, tc.slot, v.Slot)
		}
	}
	h, _, err := open(all, pass, AnySlot)
	if err != nil || len(h.Slots) != 3 || h.Slots[0].ID != 7 || h.Slots[1].ID != 0 || h.Slots[2].ID != 3 {
		t.Errorf("slots are tried in the order %+v, %v", h.Slots, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = h.Unlock(ctx, bytes.NewReader(all), []byte(pass), AnySlot)
	refused(t, "cancelled", err, abi.EINTR, "key slot 7")

	// A keyslot whose material is destroyed does not keep others from opening.
	torn := append([]byte(nil), all...)
	for _, s := range h.Slots {
		if s.ID == 7 {
			clear(torn[s.off : s.off+s.len])
		}
	}
	if _, v, err := open(torn, pass, AnySlot); err != nil || v.Slot != 0 {
		t.Errorf("with slot 7 destroyed: %v, %v", v, err)
	}
	_, _, err = open(torn, "seven", AnySlot)
	refused(t, "slot 7 destroyed", err, abi.EACCES, "no key slot opened")
}

func TestDamaged(t *testing.T) {
	img := load(t, format(t, 18<<20, append(cheap("pbkdf2"), "--type", "luks2")...))
	with := func(f func(p []byte)) []byte {
		p := append([]byte(nil), img...)
		f(p)
		return p
	}
	for name, tc := range map[string]struct {
		img  []byte
		note string
	}{
		"whole":           {img, ""},
		"first magic":     {with(func(p []byte) { p[0] ^= 1 }), "second one is used"},
		"first checksum":  {with(func(p []byte) { p[5000] ^= 1 }), "checksum is wrong: input/output error): the second one is used"},
		"first all zero":  {with(func(p []byte) { clear(p[:16384]) }), "second one is used"},
		"first size":      {with(func(p []byte) { p[8] = 0xff }), "second one is used"},
		"second checksum": {with(func(p []byte) { p[16384+5000] ^= 1 }), "second LUKS2 header is damaged"},
		"second gone":     {with(func(p []byte) { clear(p[16384:32768]) }), "second LUKS2 header is damaged"},
		"second newer":    {with(func(p []byte) { reseal(p[16384:32768], 99) }), "second LUKS2 header is newer (99, not 3) and used"},
		"second older":    {with(func(p []byte) { reseal(p[16384:32768], 1) }), "older"},
	} {
		h, v, err := open(tc.img, pass, AnySlot)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v.Wipe()
		if notes := strings.Join(h.Notes, "; "); !strings.Contains(notes, tc.note) || tc.note == "" && notes != "" {
			t.Errorf("%s: notes %q", name, notes)
		}
	}
	try := func(p []byte) error { _, _, err := open(p, pass, AnySlot); return err }
	refused(t, "both", try(with(func(p []byte) { p[5000] ^= 1; p[21384] ^= 1 })), abi.EIO, "both LUKS2 headers are damaged")
	refused(t, "nothing", try(make([]byte, 1<<20)), abi.EFTYPE, "no LUKS header")
	refused(t, "empty", try(nil), abi.EFTYPE, "no LUKS header")
	refused(t, "cut in data", try(img[:16<<20]), abi.EIO, "cut off")
	for _, n := range []int{600, 4096, 16384, 20000, 32768, 40000, 1 << 20} {
		if err := try(img[:n]); !errors.Is(err, abi.EIO) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	_, err := Read(failing{}, 1<<20)
	refused(t, "I/O error", err, abi.ENXIO, "LUKS header")

	one := load(t, format(t, 4<<20, append(cheap("pbkdf2"), "--type", "luks1")...))
	for _, n := range []int{100, 592, 3000, 100000, 1 << 20, 2 << 20} {
		if err := try(one[:n]); !errors.Is(err, abi.EIO) && !errors.Is(err, abi.EFTYPE) {
			t.Errorf("LUKS1 cut at %d: %v", n, err)
		}
	}
	for what, f := range map[string]func(p []byte){
		"key size": func(p []byte) { binary.BigEndian.PutUint32(p[108:], 1<<30) },
		"stripes":  func(p []byte) { binary.BigEndian.PutUint32(p[208+44:], 1<<31) },
		"offset":   func(p []byte) { binary.BigEndian.PutUint32(p[208+40:], 1<<31) },
		"payload":  func(p []byte) { binary.BigEndian.PutUint32(p[104:], 1<<31) },
	} {
		p := append([]byte(nil), one...)
		f(p)
		refused(t, "LUKS1 "+what, try(p), abi.EIO, "")
	}
	p := append([]byte(nil), one...)
	copy(p[8:], "serpent\x00")
	refused(t, "LUKS1 cipher", try(p), abi.EINVAL, `"serpent-xts-plain64" is not supported`)
	p = append([]byte(nil), one...)
	copy(p[72:], "whirlpool\x00")
	refused(t, "LUKS1 hash", try(p), abi.EINVAL, `"whirlpool" is not supported`)
	binary.BigEndian.PutUint32(one[208+4:], 1<<31)
	refused(t, "LUKS1 iterations", try(one), abi.EINVAL, "more than is allowed")
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, abi.ENXIO }

// reseal gives a copy of a header another sequence number and a right checksum.
func reseal(p []byte, seqid uint64) {
	binary.BigEndian.PutUint64(p[16:], seqid)
	clear(p[csumOff : csumOff+csumLen])
	sum := sha256.Sum256(p)
	copy(p[csumOff:], sum[:])
}

// header makes both copies of a header of 16 KiB around a JSON text.
func header(json string) []byte {
	p := make([]byte, 32<<10)
	for i, magic := range []string{magic1st, magic2nd} {
		q := p[i*16384:][:16384]
		copy(q, magic)
		q[7] = 2
		binary.BigEndian.PutUint64(q[8:], 16384)
		copy(q[72:], "sha256")
		binary.BigEndian.PutUint64(q[256:], uint64(i*16384))
		copy(q[binSize:len(q)-1], json)
		reseal(q, 1)
	}
	return p
}

// good is a JSON area as cryptsetup writes it, with small costs.
const good = `{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4,"hash":"sha256"},` +
	`"area":{"type":"raw","offset":"32768","size":"4096","encryption":"aes-xts-plain64","key_size":64},` +
	`"kdf":{"type":"argon2id","time":4,"memory":32,"cpus":2,"salt":"P7i4aPhRBRCbxYcf9PKBKnR9MFUS2H5ZuxexfQHOqoE="}}},` +
	`"tokens":{},"segments":{"0":{"type":"crypt","offset":"65536","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},` +
	`"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,` +
	`"salt":"yYiS+fExuaJpfjRphq0vkjO/rU2g5eLQLB3J2y2/TzQ=","digest":"eOiK/a4j+rpJEGXwfp+yJqtyknJo+CNDZMZXAYuyxjY="}},` +
	`"config":{"json_size":"12288","keyslots_size":"32768"}}`

func TestJSON(t *testing.T) {
	run := func(json string) error {
		p := append(header(json), make([]byte, 64<<10)...)
		r := bytes.NewReader(p)
		h, err := Read(r, int64(len(p)))
		if err != nil {
			return err
		}
		_, err = h.Unlock(context.Background(), r, []byte(pass), AnySlot)
		return err
	}
	refused(t, "good", run(good), abi.EACCES, "no key slot opened")
	for _, tc := range []struct {
		old, new string
		errno    abi.Errno
		text     string
	}{
		{`"stripes":4`, `"stripes":1000000000`, abi.EIO, "stripes"},
		{`"stripes":4`, `"stripes":0`, abi.EIO, "stripes"},
		{`"stripes":4`, `"stripes":-1`, abi.EIO, "stripes"},
		{`"stripes":4`, `"stripes":4000`, abi.EIO, "key material"},
		{`"key_size":64,"af"`, `"key_size":1000000,"af"`, abi.EIO, "keys of"},
		{`"key_size":64}`, `"key_size":-64}`, abi.EIO, "keys of"},
		{`"key_size":64}`, `"key_size":24}`, abi.EINVAL, "24 bytes"},
		{`"offset":"32768"`, `"offset":"0"`, abi.EIO, "area"},
		{`"offset":"32768"`, `"offset":"9223372036854775807"`, abi.EIO, "area"},
		{`"offset":"32768"`, `"offset":"65000"`, abi.EIO, "area"},
		{`"offset":"32768"`, `"offset":32768`, abi.EIO, "number in a string"},
		{`"offset":"32768"`, `"offset":"-1"`, abi.EIO, ""},
		{`"size":"4096"`, `"size":"9223372036854775807"`, abi.EIO, "area"},
		{`"size":"4096"`, `"size":"16"`, abi.EIO, "key material"},
		{`"memory":32`, `"memory":4294967295`, abi.EINVAL, "more than is allowed"},
		{`"memory":32`, `"memory":18446744073709551616`, abi.EIO, ""},
		{`"memory":32`, `"memory":0`, abi.EIO, "argon2id"},
		{`"time":4`, `"time":4294967295`, abi.EINVAL, "more than is allowed"},
		{`"time":4`, `"time":0`, abi.EIO, "argon2id"},
		{`"cpus":2`, `"cpus":0`, abi.EIO, "argon2id"},
		{`"cpus":2`, `"cpus":5000`, abi.EIO, "argon2id"},
		{`"type":"argon2id"`, `"type":"scrypt"`, abi.EINVAL, `"scrypt" is not supported`},
		{`"type":"luks2"`, `"type":"reencrypt"`, abi.EINVAL, `"reencrypt" is not supported`},
		{`"type":"raw"`, `"type":"datashift"`, abi.EINVAL, `"datashift" is not supported`},
		{`"type":"luks1"`, `"type":"luks9"`, abi.EINVAL, `"luks9" is not supported`},
		{`"hash":"sha256"},"area"`, `"hash":"md5"},"area"`, abi.EINVAL, `"md5" is not supported`},
		{`"encryption":"aes-xts-plain64","key_size"`, `"encryption":"serpent-xts-plain64","key_size"`, abi.EINVAL, "serpent"},
		{`"salt":"P7i4aPhRBRCb`, `"salt":"!!!`, abi.EIO, "base64"},
		{`"salt":"P7i4aPhRBRCbxYcf9PKBKnR9MFUS2H5ZuxexfQHOqoE="`, `"salt":""`, abi.EIO, "salt"},
		{`"iterations":1000`, `"iterations":0`, abi.EIO, "pbkdf2"},
		{`"iterations":1000`, `"iterations":1000000000000`, abi.EINVAL, "more than is allowed"},
		{`"digest":"eOiK/a4j+rpJEGXwfp+yJqtyknJo+CNDZMZXAYuyxjY="`, `"digest":""`, abi.EIO, "digest"},
		{`"digests":{"0":{"type":"pbkdf2"`, `"digests":{"0":{"type":"x"`, abi.EINVAL, `"x" is not supported`},
		{`"keyslots":["0"]`, `"keyslots":["zero"]`, abi.EIO, "keyslot"},
		{`"keyslots":["0"]`, `"keyslots":["1"]`, abi.ENOENT, "no key slot"},
		{`{"keyslots":{"0"`, `{"keyslots":{"00"`, abi.EIO, "number"},
		{`{"keyslots":{"0"`, `{"keyslots":{"999"`, abi.EIO, "number"},
		{`"sector_size":4096`, `"sector_size":8192`, abi.EINVAL, "sectors of 8192"},
		{`"sector_size":4096`, `"sector_size":0`, abi.EINVAL, "sectors of 0"},
		{`"sector_size":4096`, `"sector_size":513`, abi.EINVAL, "sectors of 513"},
		{`"offset":"65536"`, `"offset":"1"`, abi.EIO, "data at 1"},
		{`"offset":"65536"`, `"offset":"0"`, abi.EINVAL, "detached"},
		{`"offset":"65536"`, `"offset":"65540"`, abi.EIO, "data at"},
		{`"offset":"65536"`, `"offset":"9223372036854775807"`, abi.EIO, "data at"},
		{`"offset":"65536"`, `"offset":"40960"`, abi.EIO, "key material reaches"},
		{`"size":"dynamic"`, `"size":"9223372036854771712"`, abi.EIO, "cut off"},
		{`"size":"dynamic"`, `"size":"-4096"`, abi.EIO, "size"},
		{`"size":"dynamic"`, `"size":"1000"`, abi.EIO, "whole sectors"},
		{`"iv_tweak":"0"`, `"iv_tweak":"x"`, abi.EIO, ""},
		{`"type":"crypt"`, `"type":"linear"`, abi.EINVAL, `"linear" is not supported`},
		{`"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"hmac(sha256)"}`, abi.EINVAL, "integrity"},
		{`"sector_size":4096`, `"sector_size":4096,"flags":["in-reencryption"]`, abi.EINVAL, "in-reencryption"},
		{`"segments":{"0":`, `"segments":{"1":{"type":"crypt","offset":"65536","size":"dynamic","iv_tweak":"0","encryption":"x","sector_size":512},"0":`, abi.EINVAL, "several segments"},
		{`"json_size":"12288"`, `"json_size":"4096"`, abi.EIO, "config"},
		{`"keyslots_size":"32768"`, `"keyslots_size":"9223372036854775807"`, abi.EIO, "key material reaches"},
		{`"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`, abi.EINVAL, `"online-reencrypt-v2"`},
		{`{"keyslots"`, `["keyslots"`, abi.EIO, "JSON"},
		{good, ``, abi.EIO, "JSON"},
		{good, `{}`, abi.EIO, ""},
		{good, strings.Repeat("[", 12000), abi.EIO, "JSON"},
	} {
		json := strings.Replace(good, tc.old, tc.new, 1)
		if json == good {
			t.Errorf("%q is not there", tc.old)
		}
		refused(t, tc.new, run(json), tc.errno, tc.text)
	}
	// A backup segment of an older reencryption is no second one.
	refused(t, "backup", run(strings.Replace(good, `"segments":{`, `"segments":{"9":{"type":"linear","offset":"0","size":"dynamic","flags":["backup-final"]},`, 1)),
		abi.EACCES, "no key slot opened")
}

// FuzzHeader reads any bytes, and any JSON in a header with right checksums.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(good), true, uint32(128<<10))
	f.Add([]byte(strings.Replace(good, "argon2id", "argon2i", 1)), true, uint32(128<<10))
	f.Add([]byte(strings.Replace(good, `"type":"argon2id"`, `"type":"pbkdf2","hash":"sha1","iterations":3`, 1)), true, uint32(1<<20))
	f.Add(header(good), false, uint32(128<<10))
	one := make([]byte, 4096)
	copy(one, magic1st+"\x00\x01aes")
	copy(one[40:], "xts-plain64")
	copy(one[72:], "sha256")
	binary.BigEndian.PutUint32(one[104:], 16)
	binary.BigEndian.PutUint32(one[108:], 32)
	binary.BigEndian.PutUint32(one[164:], 10)
	copy(one[208:], "\x00\xac\x71\xf3\x00\x00\x00\x0a")
	binary.BigEndian.PutUint32(one[208+40:], 2)
	binary.BigEndian.PutUint32(one[208+44:], 8)
	f.Add(one, false, uint32(32<<10))
	f.Fuzz(func(t *testing.T, p []byte, json bool, size uint32) {
		if json {
			p = header(string(p))
		}
		size %= 2 << 20
		dev := io.NewSectionReader(zeroes{p}, 0, int64(size))
		h, err := Read(dev, int64(size))
		if err != nil {
			var e abi.Errno
			if !errors.As(err, &e) {
				t.Errorf("no errno in %v", err)
			}
			return
		}
		if h.seg.off <= 0 || h.seg.size <= 0 || h.seg.off+h.seg.size > int64(size) || h.seg.size%int64(h.seg.sectorSize) != 0 {
			t.Errorf("segment %+v in %d bytes", h.seg, size)
		}
		h.Limits = Limits{Memory: 256, Work: 1024, Iterations: 100}
		if len(h.Slots) > 4 {
			h.Slots = h.Slots[:4]
		}
		if v, err := h.Unlock(context.Background(), dev, []byte("x"), AnySlot); err == nil {
			if _, err := v.NewCipher(); err != nil {
				t.Errorf("unlocked, but %v", err)
			}
		}
	})
}

// zeroes is p, and zeroes behind it.
type zeroes struct{ p []byte }

func (z zeroes) ReadAt(q []byte, off int64) (int, error) {
	clear(q)
	if off < int64(len(z.p)) {
		copy(q, z.p[off:])
	}
	return len(q), nil
}
