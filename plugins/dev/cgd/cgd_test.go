package cgd

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	xxts "golang.org/x/crypto/xts"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the bindings over stream and ring
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

// memDisk is a disk in memory that encrypted ones stand on.
type memDisk struct {
	g    devops.Geom
	mu   sync.RWMutex
	p    []byte
	fail error             // of every buf; set before use
	hook func(*devops.Buf) // before every buf; set before use
	ops  map[devops.BufFlags]int
}

func newDisk(size int64, sector uint32) *memDisk {
	return &memDisk{
		g:   devops.Geom{Size: size, Sector: sector, Ops: devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
		p:   make([]byte, size),
		ops: map[devops.BufFlags]int{},
	}
}

func (d *memDisk) Geometry(context.Context) (devops.Geom, error) { return d.g, nil }
func (d *memDisk) Close(context.Context) error                   { return nil }

func (d *memDisk) Strategy(ctx context.Context, b *devops.Buf) error {
	if d.hook != nil {
		d.hook(b)
	}
	if d.fail != nil {
		return d.fail
	}
	if ctx.Err() != nil {
		return abi.ErrnoOf(ctx.Err())
	}
	g := d.g
	if err := g.Check(); err != nil {
		return err
	}
	if err := b.Check(&g); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops[b.Op()]++
	switch b.Op() {
	case devops.BRead:
		b.Data.CopyIn(d.p[b.Off():])
	case devops.BWrite:
		b.Data.CopyOut(d.p[b.Off() : b.Off()+b.Bytes])
	case devops.BZeroes, devops.BDiscard:
		clear(d.p[b.Off() : b.Off()+b.Bytes])
	}
	return nil
}

var onDev = abi.Makedev(17, 3)

// bitsOf is a key as a parameters file has it.
func bitsOf(p []byte) string {
	return base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, uint32(len(p)*8)), p...))
}

func testKey(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*31 + 5)
	}
	return p
}

// stored is a parameters file with a stored key.
func stored(alg string, key []byte, verify string) string {
	return fmt.Sprintf("algorithm %s; keylength %d; verify_method %s; keygen storedkey key %s;", alg, len(key)*8, verify, bitsOf(key))
}

func req(params string, secrets ...string) *cgdio.Request {
	r := &cgdio.Request{Kind: cgdio.CGD, Unit: cgdio.AnyUnit, Slot: cgdio.AnySlot, Params: []byte(params)}
	for _, s := range secrets {
		r.Secrets = append(r.Secrets, []byte(s))
	}
	return r
}

// rig is the module in a kernel of tests, over a disk.
type rig struct {
	*testing.T
	k *modtest.Kernel
	m modapi.Module
	d *driver
}

func newRig(t *testing.T, disk devops.BlockIO) *rig {
	t.Helper()
	r := &rig{T: t, k: modtest.NewKernel(t, nil), m: New()}
	if disk != nil {
		r.k.SetDisk(onDev, disk)
	}
	if err := r.k.Init(r.m, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	r.d = r.k.Blks["cgd"].Ops.(*driver)
	t.Cleanup(func() {
		if err := r.m.Fini(context.Background()); err != nil {
			t.Errorf("Fini: %v", err)
		}
	})
	return r
}

func (r *rig) configure(q *cgdio.Request) (devops.Units, error) {
	r.Helper()
	return configure(r.Context(), r.d, q)
}

// configure attaches, as the kernel does it: directly or through an ioctl.
func configure(ctx context.Context, d devops.Blk, q *cgdio.Request) (devops.Units, error) {
	arg, err := q.Encode()
	if err != nil {
		return devops.Units{}, err
	}
	keep := bytes.Clone(arg)
	if c, ok := d.(devops.Configurer); ok {
		u, err := c.Configure(ctx, devops.Units{}, onDev, arg)
		if !bytes.Equal(arg, keep) {
			return u, errors.New("the argument has been changed, which the kernel keeps")
		}
		return u, err
	}
	out, err := d.Ioctl(ctx, 0, devops.DIOCCONFIGURE, devops.AppendConfigure(nil, devops.Units{}, onDev, arg))
	if err != nil {
		return devops.Units{}, err
	}
	return devops.ParseUnits(out)
}

// must attaches, and answers the unit's number.
func (r *rig) must(q *cgdio.Request) uint32 {
	r.Helper()
	u, err := r.configure(q)
	if err != nil || u.Count != 1 {
		r.Fatalf("attach: %+v, %v", u, err)
	}
	return u.First
}

func (r *rig) info(n uint32) (i cgdio.Info) {
	r.Helper()
	b, err := r.d.Ioctl(r.Context(), n, cgdio.Get, nil)
	if err == nil {
		err = i.Parse(b)
	}
	if err != nil {
		r.Fatal(err)
	}
	return i
}

func (r *rig) do(op devops.BufFlags, n uint32, off int64, p []byte) error {
	return r.d.Strategy(r.Context(), &devops.Buf{Dev: abi.Makedev(0, n), Blkno: off / 512, Bytes: int64(len(p)), Flags: op, Data: abi.IovOf(p)})
}

func wants(t *testing.T, what string, err error, e abi.Errno, text string) {
	t.Helper()
	if !errors.Is(err, e) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, e.Name(), text)
	}
}

func TestConformance(t *testing.T) {
	mods := func() []modapi.Module { return []modapi.Module{New()} }
	modtest.TestModule(t, mods, modtest.Options{})
	for name, tc := range map[string]struct {
		sector uint32
		q      *cgdio.Request
	}{
		"xts":     {512, req(stored("aes-xts", testKey(64), "none"))},
		"xts4096": {4096, req(stored("aes-xts", testKey(32), "none"))},
		"cbc":     {512, req(stored("aes-cbc", testKey(16), "none"))},
		"discard": {512, func() *cgdio.Request {
			q := req(stored("aes-xts", testKey(64), "none"))
			q.Flags = cgdio.Discard
			return q
		}()},
		"readonly": {512, func() *cgdio.Request {
			q := req(stored("aes-xts", testKey(64), "none"))
			q.Flags = cgdio.ReadOnly
			return q
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			modtest.TestBlk(t, func(t *testing.T) modtest.BlkUnderTest {
				return modtest.BlkUnderTest{
					Mods: mods(), Driver: "cgd", Units: []uint32{0}, BadUnit: 1, Disks: map[abi.Dev]devops.BlockIO{onDev: newDisk(2<<20, tc.sector)},
					Setup: func(t *testing.T, k *modtest.Kernel, d devops.Blk) {
						u, err := configure(t.Context(), d, tc.q)
						if err != nil || u != (devops.Units{First: 0, Count: 1}) {
							t.Fatalf("%+v, %v", u, err)
						}
					},
				}
			})
		})
	}
}

// TestLayout holds what is on the disk against the definition of cgd's ciphers,
// computed with x/crypto and crypto/cipher.
func TestLayout(t *testing.T) {
	xts := func(key []byte) func(p []byte, n uint64) {
		c, err := xxts.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		return func(p []byte, n uint64) { c.Encrypt(p, p, n) }
	}
	cbc := func(key []byte) func(p []byte, n uint64) {
		b, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		return func(p []byte, n uint64) {
			iv := make([]byte, 16)
			binary.LittleEndian.PutUint64(iv, n)
			b.Encrypt(iv, iv)
			cipher.NewCBCEncrypter(b, iv).CryptBlocks(p, p)
		}
	}
	for _, tc := range []struct {
		alg    string
		key    int
		sector uint32
		enc    func(key []byte) func(p []byte, n uint64)
	}{
		{"aes-xts", 64, 512, xts}, {"aes-xts", 32, 4096, xts}, {"aes-cbc", 16, 512, cbc}, {"aes-cbc", 32, 2048, cbc}, {"aes-cbc", 24, 512, cbc},
	} {
		disk := newDisk(1<<20, tc.sector)
		r := newRig(t, disk)
		key := testKey(tc.key)
		n := r.must(req(stored(tc.alg, key, "none")))
		plain := bytes.Repeat([]byte("sixteen bytes..,"), 1<<16)
		for off := 0; off < len(plain); off += 128 << 10 {
			if err := r.do(devops.BWrite, n, int64(off), plain[off:off+128<<10]); err != nil {
				t.Fatal(err)
			}
		}
		want := bytes.Clone(plain)
		enc := tc.enc(key)
		for i := 0; i < len(want); i += int(tc.sector) {
			enc(want[i:i+int(tc.sector)], uint64(i/int(tc.sector)))
		}
		if !bytes.Equal(disk.p, want) {
			t.Errorf("%s, %d bits, sectors of %d: the disk has something else", tc.alg, tc.key*8, tc.sector)
		}
		got := make([]byte, 64<<10)
		if err := r.do(devops.BRead, n, 8192, got); err != nil || !bytes.Equal(got, plain[8192:8192+len(got)]) {
			t.Errorf("%s: read back: %v", tc.alg, err)
		}
		if i := r.info(n); i.Kind != cgdio.CGD || i.Dev != onDev || i.KeyBits != uint32(tc.key*8) || i.Cipher != tc.alg || i.Size != 1<<20 || i.Sector != tc.sector || i.Flags != 0 {
			t.Errorf("%+v", i)
		}
	}
}

// TestKeygens: known answers of the derivations (RFC 6070, RFC 9106's parameters
// through the reference program are in x/crypto's own tests), and the exclusive
// or of several.
func TestKeygens(t *testing.T) {
	salt := bitsOf([]byte("saltSALTsaltSALTsaltSALTsaltSALTsalt"))
	p, err := cgdio.ParseParams([]byte("algorithm aes-cbc; keylength 128; keygen pkcs5_pbkdf2/sha1 {iterations 4096; salt " + salt + ";};"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := derive(t.Context(), p, [][]byte{[]byte("passwordPASSWORDpassword")})
	if want := "3d2eec4fe41c849b80c8d83662c0e44a"; err != nil || fmt.Sprintf("%x", key) != want {
		t.Errorf("pkcs5_pbkdf2/sha1: %x, %v, want %s", key, err, want)
	}
	two := "algorithm aes-cbc; keygen storedkey key " + bitsOf(testKey(16)) + "; keygen randomkey;" +
		"keygen argon2id {iterations 1; memory 64; parallelism 1; salt " + salt + ";};"
	if p, err = cgdio.ParseParams([]byte(two)); err != nil {
		t.Fatal(err)
	}
	random := bytes.Repeat([]byte{0x55}, 16)
	all, err := derive(t.Context(), p, [][]byte{random, []byte("word")})
	if err != nil {
		t.Fatal(err)
	}
	p.Keygens = p.Keygens[2:]
	last, err := derive(t.Context(), p, [][]byte{[]byte("word")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if all[i] != last[i]^0x55^testKey(16)[i] {
			t.Fatalf("%x is not the exclusive or", all)
		}
	}
	for _, s := range [][][]byte{nil, {random}, {random[1:], []byte("word")}, {random, nil}, {random, []byte("a"), []byte("b")}} {
		if p, err = cgdio.ParseParams([]byte(two)); err != nil {
			t.Fatal(err)
		}
		if _, err := derive(t.Context(), p, s); err == nil {
			t.Errorf("%d secrets taken", len(s))
		}
	}
}

// markers write what a verify_method looks for.
var markers = map[string]func(p []byte){
	"none": func([]byte) {},
	"mbr":  func(p []byte) { p[446] = 0x80; p[510], p[511] = 0x55, 0xaa },
	"ffs":  func(p []byte) { binary.LittleEndian.PutUint32(p[65536+1372:], 0x19540119) },
	"gpt": func(p []byte) {
		h := p[512:]
		copy(h, "EFI PART")
		binary.LittleEndian.PutUint32(h[12:], 92)
		binary.LittleEndian.PutUint32(h[16:], crcOf(h[:92]))
	},
	"disklabel": func(p []byte) {
		l := p[512:]
		le := binary.LittleEndian
		le.PutUint32(l, 0x82564557)
		le.PutUint32(l[132:], 0x82564557)
		le.PutUint16(l[138:], 4)
		sum := uint16(0)
		for i := 0; i < 148+64; i += 2 {
			sum ^= le.Uint16(l[i:])
		}
		le.PutUint16(l[136:], sum)
	},
}

func TestVerify(t *testing.T) {
	for method, mark := range markers {
		disk := newDisk(1<<20, 512)
		r := newRig(t, disk)
		salt := "salt AAAAgMoHiYonye6KogdYJAobCHE=;"
		params := func(verify string) string {
			return "algorithm aes-xts; keylength 512; verify_method " + verify + "; keygen pkcs5_pbkdf2/sha1 {iterations 100; " + salt + "};"
		}
		n := r.must(req(params("none"), "right"))
		first := make([]byte, 128<<10)
		mark(first)
		if err := r.do(devops.BWrite, n, 0, first); err != nil {
			t.Fatal(err)
		}
		if err := r.d.Unconfigure(t.Context(), devops.Units{First: n, Count: 1}, false); err != nil {
			t.Fatal(err)
		}
		if method != "none" {
			_, err := r.configure(req(params(method), "wrong"))
			wants(t, method, err, abi.EACCES, "the key is wrong: no "+method)
			if len(r.d.Nodes()) != 0 {
				t.Errorf("%s: there is a unit although the key is wrong", method)
			}
		}
		n = r.must(req(params(method), "right")) // the device was given back
		got := make([]byte, len(first))
		if err := r.do(devops.BRead, n, 0, got); err != nil || !bytes.Equal(got, first) {
			t.Errorf("%s: %v", method, err)
		}
		for _, l := range r.k.Logs() {
			if strings.Contains(l, "right") || strings.Contains(l, "AAAAg") {
				t.Errorf("a secret is in the log: %s", l)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	key := stored("aes-xts", testKey(64), "none")
	r := newRig(t, newDisk(1<<20, 512))
	try := func(what string, q *cgdio.Request, e abi.Errno, text string) {
		t.Helper()
		_, err := r.configure(q)
		wants(t, what, err, e, text)
	}
	try("parameters", req("algorithm adiantum; keygen randomkey;"), abi.EINVAL, `"adiantum" is not supported`)
	try("secrets", req(key, "one too many"), abi.EINVAL, "1 secrets")
	try("no LUKS", &cgdio.Request{Kind: cgdio.LUKS, Unit: -1, Slot: -1, Secrets: [][]byte{{1}}}, abi.EFTYPE, "no LUKS header")
	try("LUKS without a secret", &cgdio.Request{Kind: cgdio.LUKS, Unit: -1, Slot: -1}, abi.EINVAL, "one passphrase")
	if _, err := r.d.Configure(t.Context(), devops.Units{}, onDev, []byte("{}")); !errors.Is(err, abi.EINVAL) {
		t.Errorf("JSON: %v", err)
	}
	arg, _ := req(key).Encode()
	if _, err := r.d.Configure(t.Context(), devops.Units{}, abi.NoDev, arg); !errors.Is(err, abi.EINVAL) {
		t.Errorf("no device: %v", err)
	}
	if _, err := r.d.Configure(t.Context(), devops.Units{}, abi.Makedev(9, 9), arg); !errors.Is(err, abi.ENXIO) {
		t.Errorf("another device: %v", err)
	}
	if _, err := r.d.Configure(t.Context(), devops.Units{First: 3, Count: 2}, onDev, arg); !errors.Is(err, abi.EINVAL) {
		t.Errorf("two units: %v", err)
	}
	q := req(key)
	q.Unit = 7
	if n := r.must(q); n != 7 {
		t.Errorf("unit %d, want 7", n)
	}
	try("unit taken", q, abi.EBUSY, "cgd7")
	try("device taken", req(key), abi.EBUSY, "cgd7 stands on")
	if nodes := r.d.Nodes(); len(nodes) != 1 || nodes[0].Name != "cgd7" || nodes[0].Unit != 7 {
		t.Errorf("%+v", nodes)
	}
	for _, n := range []uint32{0, 6, 8, cgdio.MaxUnits, 1 << 30} {
		_, err := r.d.Geometry(t.Context(), n)
		wants(t, "geometry", err, abi.ENXIO, "not attached")
		wants(t, "buf", r.do(devops.BRead, n, 0, make([]byte, 512)), abi.ENXIO, "not attached")
	}
	for what, disk := range map[string]*memDisk{"sectors of 8192": newDisk(1<<20, 8192), "no room": newDisk(0, 512)} {
		r := newRig(t, disk)
		_, err := r.configure(req(key))
		wants(t, what, err, abi.EINVAL, what)
	}
	m := New()
	err := modtest.NewKernel(t, nil).Init(m, modapi.Fresh, modapi.Props{"md": map[string]any{}, "cgd": map[string]any{"key": "secret"}})
	wants(t, "properties", err, abi.EINVAL, "no properties")
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// TestBelow: what the device below says is what is said, and nothing is made up.
func TestBelow(t *testing.T) {
	disk := newDisk(1<<20, 512)
	r := newRig(t, disk)
	n := r.must(req(stored("aes-xts", testKey(64), "none")))
	p := bytes.Repeat([]byte{7}, 4096)
	disk.fail = abi.ENOSPC
	wants(t, "full", r.do(devops.BWrite, n, 0, p), abi.ENOSPC, "")
	disk.fail = fmt.Errorf("broken: %w", abi.EIO)
	q := bytes.Clone(p)
	wants(t, "broken", r.do(devops.BRead, n, 0, q), abi.EIO, "broken")
	wants(t, "broken", r.do(devops.BFlush, n, 0, nil), abi.EIO, "broken")
	disk.fail = nil
	if err := r.do(devops.BFlush, n, 0, nil); err != nil || disk.ops[devops.BFlush] != 1 {
		t.Errorf("flush: %v, %v", err, disk.ops)
	}
	var flags devops.BufFlags
	disk.hook = func(b *devops.Buf) { flags = b.Flags }
	if err := r.do(devops.BWrite|devops.BFua|devops.BMeta, n, 0, p); err != nil || flags != devops.BWrite|devops.BFua|devops.BMeta {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if !bytes.Equal(p, bytes.Repeat([]byte{7}, 4096)) {
		t.Error("the data of a write was changed")
	}
	wants(t, "discard", r.do(devops.BDiscard, n, 0, p), abi.EOPNOTSUPP, "")
	wants(t, "zeroes", r.do(devops.BZeroes, n, 0, p), abi.EOPNOTSUPP, "")
}

// TestDetach: open units stay, force waits for what is in flight, and a new
// process attaches the same unit again.
func TestDetach(t *testing.T) {
	disk := newDisk(1<<20, 512)
	r := newRig(t, disk)
	bg := t.Context()
	q := req(stored("aes-xts", testKey(64), "none"))
	n := r.must(q)
	us := devops.Units{First: n, Count: 1}
	if err := r.d.Open(bg, n, abi.O_RDWR); err != nil {
		t.Fatal(err)
	}
	wants(t, "open", r.d.Unconfigure(bg, us, false), abi.EBUSY, "is open")
	wants(t, "open", r.m.Fini(bg), abi.EBUSY, "is open or")
	inside, goOn := make(chan struct{}), make(chan struct{})
	disk.hook = func(*devops.Buf) { close(inside); <-goOn }
	done := make(chan error, 2)
	go func() { done <- r.do(devops.BWrite, n, 0, bytes.Repeat([]byte{1}, 512)) }()
	<-inside
	u, _ := r.d.unit(n)
	go func() { done <- r.d.Unconfigure(bg, us, true) }()
	for len(r.d.Nodes()) != 0 { // Unconfigure has begun
		runtime.Gosched()
	}
	if u.gone {
		t.Error("the unit ended under a buf")
	}
	close(goOn)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	disk.hook = nil
	wants(t, "buf", r.do(devops.BRead, n, 0, make([]byte, 512)), abi.ENXIO, "")
	wants(t, "late buf", u.strategy(bg, &devops.Buf{Bytes: 512, Flags: devops.BRead, Data: abi.IovOf(make([]byte, 512))}), abi.ENXIO, "")
	wants(t, "again", r.d.Unconfigure(bg, us, true), abi.ENXIO, "")

	arg, _ := q.Encode()
	had := devops.Units{First: 11, Count: 1}
	for range 2 { // twice the same is once
		if got, err := r.d.Configure(bg, had, onDev, arg); err != nil || got != had {
			t.Fatalf("told again: %+v, %v", got, err)
		}
	}
	p := make([]byte, 512)
	if err := r.do(devops.BRead, 11, 0, p); err != nil || p[0] != 1 || p[511] != 1 {
		t.Errorf("what was written before is not read after: %v", err)
	}
}

// TestSigns: a long derivation gives signs of life, and none afterwards.
func TestSigns(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r := newRig(t, newDisk(1<<20, 512))
	r.d.sign = time.Millisecond
	r.must(req("algorithm aes-xts; keygen pkcs5_pbkdf2/sha1 {iterations 300000; salt AAAAgMoHiYonye6KogdYJAobCHE=;};", "pass"))
	if logs := strings.Join(r.k.Logs(), "\n"); !strings.Contains(logs, "deriving a key") {
		t.Errorf("no sign of life: %s", logs)
	}
}
