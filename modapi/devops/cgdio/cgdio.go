// Package cgdio is the language of encrypted disks (cgd(4)): what attaches a
// unit (the argument of devops.Configurer), what a unit says of itself, and the
// parameters files of cgdconfig(8).
//
// The usual sequence of who attaches a disk:
//
//	p, err := cgdio.ParseParams(text)          // what must be asked for?
//	secrets: for each of p.Secrets(), a passphrase or random bytes
//	r := cgdio.Request{Kind: cgdio.CGD, Unit: cgdio.AnyUnit, Params: text, Secrets: secrets}
//	arg, err := r.Encode()
//	attach driver "cgd" on the block device with arg
//	clear(arg); r.Wipe()
//
// For LUKS there is no parameters file, and one secret: a passphrase or the
// contents of a key file. The driver derives the key itself, checks it, and
// attaches nothing if it is wrong: EACCES.
//
// A Request holds secrets, and a parameters file may (storedkey): neither has a
// String that shows them, and whoever made one wipes it after use. The kernel
// keeps arg as long as the unit is attached, for a new process of the driver.
package cgdio

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// MaxSize bounds an encoded Request, InfoSize is the length of an encoded Info;
// bytes.
const (
	MaxSize  = devops.MaxConfigure
	InfoSize = 512
)

// Get is the ioctl by which a unit tells its Info: CGDIOCGET of sys/dev/cgdvar.h
// by number, with an answer of our own. Programs attach and detach through
// devops.Configurer.
var Get = abi.IOR('D', 20, InfoSize)

// Kind is how the disk is laid out.
type Kind uint32

// The kinds.
const (
	CGD  Kind = 1 // from its first sector on, key from a parameters file
	LUKS Kind = 2 // behind a LUKS1 or LUKS2 header
)

func (k Kind) String() string {
	switch k {
	case CGD:
		return "cgd"
	case LUKS:
		return "LUKS"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Flags of Request and Info.
type Flags uint32

// The flags.
const (
	ReadOnly Flags = 1 << iota // never write
	Discard                    // let discards through: they tell which sectors are in use
)

// AnySlot in Request.Slot lets all key slots be tried, AnyUnit in Request.Unit
// takes the first free unit. Units are less than MaxUnits.
const (
	AnySlot  = -1
	AnyUnit  = -1
	MaxUnits = 64
)

// MaxSecrets is how many secrets a Request can have.
const MaxSecrets = 8

// Request attaches a disk.
type Request struct {
	Kind    Kind
	Unit    int32 // 3 for cgd3, or AnyUnit
	Flags   Flags
	Slot    int32    // LUKS: the key slot, or AnySlot
	Params  []byte   // CGD: the text of the parameters file
	Secrets [][]byte // CGD: as Params.Secrets wants them; LUKS: one
}

// String names what is asked for, and no secret.
func (r Request) String() string {
	return fmt.Sprintf("attach %v, unit %d, slot %d, flags %#x, %d bytes of parameters, %d secrets", r.Kind, r.Unit, r.Slot, uint32(r.Flags), len(r.Params), len(r.Secrets))
}

// Format is String for every verb.
func (r Request) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// Wipe clears the secrets and the parameters.
func (r *Request) Wipe() {
	clear(r.Params)
	for _, s := range r.Secrets {
		clear(s)
	}
	r.Params, r.Secrets = nil, nil
}

const (
	reqMagic = "cgd\x01" // a name and a version
	reqHead  = 28
)

// Encode is the argument that attaches. E2BIG: it does not fit.
func (r *Request) Encode() ([]byte, error) {
	n := reqHead + len(r.Params)
	for _, s := range r.Secrets {
		n += 2 + len(s)
	}
	if n > MaxSize || len(r.Secrets) > MaxSecrets {
		return nil, fmt.Errorf("parameters and secrets of %d bytes do not fit in %d: %w", n, MaxSize, abi.E2BIG)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, n) // never grows: no copy of a secret is left behind
	b = append(b, reqMagic...)
	b = le.AppendUint32(b, uint32(r.Kind))
	b = le.AppendUint32(b, uint32(r.Unit))
	b = le.AppendUint32(b, uint32(r.Flags))
	b = le.AppendUint32(b, uint32(r.Slot))
	b = le.AppendUint32(b, uint32(len(r.Params)))
	b = le.AppendUint32(b, uint32(len(r.Secrets)))
	b = append(b, r.Params...)
	for _, s := range r.Secrets {
		b = le.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b, nil
}

// Parse decodes what Encode made. Parameters and secrets lie in b: Wipe clears
// them there. EINVAL.
func (r *Request) Parse(b []byte) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("attach cgd: %s: %w", fmt.Sprintf(format, a...), abi.EINVAL)
	}
	if len(b) < reqHead || len(b) > MaxSize || string(b[:4]) != reqMagic {
		return bad("not a request")
	}
	le := binary.LittleEndian
	*r = Request{Kind: Kind(le.Uint32(b[4:])), Unit: int32(le.Uint32(b[8:])), Flags: Flags(le.Uint32(b[12:])), Slot: int32(le.Uint32(b[16:]))}
	params, secrets := le.Uint32(b[20:]), le.Uint32(b[24:])
	b = b[reqHead:]
	switch {
	case r.Kind != CGD && r.Kind != LUKS:
		return bad("%v", r.Kind)
	case r.Unit < AnyUnit || r.Unit >= MaxUnits:
		return bad("unit %d", r.Unit)
	case r.Flags&^(ReadOnly|Discard) != 0:
		return bad("flags %#x", uint32(r.Flags))
	case r.Slot < AnySlot || r.Slot > 31:
		return bad("key slot %d", r.Slot)
	case int64(params) > int64(len(b)) || secrets > MaxSecrets:
		return bad("%d bytes of parameters, %d secrets", params, secrets)
	}
	r.Params, b = b[:params:params], b[params:]
	for range secrets {
		if len(b) < 2 || int(le.Uint16(b)) > len(b)-2 {
			return bad("a secret is cut off")
		}
		n := int(le.Uint16(b))
		r.Secrets, b = append(r.Secrets, b[2:2+n:2+n]), b[2+n:]
	}
	if len(b) != 0 {
		return bad("%d bytes too many", len(b))
	}
	return nil
}

// Info is what an attached unit is (the answer of Get).
type Info struct {
	Kind    Kind
	Dev     abi.Dev // the block device underneath
	Flags   Flags
	Slot    int32  // LUKS: the key slot that was opened
	KeyBits uint32 // length of the key
	Sector  uint32 // what is encrypted at a time, bytes
	Offset  int64  // of the data on the device, bytes
	Size    int64  // of the data, bytes
	Cipher  string // "aes-xts", "aes-xts-plain64"; at most 63 bytes
	Impl    string // how it is computed: "vaes512"; at most 15 bytes
	UUID    string // of the LUKS header; at most 63 bytes
	Label   string // of the LUKS header; at most 63 bytes
	Note    string // what is wrong with the disk, if it could be attached all the same; at most 191 bytes
}

// infoTexts are where the texts of an Info begin, and where the last one ends.
var infoTexts = [...]int{64, 128, 144, 208, 272, 464}

func (i *Info) texts() [5]*string { return [5]*string{&i.Cipher, &i.Impl, &i.UUID, &i.Label, &i.Note} }

// Encode is the answer of Get. Texts that are too long are cut.
func (i *Info) Encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, InfoSize)
	le.PutUint32(b, uint32(i.Kind))
	le.PutUint32(b[4:], uint32(i.Flags))
	le.PutUint64(b[8:], uint64(i.Dev))
	le.PutUint32(b[16:], uint32(i.Slot))
	le.PutUint32(b[20:], i.KeyBits)
	le.PutUint32(b[24:], i.Sector)
	le.PutUint64(b[32:], uint64(i.Offset))
	le.PutUint64(b[40:], uint64(i.Size))
	for k, s := range i.texts() {
		copy(b[infoTexts[k]:infoTexts[k+1]-1], *s)
	}
	return b
}

// Parse decodes the answer of Get. EINVAL.
func (i *Info) Parse(b []byte) error {
	if len(b) != InfoSize {
		return fmt.Errorf("cgd: an answer of %d bytes: %w", len(b), abi.EINVAL)
	}
	le := binary.LittleEndian
	*i = Info{
		Kind: Kind(le.Uint32(b)), Flags: Flags(le.Uint32(b[4:])), Dev: abi.Dev(le.Uint64(b[8:])), Slot: int32(le.Uint32(b[16:])),
		KeyBits: le.Uint32(b[20:]), Sector: le.Uint32(b[24:]), Offset: int64(le.Uint64(b[32:])), Size: int64(le.Uint64(b[40:])),
	}
	for k, s := range i.texts() {
		*s = printable(b[infoTexts[k] : infoTexts[k+1]-1])
	}
	return nil
}

// printable is a text up to its first NUL; what does not print is replaced.
func printable(p []byte) string {
	var r []byte
	for _, c := range p {
		if c == 0 {
			break
		}
		if c < ' ' || c > '~' {
			c = '?'
		}
		r = append(r, c)
	}
	return string(r)
}
