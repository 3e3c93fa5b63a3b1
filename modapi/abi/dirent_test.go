package abi

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestDirent(t *testing.T) {
	buf := bytes.Repeat([]byte{0xff}, 64)
	n := PutDirent(buf, &Dirent{Fileid: 0x1122, Type: VDIR, Name: "abc"})
	if n != 24 {
		t.Fatalf("record of %d bytes", n)
	}
	if got := hex.EncodeToString(buf[:n]); got != "2211000000000000"+"1800"+"0300"+"04"+"616263"+"0000000000000000" {
		t.Fatalf("coded as %s", got)
	}
	var d Dirent
	if m, err := ParseDirent(buf[:n], &d); m != n || err != nil || d.Name != "abc" || d.Fileid != 0x1122 || d.Type != VDIR {
		t.Fatalf("decoded %+v, %d, %v", d, m, err)
	}
	if PutDirent(buf[:23], &d) != 0 {
		t.Fatal("a record was put where it does not fit")
	}
	if DirentMaxSize != DirentSize(NAME_MAX) {
		t.Fatal("DirentMaxSize")
	}
}

func FuzzParseDirents(f *testing.F) {
	b := make([]byte, 48)
	PutDirent(b[PutDirent(b, &Dirent{Fileid: 1, Type: VREG, Name: "a"}):], &Dirent{Fileid: 2, Name: "b"})
	f.Add(b)
	f.Add([]byte{1, 2, 3})
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		ds, err := ParseDirents(b)
		if err != nil {
			return
		}
		for _, d := range ds {
			if len(d.Name) > len(b) {
				t.Fatal("a name longer than the input")
			}
		}
	})
}
