package abi

import (
	"reflect"
	"strings"
	"testing"
)

func TestDirents(t *testing.T) {
	in := []Dirent{
		{Fileid: 1, Type: VDIR, Name: "."},
		{Fileid: 1 << 40, Type: VREG, Name: strings.Repeat("x", NAME_MAX)},
		{Fileid: 3, Type: VNON, Name: "seven77"},
		{Fileid: 4, Type: VSOCK, Name: "a"},
	}
	var b []byte
	for i := range in {
		n := len(b)
		b = AppendDirent(b, &in[i])
		if got := len(b) - n; got != DirentSize(len(in[i].Name)) || got%8 != 0 {
			t.Errorf("%q takes %d bytes", in[i].Name, got)
		}
	}
	out, err := ParseDirents(nil, b)
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("got %v, %v", out, err)
	}
	if _, err := ParseDirents(nil, b[:len(b)-1]); err != EINVAL {
		t.Errorf("cut short: %v", err)
	}
}

func FuzzParseDirents(f *testing.F) {
	f.Add(AppendDirent(nil, &Dirent{Fileid: 2, Type: VLNK, Name: "l"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		ds, _ := ParseDirents(nil, b)
		if len(ds) > len(b)/14 {
			t.Errorf("%d entries out of %d bytes", len(ds), len(b))
		}
	})
}
