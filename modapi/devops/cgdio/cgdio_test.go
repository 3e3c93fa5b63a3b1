package cgdio

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestNumbers(t *testing.T) {
	if Get != 0x42004414 {
		t.Errorf("%#x", Get)
	}
}

func request() *Request {
	return &Request{
		Kind: CGD, Unit: 5, Flags: Discard | ReadOnly, Slot: 4,
		Params: []byte("algorithm aes-xts;"), Secrets: [][]byte{[]byte("sesame"), {}, bytes.Repeat([]byte{7}, 1000)},
	}
}

func TestRequest(t *testing.T) {
	r := request()
	b, err := r.Encode()
	if err != nil || len(b) != reqHead+18+6+1006 {
		t.Fatal(len(b), err)
	}
	var d Request
	if err := d.Parse(b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, &d) {
		t.Errorf("%v is not %v", r, &d)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		for _, v := range []any{r, *r, struct{ R *Request }{r}} {
			if s := fmt.Sprintf(f, v); strings.Contains(s, "sesame") || strings.Contains(s, "736573616d65") {
				t.Errorf("%s shows %s", f, s)
			}
		}
	}
	d.Wipe()
	if bytes.Contains(b, []byte("sesame")) || bytes.Contains(b, []byte("aes-xts")) || bytes.Contains(b, []byte{7, 7}) {
		t.Error("Wipe leaves secrets in the argument")
	}
	r.Params = make([]byte, MaxSize)
	if _, err := r.Encode(); !errors.Is(err, abi.E2BIG) {
		t.Errorf("too long: %v", err)
	}
	r = request()
	r.Secrets = make([][]byte, MaxSecrets+1)
	if _, err := r.Encode(); !errors.Is(err, abi.E2BIG) {
		t.Errorf("too many: %v", err)
	}
	good, _ := request().Encode()
	for name, f := range map[string]func(b []byte) []byte{
		"short":    func(b []byte) []byte { return b[:len(b)-1] },
		"long":     func(b []byte) []byte { return append(b, 0) },
		"empty":    func(b []byte) []byte { return nil },
		"version":  func(b []byte) []byte { b[3] = 9; return b },
		"kind":     func(b []byte) []byte { b[4] = 9; return b },
		"unit":     func(b []byte) []byte { b[8] = 99; return b },
		"flags":    func(b []byte) []byte { b[13] = 9; return b },
		"slot":     func(b []byte) []byte { b[16] = 99; return b },
		"params":   func(b []byte) []byte { b[23] = 0xff; return b },
		"secrets":  func(b []byte) []byte { b[24] = 9; return b },
		"a secret": func(b []byte) []byte { b[reqHead+18+1] = 0xff; return b },
	} {
		if err := new(Request).Parse(f(bytes.Clone(good))); !errors.Is(err, abi.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInfo(t *testing.T) {
	i := Info{
		Kind: LUKS, Dev: abi.Makedev(1, 2), Flags: ReadOnly, Slot: 3, KeyBits: 512, Sector: 4096, Offset: 1 << 24, Size: 1 << 40,
		Cipher: "aes-xts-plain64", Impl: "vaes512", UUID: strings.Repeat("u", 63), Label: "a label", Note: strings.Repeat("n", 191),
	}
	b := i.Encode()
	var d Info
	if err := d.Parse(b); err != nil || d != i {
		t.Errorf("%+v, %v", d, err)
	}
	i.Impl, i.Label = strings.Repeat("i", 99), "a\x1bb"
	if err := d.Parse(i.Encode()); err != nil || d.Impl != i.Impl[:15] || d.Label != "a?b" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := d.Parse(b[1:]); !errors.Is(err, abi.EINVAL) {
		t.Error(err)
	}
}

// manual is the example of cgdconfig(8).
const manual = `# of the manual
algorithm	aes-xts;
iv-method	encblkno1;
keylength	256;
verify_method	none;
keygen pkcs5_pbkdf2/sha1 {
	iterations	39361;
	salt		AAAAgMoHiYonye6KogdYJAobCHE=;
};
`

func TestParams(t *testing.T) {
	p, err := ParseParams([]byte(manual))
	if err != nil {
		t.Fatal(err)
	}
	want := &Params{
		Algorithm: "aes-xts", KeyBits: 256, IVMethod: "encblkno1", Verify: "none",
		Keygens: []Keygen{{Method: "pkcs5_pbkdf2/sha1", Iterations: 39361, Salt: []byte{0xca, 0x07, 0x89, 0x8a, 0x27, 0xc9, 0xee, 0x8a, 0xa2, 0x07, 0x58, 0x24, 0x0a, 0x1b, 0x08, 0x71}}},
	}
	if !reflect.DeepEqual(p, want) || !reflect.DeepEqual(p.Secrets(), []Secret{{}}) || p.Reenter() {
		t.Errorf("%+v", p)
	}
	const key = "AAAAgAABAgMEBQYHCAkKCwwNDg8="
	p, err = ParseParams([]byte(`algorithm "aes-cbc"; keygen storedkey key ` + key + `; keygen argon2id {version 19;iterations 2;memory 64;parallelism 2;` +
		`salt AAAAgMoHiYonye6KogdYJAobCHE=;}; keygen randomkey; keygen urandomkey {}; verify_method re-enter` + ";"))
	if err != nil || p.KeyBits != 128 || !reflect.DeepEqual(p.Secrets(), []Secret{{Keygen: 1}, {2, 16}, {3, 16}}) || !p.Reenter() || len(p.Keygens) != 4 || p.Keygens[0].Key[15] != 15 {
		t.Fatalf("%v, %v", p, err)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%x"} {
		if s := fmt.Sprintf(f, p) + fmt.Sprintf(f, p.Keygens); strings.Contains(s, "0x1, 0x2") || strings.Contains(s, "1 2 3") || strings.Contains(s, "010203") {
			t.Errorf("%s shows %s", f, s)
		}
	}
	p.Wipe()
	if p.Keygens[0].Key[15] != 0 {
		t.Error("key left after Wipe")
	}
	for _, tc := range []struct{ old, new, text string }{
		{"aes-xts", "adiantum", `"adiantum" is not supported`},
		{"aes-xts", "blowfish-cbc", `"blowfish-cbc" is not supported`},
		{"algorithm\taes-xts;", "", "no algorithm"},
		{"encblkno1", "encblkno8", `"encblkno8" is not supported`},
		{"256", "255", "255 bits"},
		{"256", "-1", "line 4"},
		{"256", "99999999999999999999", "line 4"},
		{"none", "zfs", `"zfs" is not supported`},
		{"pkcs5_pbkdf2/sha1", "shell_cmd", `"shell_cmd" is not supported`},
		{"pkcs5_pbkdf2/sha1", "pkcs5_pbkdf2", `"pkcs5_pbkdf2" is not supported`},
		{"pkcs5_pbkdf2/sha1", "argon2id", "memory"},
		{"39361", "0", "line 7"},
		{"39361", "999999999", "line 7"},
		{"salt\t", "pepper", "pepper"},
		{"AAAAgMo", "AAAAhMo", "bits of a key"},
		{"AAAAgMo", "!!!!", "bits of a key"},
		{"};", "", "does not end"},
		{"};", "}", "belongs"},
		{"none;", "none", "belongs"},
		{"none;", ";", "missing"},
		{"none;", `"none;`, "does not end"},
		{"none;", `"";`, "empty"},
		{"none;", "n\x00ne;", "0x0"},
		{"none;", "none; wrong 1;", `"wrong" is unknown`},
		{manual[strings.Index(manual, "keygen"):], "", "no keygen"},
		{manual[strings.Index(manual, "keygen"):], "keygen storedkey key " + key + ";", "stored key of 128 bits"},
		{manual[strings.Index(manual, "keygen"):], strings.Repeat("keygen randomkey;", 9), "more than 8"},
	} {
		text := strings.Replace(manual, tc.old, tc.new, 1)
		_, err := ParseParams([]byte(text))
		if !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%q: %v, want %q", tc.new, err, tc.text)
		}
		if err != nil && strings.Contains(err.Error(), "AAEC") {
			t.Errorf("the key is in %v", err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	b, _ := request().Encode()
	f.Add(b)
	f.Add(make([]byte, MaxSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Request
		if r.Parse(b) != nil {
			return
		}
		c, err := r.Encode()
		if err != nil || again.Parse(c) != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%v coded again: %v, %v", &r, &again, err)
		}
	})
}

func FuzzParams(f *testing.F) {
	f.Add([]byte(manual))
	f.Add([]byte("algorithm aes-cbc; keygen storedkey key AAAAgAABAgMEBQYHCAkKCwwNDg8=;"))
	f.Add([]byte("keygen argon2id {version 19;iterations 2;memory 64;parallelism 2;salt AAAAgMoHiYonye6KogdYJAobCHE=;};algorithm aes-xts;"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseParams(b)
		if err != nil {
			if !errors.Is(err, abi.EINVAL) {
				t.Error(err)
			}
			return
		}
		if len(p.Secrets()) > len(p.Keygens) || len(p.Keygens) > maxKeygens || p.KeyBits < 128 || p.KeyBits > 512 {
			t.Errorf("%v", p)
		}
	})
}
