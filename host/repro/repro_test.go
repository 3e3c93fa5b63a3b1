package repro

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func caller() *abi.Caller { return &abi.Caller{Cred: abi.NewCred(7, 8, 9), Pid: 3} }

// sample has a bit of everything.
func sample() *File {
	op := func(n abi.OpSeq) vfsops.Op {
		return vfsops.Op{Seq: n, Now: abi.Timespec{Sec: 1e9, Nsec: 5}, Seed: 1 << 63, Caller: caller(), Fileid: 40, Gen: 2}
	}
	h := func(n abi.Fileid) abi.Handle { return abi.Handle{FS: 3, File: n, Gen: 1} }
	return &File{
		Made: time.Unix(1e9, 0).UTC(), Instance: "vfs", Plugin: "vfs", Path: "/x/vfs", Sum: "ab", Dir: "/a",
		Props: modapi.Props{"n": int64(7), "x": 1.5, "s": "text", "l": []any{int64(1), true}},
		Mount: vfsops.MountReq{Fsid: 3, Type: "tmpfs", Options: map[string]string{"size": "1m"}, Op: op(1)},
		Root:  h(1), Checkpoint: 10,
		Store: []modapi.StoreRec{{Key: []byte("k\x00secret-name"), Value: []byte("a secret-name, and secret")}},
		Entries: []*journal.Entry{
			{Op: op(11), Kind: journal.Create, State: journal.Answered, Dir: h(1), Name: []byte("secret-name"), Mode: 0o644, Hash: 1<<64 - 1},
			{Op: op(12), Kind: journal.Setattr, Node: h(40), Mask: 3, Attr: &abi.Vattr{Type: abi.VREG, Size: 5}},
			{Op: op(13), Kind: journal.Write, Node: h(40), Append: true, Data: []byte("secret contents 42")},
		},
		Poison: &journal.Entry{Op: op(14), Kind: journal.Rename, Dir: h(1), Name: []byte("secret-name"), Dir2: h(1), Name2: []byte("abc")},
	}
}

func encoded(t testing.TB, f *File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFile(t *testing.T) {
	for name, f := range map[string]*File{"store": sample(), "disk": withDisk(sample())} {
		got, err := Decode(bytes.NewReader(encoded(t, f)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, f) {
			t.Errorf("%s: %+v\n%+v", name, got, f)
		}
	}
}

func withDisk(f *File) *File {
	f.Store = nil
	f.Disk = &vfs.DiskState{Geom: devops.Geom{Size: 1 << 20, Sector: 512}, Blocks: []block{
		{Off: 0, Meta: true, Data: bytes.Repeat([]byte{1}, 1024)}, {Off: 4096, Data: bytes.Repeat([]byte{2}, 512)}}}
	return f
}

// TestWrongFiles: what is wrong is told, and nothing of it is used.
func TestWrongFiles(t *testing.T) {
	good := encoded(t, sample())
	changed := bytes.Clone(good)
	changed[len(changed)-9] ^= 1
	for _, x := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "does not begin"},
		{"something else", []byte("#!/bin/sh\n"), "does not begin"},
		{"version", []byte("rumpus-repro 2 00\n"), "version 2"},
		{"cut off", good[:len(good)-1], "cut off or changed"},
		{"changed", changed, "cut off or changed"},
	} {
		if _, err := Decode(bytes.NewReader(x.b)); !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	for _, x := range []struct {
		name string
		do   func(f *File)
		want string
	}{
		{"no poison", func(f *File) { f.Poison = nil }, "request that kills is missing"},
		{"no entry", func(f *File) { f.Entries[1] = nil }, "entry 1 is missing"},
		{"order", func(f *File) { f.Entries[1].Op.Seq = 11 }, "number 11 behind 11"},
		{"kind", func(f *File) { f.Entries[0].Kind = 99 }, "no mutator"},
		{"setattr", func(f *File) { f.Entries[1].Attr = nil }, "without attributes"},
		{"offset", func(f *File) { f.Poison.Off = -1 }, "offset -1"},
		{"name", func(f *File) { f.Poison.Name = make([]byte, 5000) }, "too long"},
		{"record", func(f *File) { f.Store[0].Key = nil }, "record 0"},
		{"sector", func(f *File) { withDisk(f).Disk.Geom.Sector = 3 }, "sectors of 3"},
		{"size", func(f *File) { withDisk(f).Disk.Geom.Size = 100 }, "device of 100"},
		{"outside", func(f *File) { withDisk(f).Disk.Blocks[1].Off = 1 << 20 }, "block 1"},
		{"overlap", func(f *File) { withDisk(f).Disk.Blocks[1].Off = 512 }, "out of order"},
	} {
		f := sample()
		x.do(f)
		if _, err := Decode(bytes.NewReader(encoded(t, f))); !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	// Who is missing as a caller is the super-user.
	f := sample()
	f.Poison.Op.Caller, f.Mount.Op.Caller = nil, nil
	if got, err := Decode(bytes.NewReader(encoded(t, f))); err != nil || got.Poison.Op.Caller.Cred == nil || got.Mount.Op.Caller == nil {
		t.Errorf("no caller: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []*File{sample(), withDisk(sample())} {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Decode(bytes.NewReader(b)); err == nil {
			t.Fatal("without a sum")
		}
		got, err := decode(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, e := range append(got.Entries, got.Poison) {
			_ = describe(e)
		}
		got.Redact(nil, false)
		if _, err := Decode(bytes.NewReader(encoded(t, got))); err != nil {
			t.Errorf("redacted: %v", err)
		}
	})
}

func TestRedact(t *testing.T) {
	f := sample()
	old := f.Entries[0]
	f.Redact([][]byte{[]byte("secret")}, false)
	if string(old.Name) != "secret-name" {
		t.Error("the journal's own entry was changed")
	}
	all := string(encoded(t, f)[:0]) + string(f.Store[0].Key) + string(f.Store[0].Value)
	for _, e := range append(f.Entries, f.Poison) {
		all += string(e.Name) + string(e.Name2) + string(e.Data)
	}
	if strings.Contains(all, "secret") || strings.Contains(all, "contents") || strings.Contains(all, "42") {
		t.Errorf("left: %q", all)
	}
	name := string(f.Entries[0].Name)
	if len(name) != len("secret-name") || name[6] != '-' || string(f.Poison.Name) != name ||
		string(f.Store[0].Key) != "k\x00"+name || !strings.HasPrefix(string(f.Store[0].Value), "a "+name+", ") {
		t.Errorf("%q, %q, %q", name, f.Poison.Name, f.Store[0])
	}
	if string(f.Poison.Name2) != "abc" || f.Redacted == "" {
		t.Errorf("%q, %q", f.Poison.Name2, f.Redacted)
	}

	d := withDisk(sample())
	d.Redact(nil, false)
	if d.Disk.Blocks[0].Data[0] != 1 || d.Disk.Blocks[1].Data[0] != 0 || string(d.Poison.Name) != "secret-name" ||
		strings.Contains(string(d.Entries[2].Data), "secret") || !strings.Contains(d.Redacted, "1 blocks of data") {
		t.Errorf("%+v", d)
	}
}

// TestDir: the newest files stay, within the bounds, and nobody else reads them.
func TestDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := &Dir{Path: dir, Plugin: func(string) (string, string, modapi.Props) { return "vfs", os.Args[0], nil },
		Failed: func(path string, err error) { t.Errorf("%s: %v", path, err) }}
	s := sample()
	var last string
	for range DirFiles + 5 {
		last = d.Keep(&vfs.Poison{Repro: &journal.Repro{Checkpoint: 10, Entries: s.Entries, Poison: s.Poison}, Instance: "vfs", Store: s.Store})
		d.Wait()
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != DirFiles {
		t.Fatalf("%d files, %v", len(list), err)
	}
	st, err := os.Stat(last)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	if st, err = os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Fatal(st, err)
	}
	f, err := Read(last)
	if err != nil || len(f.Sum) != 64 || f.Plugin != "vfs" || len(f.Entries) != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	if s := d.Keep(&vfs.Poison{Repro: &journal.Repro{}, Lost: "too much"}); !strings.Contains(s, "too much") {
		t.Error(s)
	}
}
