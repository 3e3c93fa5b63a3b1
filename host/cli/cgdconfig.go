package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
)

var cgdconfigVerb = &verb{
	name: "cgdconfig", group: groupDevices, max: 4,
	synopsis: []string{
		"[-pv] [-V METHOD] [--ro] CGD DISK [PARAMSFILE]", "--luks [-pv] [--slot N] [--ro] [--discard] CGD DISK", "-s [-i METHOD] CGD DISK ALGORITHM [KEYLENGTH]",
		"-g [-i METHOD] [-k METHOD] [-o FILE] [-V METHOD] ALGORITHM [KEYLENGTH]", "-u [--force] CGD", "-l [-v] [CGD]",
	},
	short: "attach, detach and list encrypted disks, write their parameters files",
	long: []string{
		"Attaches DISK, a block device of the kernel, as the encrypted disk CGD: cgd0, cgd1, ..., or cgd for the first that is free. How the key is made stands in PARAMSFILE, a file of the host as cgdconfig(8) of NetBSD has it; the default is /etc/cgd/ and the name of DISK. With --luks there is none: DISK is a LUKS1 or LUKS2 volume as cryptsetup makes them. The key is checked, by the volume's header or the verify_method of the parameters (-V takes another), and if it is wrong nothing is attached (EACCES).",
		"Passphrases are asked for at the terminal, which does not show them. With -p they are the lines of standard input, with --key-file those of a file, with --key-fd those of an open descriptor; for a LUKS volume all of the file, or of what the descriptor gives, is one key. They are never operands, and never in the configuration or in a log. The kernel keeps them as long as the disk is attached, for a component that must be started again.",
		"-s takes the key itself from standard input, KEYLENGTH/8 bytes. -g writes a parameters file with a new salt. -u detaches. -l lists what is attached.",
		"Algorithms are aes-xts (256, 512 bits) and aes-cbc (128, 192, 256). Methods: -i encblkno1; -k argon2id, pkcs5_pbkdf2/sha1, storedkey, randomkey, urandomkey; -V none, disklabel, mbr, gpt, ffs, re-enter.",
	},
	examples: []example{
		{"rumpus cgdconfig -g -V gpt -o disk0.cgd aes-xts 512", "The parameters of a new disk."},
		{"rumpus cgdconfig -V re-enter cgd0 disk0 disk0.cgd", "Attach it for the first time, before there is anything on it."},
		{"rumpus cgdconfig --luks --key-file secret cgd disk1", "A LUKS volume, by a key file."},
		{"rumpus cgdconfig -u cgd0", "And away."},
	},
	exit: []string{"1 also if the key is wrong (EACCES)."},
	setup: func(fs *pflag.FlagSet) runFunc {
		var f cgdFlags
		fs.BoolVarP(&f.generate, "generate", "g", false, "write a parameters file")
		fs.BoolVarP(&f.stored, "stored", "s", false, "take the key from standard input")
		fs.BoolVarP(&f.detach, "unconfigure", "u", false, "detach")
		fs.BoolVarP(&f.list, "list", "l", false, "list what is attached")
		fs.BoolVar(&f.luks, "luks", false, "the disk is a LUKS volume")
		fs.StringVarP(&f.verify, "verify", "V", "", "how to see whether the key is right: `METHOD`")
		fs.StringVarP(&f.iv, "iv-method", "i", "encblkno1", "the `METHOD` of initialisation vectors")
		fs.StringVarP(&f.keygen, "keygen", "k", "argon2id", "-g: the `METHOD` that makes the key")
		fs.StringVarP(&f.out, "output", "o", "", "-g: write into `FILE` of the host, which must be new")
		fs.BoolVarP(&f.stdin, "stdin", "p", false, "passphrases are lines of standard input")
		fs.StringVar(&f.file, "key-file", "", "passphrases are in `FILE` of the host")
		fs.IntVar(&f.fd, "key-fd", -1, "passphrases are what descriptor `N` gives")
		fs.IntVar(&f.slot, "slot", cgdio.AnySlot, "--luks: only key slot `N`")
		fs.BoolVar(&f.ro, "ro", false, "nobody can write")
		fs.BoolVar(&f.discard, "discard", false, "let discards through, which tells what is in use")
		fs.BoolVar(&f.force, "force", false, "-u: even if it is open")
		fs.BoolVarP(&f.verbose, "verbose", "v", false, "say what is done; -l: all that is known")
		return f.run
	},
}

type cgdFlags struct {
	generate, stored, detach, list, luks, stdin, ro, discard, force, verbose bool

	verify, iv, keygen, out, file string
	fd, slot                      int
}

func (f *cgdFlags) run(ctx context.Context, c *call, args []string) error {
	modes := 0
	for _, on := range []bool{f.generate, f.stored, f.detach, f.list, f.luks} {
		if on {
			modes++
		}
	}
	if modes > 1 {
		return usagef("only one of -g, -s, -u, -l and --luks")
	}
	wants := func(least, most int) error {
		if len(args) < least || len(args) > most {
			return usagef("%d operands are not right here", len(args))
		}
		return nil
	}
	switch {
	case f.generate:
		if err := wants(1, 2); err != nil {
			return err
		}
		return f.writeParams(c, args)
	case f.list:
		if err := wants(0, 1); err != nil {
			return err
		}
		return f.show(ctx, c, args)
	case f.detach:
		if err := wants(1, 1); err != nil {
			return err
		}
		k, err := c.kernel(ctx)
		if err != nil {
			return err
		}
		return plainly(k.DetachDisk(ctx, devNode(args[0]), f.force))
	case f.luks:
		if err := wants(2, 2); err != nil {
			return err
		}
	case f.stored:
		if err := wants(3, 4); err != nil {
			return err
		}
	default:
		if err := wants(2, 3); err != nil {
			return err
		}
	}
	return f.attach(ctx, c, args)
}

// attach derives nothing itself: it collects what the driver needs.
func (f *cgdFlags) attach(ctx context.Context, c *call, args []string) error {
	r := cgdio.Request{Kind: cgdio.CGD, Unit: cgdio.AnyUnit, Slot: cgdio.AnySlot}
	defer r.Wipe()
	unit, disk := devNode(args[0]), devNode(args[1])
	if unit != "cgd" {
		n, err := strconv.ParseUint(strings.TrimPrefix(unit, "cgd"), 10, 16)
		if err != nil || n >= cgdio.MaxUnits || unit != fmt.Sprint("cgd", n) {
			return usagef("%q is not cgd, or cgd0 to cgd%d", args[0], cgdio.MaxUnits-1)
		}
		r.Unit = int32(n)
	}
	if f.ro {
		r.Flags |= cgdio.ReadOnly
	}
	if f.discard {
		r.Flags |= cgdio.Discard
	}
	sec, err := newSecrets(c, f.stdin, f.file, f.fd)
	if err != nil {
		return err
	}
	defer sec.wipe()
	var p *cgdio.Params
	switch {
	case f.luks:
		r.Kind, r.Slot = cgdio.LUKS, int32(f.slot)
		if f.slot < cgdio.AnySlot || f.slot > 31 {
			return usagef("--slot %d is not 0 to 31", f.slot)
		}
	case f.stored:
		r.Params, err = f.storedKey(c, args[2:])
	default:
		name := "/etc/cgd/" + disk
		if len(args) > 2 {
			name = args[2]
		}
		r.Params, err = readParams(name)
		if err == nil && f.verify != "" {
			r.Params = append(r.Params, "\nverify_method "+f.verify+";\n"...)
		}
	}
	if err != nil {
		return err
	}
	if !f.luks {
		if p, err = cgdio.ParseParams(r.Params); err != nil {
			return err
		}
		defer p.Wipe()
	}
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	if _, err := disks(ctx, k, []string{disk}); err != nil {
		return err // before a passphrase is asked for
	}
	for try := 1; ; try++ {
		if err := f.fill(ctx, &r, p, sec, disk); err != nil {
			return err
		}
		names, err := send(ctx, k, disk, &r)
		if err == nil {
			return c.writeNames(names)
		}
		for _, s := range r.Secrets {
			clear(s)
		}
		r.Secrets = nil
		if !sec.prompt || !errors.Is(err, abi.EACCES) || try == 3 || f.stored || p != nil && len(p.Secrets()) == 0 {
			return err
		}
		fmt.Fprintln(c.stderr, "That is not it. Again:")
	}
}

// send attaches, and leaves nothing of the request behind.
func send(ctx context.Context, k *rumpclient.Client, disk string, r *cgdio.Request) ([]string, error) {
	arg, err := r.Encode()
	if err != nil {
		return nil, err
	}
	defer clear(arg)
	return attachDisk(ctx, k, attachment{driver: "cgd", on: disk}, arg)
}

// fill asks for the secrets of a request.
func (f *cgdFlags) fill(ctx context.Context, r *cgdio.Request, p *cgdio.Params, sec *secrets, disk string) error {
	if f.luks {
		s, err := sec.all(ctx, "passphrase of "+printable(disk))
		r.Secrets = [][]byte{s}
		return err
	}
	for _, w := range p.Secrets() {
		var s []byte
		var err error
		if w.Random > 0 {
			s = make([]byte, w.Random)
			_, err = rand.Read(s)
		} else {
			s, err = sec.passphrase(ctx, "passphrase of "+printable(disk), p.Reenter())
		}
		if err != nil {
			return err
		}
		r.Secrets = append(r.Secrets, s)
	}
	return nil
}

// readParams reads a parameters file.
func readParams(name string) ([]byte, error) {
	fl, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer fl.Close()
	b := make([]byte, 0, cgdio.MaxSize+1)
	for len(b) < cap(b) {
		n, err := fl.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
	clear(b)
	return nil, fmt.Errorf("%s: more than %d bytes: %w", name, cgdio.MaxSize, abi.E2BIG)
}

// lengths are the key lengths of an algorithm, its default first.
var lengths = map[string][]int{"aes-xts": {256, 512}, "aes-cbc": {128, 192, 256}}

// algorithm reads ALGORITHM [KEYLENGTH].
func algorithm(args []string) (alg string, bits int, err error) {
	alg = args[0]
	l := lengths[alg]
	if l == nil {
		return "", 0, usagef("algorithm %q is not supported, only aes-xts and aes-cbc", alg)
	}
	if bits = l[0]; len(args) == 1 {
		return alg, bits, nil
	}
	if bits, err = strconv.Atoi(args[1]); err == nil {
		for _, n := range l {
			if n == bits {
				return alg, bits, nil
			}
		}
	}
	return "", 0, usagef("%s has no keys of %s bits", alg, args[1])
}

// bitString is bits as a parameters file has them.
func bitString(p []byte) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(p)), uint32(len(p)*8))
	return base64.StdEncoding.EncodeToString(append(b, p...))
}

// storedKey makes parameters of the key on standard input.
func (f *cgdFlags) storedKey(c *call, args []string) ([]byte, error) {
	alg, bits, err := algorithm(args)
	if err != nil {
		return nil, err
	}
	key := make([]byte, bits/8)
	defer clear(key)
	if _, err := io.ReadFull(c.stdin, key); err != nil {
		return nil, fmt.Errorf("standard input: fewer than the %d bytes of a key of %d bits: %w", len(key), bits, abi.EINVAL)
	}
	verify := f.verify
	if verify == "" {
		verify = "none"
	}
	return fmt.Appendf(nil, "algorithm %s;\niv-method %s;\nkeylength %d;\nverify_method %s;\nkeygen storedkey key %s;\n", alg, f.iv, bits, verify, bitString(key)), nil
}

// writeParams is -g.
func (f *cgdFlags) writeParams(c *call, args []string) error {
	alg, bits, err := algorithm(args)
	if err != nil {
		return err
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return err
	}
	verify := f.verify
	if verify == "" {
		verify = "none"
	}
	text := fmt.Appendf(nil, "algorithm %s;\niv-method %s;\nkeylength %d;\nverify_method %s;\n", alg, f.iv, bits, verify)
	switch f.keygen {
	case "argon2id":
		text = fmt.Appendf(text, "keygen argon2id {\n\titerations 4;\n\tmemory 131072;\n\tparallelism 2;\n\tversion 19;\n\tsalt %s;\n};\n", bitString(salt))
	case "pkcs5_pbkdf2/sha1":
		text = fmt.Appendf(text, "keygen pkcs5_pbkdf2/sha1 {\n\titerations 1000000;\n\tsalt %s;\n};\n", bitString(salt))
	case "storedkey":
		key := make([]byte, bits/8)
		if _, err := rand.Read(key); err != nil {
			return err
		}
		text = fmt.Appendf(text, "keygen storedkey key %s;\n", bitString(key))
		clear(key)
	default:
		text = fmt.Appendf(text, "keygen %s;\n", f.keygen)
	}
	p, err := cgdio.ParseParams(text)
	if err != nil {
		return err
	}
	p.Wipe()
	defer clear(text)
	if f.out == "" {
		_, err = c.out.Write(text)
		return err
	}
	fl, err := os.OpenFile(f.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = fl.Write(text); err == nil {
		err = fl.Sync()
	}
	if cerr := fl.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.out)
	}
	if f.verbose && err == nil {
		c.printf("%s\n", filepath.Clean(f.out))
	}
	return err
}

// show is -l.
func (f *cgdFlags) show(ctx context.Context, c *call, args []string) error {
	k, err := c.kernel(ctx)
	if err != nil {
		return err
	}
	list, err := disks(ctx, k, args)
	if err != nil {
		return err
	}
	type row struct {
		Name    string `json:"name"`
		On      string `json:"on"`
		Kind    string `json:"kind"`
		Cipher  string `json:"cipher"`
		KeyBits uint32 `json:"key_bits"`
		Sector  uint32 `json:"sector"`
		Offset  int64  `json:"offset"`
		Size    int64  `json:"size"`
		RO      bool   `json:"ro"`
		Discard bool   `json:"discard"`
		Slot    int32  `json:"slot"`
		Impl    string `json:"impl"`
		UUID    string `json:"uuid"`
		Label   string `json:"label"`
		Note    string `json:"note"`
	}
	all := []row{}
	for _, d := range list {
		if d.Driver != "cgd" {
			if len(args) > 0 {
				return fmt.Errorf("%s is no encrypted disk: %w", d.Name, abi.ENOTTY)
			}
			continue
		}
		i, err := cgdInfo(ctx, k, d.Name)
		if err != nil {
			c.fail(err)
			continue
		}
		all = append(all, row{d.Name, strings.Join(d.On, ","), i.Kind.String(), i.Cipher, i.KeyBits, i.Sector, i.Offset, i.Size, i.Flags&cgdio.ReadOnly != 0, i.Flags&cgdio.Discard != 0, i.Slot, i.Impl, i.UUID, i.Label, i.Note})
	}
	if c.json {
		return writeJSON(c.out, all)
	}
	rows := [][]string{{"NAME", "ON", "KIND", "CIPHER", "BITS", "SECTOR", "SIZE", "RO"}}
	format := "llllrrrl"
	if f.verbose {
		rows[0], format = append(rows[0], "OFFSET", "SLOT", "COMPUTED", "UUID", "LABEL", "NOTE"), format+"rrllll"
	}
	for _, r := range all {
		l := []string{c.show(r.Name), c.show(r.On), r.Kind, c.show(r.Cipher), fmt.Sprint(r.KeyBits), fmt.Sprint(r.Sector), human(uint64(max(0, r.Size))), yesNo(r.RO)}
		if f.verbose {
			slot := "-"
			if r.Kind == "LUKS" {
				slot = fmt.Sprint(r.Slot)
			}
			l = append(l, fmt.Sprint(r.Offset), slot, dash(c.show(r.Impl)), dash(c.show(r.UUID)), dash(c.show(r.Label)), dash(c.show(r.Note)))
		}
		rows = append(rows, l)
	}
	table(c.out, format, rows)
	return nil
}

// cgdInfo asks a unit what it is.
func cgdInfo(ctx context.Context, k *rumpclient.Client, name string) (i cgdio.Info, err error) {
	fd, err := k.Open(ctx, "/dev/"+name, abi.O_RDONLY|abi.O_CLOEXEC, 0)
	if err != nil {
		return i, err
	}
	defer k.Close(ctx, fd)
	b := make([]byte, cgdio.InfoSize)
	if _, err := k.Ioctl(ctx, fd, cgdio.Get, b); err != nil {
		return i, named(err, name)
	}
	return i, i.Parse(b)
}
