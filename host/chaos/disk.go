package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// A host's disk in memory: the files that a kernel opens on it, and a log of all
// that was done to them. From the log follows what a power cut may leave: what a
// sync of the file had covered is there; of the rest each write and each change of
// length may be there or not, a write in sectors.

// deedKind is what was done to a file.
type deedKind uint8

const (
	dWrite deedKind = iota
	dLength
	dSync // of all before
	dMake
	dRemove
)

// deed is a record of the log.
type deed struct {
	kind deedKind
	path string
	off  int64 // of a write; the new length
	data []byte
	sure bool // a write that is its own sync
}

// memDisk is a hyper.Hyper whose files are in memory.
type memDisk struct {
	hyper.Base
	lose bool // syncs are answered and not done: for the tests

	mu    sync.Mutex
	files map[string][]byte // protected by mu
	log   []deed            // protected by mu
}

func newMemDisk(files map[string][]byte) *memDisk { return &memDisk{files: files} }

// at is how long the log is.
func (d *memDisk) at() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// Console is quiet.
func (d *memDisk) Console([]byte) {}

// OpenFile opens a file, or makes one.
func (d *memDisk) OpenFile(_ context.Context, o hyper.FileOpen) (hyper.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, is := d.files[o.Path]; !is {
		if !o.Create {
			return nil, fmt.Errorf("open %s: %w", o.Path, abi.ENOENT)
		}
		d.files[o.Path] = nil
		d.log = append(d.log, deed{kind: dMake, path: o.Path})
	}
	return &memFile{d: d, path: o.Path, ro: o.ReadOnly}, nil
}

// RemoveFile removes a file, durably.
func (d *memDisk) RemoveFile(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, is := d.files[path]; is {
		delete(d.files, path)
		d.log = append(d.log, deed{kind: dRemove, path: path})
	}
	return nil
}

// memFile is a file of a memDisk.
type memFile struct {
	d    *memDisk
	path string
	ro   bool
}

func (f *memFile) Info() (hyper.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return hyper.FileInfo{Size: int64(len(f.d.files[f.path])), Sector: 512, ReadOnly: f.ro, Dev: 1, Ino: uint64(len(f.path))}, nil
}

func (f *memFile) ReadAt(v abi.Iov, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	p := f.d.files[f.path]
	return v.CopyIn(p[min(off, int64(len(p))):]), nil
}

func (f *memFile) WriteAt(v abi.Iov, off int64, durable bool) (int, error) {
	p := make([]byte, v.Len())
	v.CopyOut(p)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.files[f.path] = put(f.d.files[f.path], off, p)
	f.d.log = append(f.d.log, deed{kind: dWrite, path: f.path, off: off, data: p, sure: durable && !f.d.lose})
	return len(p), nil
}

// put writes p into a file that may have to become longer.
func put(file []byte, off int64, p []byte) []byte {
	if end := int(off) + len(p); end > len(file) {
		file = append(file, make([]byte, end-len(file))...)
	}
	copy(file[off:], p)
	return file
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.d.lose {
		f.d.log = append(f.d.log, deed{kind: dSync, path: f.path})
	}
	return nil
}

func (f *memFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.files[f.path] = length(f.d.files[f.path], n)
	f.d.log = append(f.d.log, deed{kind: dLength, path: f.path, off: n})
	return nil
}

// length sets the length of a file.
func length(file []byte, n int64) []byte {
	if n <= int64(len(file)) {
		return file[:n:n]
	}
	return append(file[:len(file):len(file)], make([]byte, n-int64(len(file)))...)
}

func (f *memFile) Discard(int64, int64) error { return abi.EOPNOTSUPP }
func (f *memFile) Zero(int64, int64) error    { return abi.EOPNOTSUPP }
func (f *memFile) Close() error               { return nil }

// Which of the deeds that no sync has covered a power cut leaves.
const (
	leaveAll = iota
	leaveNone
	leaveLast
	leaveMost // all but one
	leaveSome // any, some of them torn
	leaves
)

var leaveNames = [leaves]string{"all writes there", "only what was synced", "and the last write", "all but one write", "some writes, some torn"}

// after is what a power cut after n deeds leaves of the files that there were
// first.
func after(base map[string][]byte, log []deed, n, leave int, rng *rand.Rand) map[string][]byte {
	files := map[string][]byte{}
	for path, p := range base {
		files[path] = append([]byte(nil), p...)
	}
	air := map[string][]deed{}
	do := func(d deed, torn bool) {
		switch {
		case d.kind == dLength:
			files[d.path] = length(files[d.path], d.off)
		case torn:
			for at := 0; at < len(d.data); at += 512 {
				if rng.IntN(2) == 0 {
					files[d.path] = put(files[d.path], d.off+int64(at), d.data[at:min(at+512, len(d.data))])
				}
			}
		default:
			files[d.path] = put(files[d.path], d.off, d.data)
		}
	}
	for _, d := range log[:n] {
		switch d.kind {
		case dMake:
			files[d.path] = nil
		case dRemove:
			delete(files, d.path)
			delete(air, d.path)
		case dSync:
			for _, w := range air[d.path] {
				do(w, false)
			}
			delete(air, d.path)
		default:
			air[d.path] = append(air[d.path], d)
		}
	}
	total, i := 0, 0
	for _, ws := range air {
		total += len(ws)
	}
	miss := rng.IntN(max(total, 1))
	last := -1
	for k := n - 1; k >= 0 && last < 0; k-- {
		if log[k].kind <= dLength {
			last = k
		}
	}
	for path, ws := range air {
		for k, w := range ws {
			keep, torn := false, false
			switch leave {
			case leaveAll:
				keep = true
			case leaveLast:
				keep = last >= 0 && k == len(ws)-1 && log[last].path == path
			case leaveMost:
				keep = i != miss
			case leaveSome:
				keep, torn = rng.IntN(4) > 0, rng.IntN(3) == 0
			}
			if i++; w.sure {
				keep, torn = true, false
			}
			if keep {
				do(w, torn)
			}
		}
	}
	return files
}
