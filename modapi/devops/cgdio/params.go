package cgdio

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Params is a parameters file of cgdconfig(8). What this system does not have
// is refused by name when the file is read.
type Params struct {
	Algorithm string   // aes-xts, aes-cbc
	KeyBits   int      // aes-xts: 256, 512; aes-cbc: 128, 192, 256
	IVMethod  string   // encblkno1
	Verify    string   // none, disklabel, mbr, gpt, ffs, re-enter
	Keygens   []Keygen // their keys are combined by exclusive or
}

// Keygen is a way to make a key.
type Keygen struct {
	Method      string // pkcs5_pbkdf2/sha1, argon2id, storedkey, randomkey, urandomkey
	Salt        []byte
	Iterations  uint32 // passes of argon2id
	Memory      uint32 // argon2id: KiB
	Parallelism uint32 // argon2id: threads
	Key         []byte // storedkey
}

// String names the algorithm and the methods, and no key.
func (p Params) String() string {
	s := fmt.Sprintf("%s(%d bits, %s), verify %s", p.Algorithm, p.KeyBits, p.IVMethod, p.Verify)
	for _, k := range p.Keygens {
		s += ", " + k.Method
	}
	return s
}

// Format is String for every verb.
func (p Params) Format(f fmt.State, _ rune) { io.WriteString(f, p.String()) }

// Format shows the method and no key, for every verb.
func (k Keygen) Format(f fmt.State, _ rune) { io.WriteString(f, k.Method) }

// Wipe clears stored keys.
func (p *Params) Wipe() {
	for i := range p.Keygens {
		clear(p.Keygens[i].Key)
	}
}

// Secret is something that the driver must be given.
type Secret struct {
	Keygen int // index in Params.Keygens
	// Random is how many random bytes to give; 0: a passphrase. They are made
	// by who attaches, since a driver that is started again needs them again.
	Random int
}

// Secrets are what belongs into Request.Secrets, in this order.
func (p *Params) Secrets() []Secret {
	var r []Secret
	for i := range p.Keygens {
		switch p.Keygens[i].Method {
		case "pkcs5_pbkdf2/sha1", "argon2id":
			r = append(r, Secret{Keygen: i})
		case "randomkey", "urandomkey":
			r = append(r, Secret{Keygen: i, Random: p.KeyBits / 8})
		}
	}
	return r
}

// Reenter says whether each passphrase is to be asked for twice, and both must
// be the same: who prompts does that, the driver cannot.
func (p *Params) Reenter() bool { return p.Verify == "re-enter" }

// Bounds of a parameters file.
const (
	maxKeygens    = 8
	maxSalt       = 64 // bytes
	maxIterations = 1 << 24
	maxMemory     = 1 << 20 // KiB
	maxWork       = 16 << 20
	maxThreads    = 64
)

// ParseParams reads a parameters file. EINVAL, with line and reason; texts of
// errors never have a key in them.
func ParseParams(text []byte) (*Params, error) {
	l := &lexer{text: text, line: 1}
	p := &Params{IVMethod: "encblkno1", Verify: "none"}
	keyBits := 0
	for {
		word, err := l.next()
		if err != nil {
			return nil, err
		}
		if word == "" {
			break
		}
		switch word {
		case ";":
			continue
		case "algorithm":
			p.Algorithm, err = l.value()
		case "iv-method":
			p.IVMethod, err = l.value()
		case "keylength":
			keyBits, err = l.number(1, 4096)
		case "verify_method":
			p.Verify, err = l.value()
		case "keygen":
			if len(p.Keygens) == maxKeygens {
				return nil, l.fail("more than %d keygens", maxKeygens)
			}
			var k Keygen
			k, err = l.keygen()
			p.Keygens = append(p.Keygens, k)
		default:
			err = l.fail("%.32q is unknown", word)
		}
		if err != nil {
			p.Wipe()
			return nil, err
		}
	}
	if err := p.check(keyBits); err != nil {
		p.Wipe()
		return nil, err
	}
	return p, nil
}

// check checks what was read, and fills in what was not.
func (p *Params) check(keyBits int) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("cgd parameters: %s: %w", fmt.Sprintf(format, a...), abi.EINVAL)
	}
	p.KeyBits = keyBits
	switch p.Algorithm {
	case "aes-xts":
		if p.KeyBits == 0 {
			p.KeyBits = 256
		}
		if p.KeyBits != 256 && p.KeyBits != 512 {
			return bad("a key of %d bits for aes-xts, not 256 or 512", p.KeyBits)
		}
	case "aes-cbc":
		if p.KeyBits == 0 {
			p.KeyBits = 128
		}
		if p.KeyBits != 128 && p.KeyBits != 192 && p.KeyBits != 256 {
			return bad("a key of %d bits for aes-cbc, not 128, 192 or 256", p.KeyBits)
		}
	case "":
		return bad("no algorithm")
	default:
		return bad("algorithm %.32q is not supported", p.Algorithm)
	}
	if p.IVMethod != "encblkno1" {
		return bad("iv-method %.32q is not supported", p.IVMethod)
	}
	switch p.Verify {
	case "none", "disklabel", "mbr", "gpt", "ffs", "re-enter":
	default:
		return bad("verify_method %.32q is not supported", p.Verify)
	}
	if len(p.Keygens) == 0 {
		return bad("no keygen")
	}
	for i := range p.Keygens {
		k := &p.Keygens[i]
		switch k.Method {
		case "pkcs5_pbkdf2/sha1":
			if k.Iterations == 0 || len(k.Salt) == 0 {
				return bad("keygen %s without iterations or salt", k.Method)
			}
		case "argon2id":
			if k.Iterations == 0 || k.Memory == 0 || k.Parallelism == 0 || len(k.Salt) < 8 {
				return bad("keygen argon2id without iterations, memory, parallelism or a salt of 8 bytes")
			}
			if k.Memory < 8*k.Parallelism || uint64(k.Memory)*uint64(k.Iterations) > maxWork {
				return bad("keygen argon2id with %d passes over %d KiB in %d threads", k.Iterations, k.Memory, k.Parallelism)
			}
		case "storedkey":
			if len(k.Key)*8 != p.KeyBits {
				return bad("a stored key of %d bits, and keylength is %d", len(k.Key)*8, p.KeyBits)
			}
		case "randomkey", "urandomkey":
		default:
			return bad("keygen %.32q is not supported", k.Method)
		}
	}
	return nil
}

// lexer cuts a parameters file into words, strings in quotation marks, and the
// signs ; { and }. A # begins a comment.
type lexer struct {
	text []byte
	pos  int
	line int
}

func (l *lexer) fail(format string, a ...any) error {
	return fmt.Errorf("cgd parameters, line %d: %s: %w", l.line, fmt.Sprintf(format, a...), abi.EINVAL)
}

// next is the next word, "" at the end.
func (l *lexer) next() (string, error) {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case c == '#':
			for l.pos < len(l.text) && l.text[l.pos] != '\n' {
				l.pos++
			}
		case c == ';' || c == '{' || c == '}':
			l.pos++
			return string(c), nil
		case c == '"':
			start := l.pos + 1
			for l.pos++; l.pos < len(l.text); l.pos++ {
				switch l.text[l.pos] {
				case '"':
					l.pos++
					if s := string(l.text[start : l.pos-1]); s != "" {
						return s, nil
					}
					return "", l.fail("an empty string")
				case '\n':
					return "", l.fail("a string does not end")
				}
			}
			return "", l.fail("a string does not end")
		case c < ' ' || c > '~':
			return "", l.fail("the character %#x", c)
		default:
			start := l.pos
			for l.pos < len(l.text) && l.text[l.pos] > ' ' && l.text[l.pos] <= '~' && l.text[l.pos] != ';' && l.text[l.pos] != '{' && l.text[l.pos] != '}' {
				l.pos++
			}
			return string(l.text[start:l.pos]), nil
		}
	}
	return "", nil
}

// sign wants one of the signs.
func (l *lexer) sign(want string) error {
	w, err := l.next()
	if err == nil && w != want {
		err = l.fail("no %q where one belongs", want)
	}
	return err
}

// value is a word with a semicolon behind it.
func (l *lexer) value() (string, error) {
	w, err := l.next()
	switch {
	case err != nil:
		return "", err
	case w == "" || w == ";" || w == "{" || w == "}":
		return "", l.fail("a value is missing")
	}
	return w, l.sign(";")
}

func (l *lexer) number(low, high int) (int, error) {
	w, err := l.value()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(w)
	if err != nil || n < low || n > high {
		return 0, l.fail("%.32q is no number from %d to %d", w, low, high)
	}
	return n, nil
}

// bits is a string of bits as cgdconfig writes it: base64 of how many there are,
// 32 bits big-endian, and themselves.
func (l *lexer) bits(most int) ([]byte, error) {
	w, err := l.value()
	if err != nil {
		return nil, err
	}
	p, err := base64.StdEncoding.DecodeString(w)
	if err != nil || len(p) < 5 || uint64(binary.BigEndian.Uint32(p)) != uint64(len(p)-4)*8 || len(p)-4 > most {
		clear(p)
		return nil, l.fail("not the bits of a key or salt, at most %d bytes", most)
	}
	return p[4:], nil
}

// keygen reads what follows the word keygen: a method, and nothing, one
// setting, or several in braces.
func (l *lexer) keygen() (k Keygen, err error) {
	if k.Method, err = l.next(); err != nil {
		return k, err
	}
	word, err := l.next()
	if err != nil || word == ";" {
		return k, err
	}
	if word != "{" {
		return k, l.setting(&k, word)
	}
	for {
		word, err := l.next()
		if err != nil {
			return k, err
		}
		switch word {
		case "}":
			return k, l.sign(";")
		case ";":
		case "":
			return k, l.fail("a keygen does not end")
		default:
			if err := l.setting(&k, word); err != nil {
				return k, err
			}
		}
	}
}

// setting reads the value of one setting of a keygen.
func (l *lexer) setting(k *Keygen, name string) (err error) {
	n := 0
	switch name {
	case "iterations":
		n, err = l.number(1, maxIterations)
		k.Iterations = uint32(n)
	case "memory":
		n, err = l.number(8, maxMemory)
		k.Memory = uint32(n)
	case "parallelism":
		n, err = l.number(1, maxThreads)
		k.Parallelism = uint32(n)
	case "version":
		if n, err = l.number(0, 255); err == nil && n != 19 {
			err = l.fail("version %d of argon2 is not supported", n)
		}
	case "salt":
		k.Salt, err = l.bits(maxSalt)
	case "key":
		k.Key, err = l.bits(64)
	default:
		err = l.fail("%.32q in a keygen is not supported", name)
	}
	return err
}
