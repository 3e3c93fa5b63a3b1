package mdio

import (
	"bytes"
	"testing"
)

func TestConf(t *testing.T) {
	for _, c := range []Conf{{}, {Size: 512, Type: KmemAllocated}, {Size: MaxSize, Type: KmemAllocated}} {
		var d Conf
		if err := d.Parse(c.Append(nil)); err != nil || d != c {
			t.Errorf("%+v: %+v, %v", c, d, err)
		}
	}
	for _, c := range []Conf{{Size: 1}, {Size: 513, Type: KmemAllocated}, {Size: -512, Type: KmemAllocated}, {Type: KmemAllocated},
		{Size: MaxSize + 512, Type: KmemAllocated}, {Size: 512, Type: 3}} {
		if err := new(Conf).Parse(c.Append(nil)); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if GetConf != 0x40187200 || SetConf != 0x80187201 {
		t.Errorf("%#x %#x", GetConf, SetConf)
	}
}

func FuzzConf(f *testing.F) {
	f.Add(Conf{Size: 1 << 20, Type: KmemAllocated}.Append(nil))
	f.Add([]byte{})
	f.Add(make([]byte, confSize-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Conf
		if c.Parse(b) == nil {
			if a := c.Append(nil); !bytes.Equal(a[8:20], b[8:20]) {
				t.Errorf("%x coded again: %x", b, a)
			}
		}
	})
}
