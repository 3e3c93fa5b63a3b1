package repro

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Bounds of a file.
const (
	maxFile = 256 << 20 // bytes of the file
	maxBody = 512 << 20 // of the document in it
	maxDisk = 1 << 50   // bytes of the device
)

// magic is the first word of a file, version the second.
const (
	magic   = "rumpus-repro"
	version = 1
)

// File is a reproducer.
type File struct {
	Made     time.Time    `json:"made"`
	Instance string       `json:"instance"` // of the plugin
	Plugin   string       `json:"plugin"`   // its name, or path, as configured
	Path     string       `json:"path"`     // its program then
	Sum      string       `json:"sha256"`   // of the program
	Props    modapi.Props `json:"props,omitempty"`
	Dir      string       `json:"dir"` // where it was mounted

	Mount      vfsops.MountReq   `json:"mount"` // the first one; Checkpoint is its Seq now
	Caps       vfsops.Caps       `json:"caps"`
	Root       abi.Handle        `json:"root"`
	Checkpoint abi.OpSeq         `json:"checkpoint"`
	Store      []modapi.StoreRec `json:"store,omitempty"`
	Disk       *vfs.DiskState    `json:"disk,omitempty"`

	Entries []*journal.Entry `json:"entries"` // answered since
	Poison  *journal.Entry   `json:"poison"`

	// Redacted says what Redact has taken out, "" if it was not called.
	Redacted string `json:"redacted,omitempty"`
}

// errNone is the beginning of what is wrong with a file.
var errNone = errors.New("no reproducer")

func wrong(format string, a ...any) error {
	return fmt.Errorf("%w: %s: %w", errNone, fmt.Sprintf(format, a...), abi.EINVAL)
}

// Encode writes the file.
func (f *File) Encode(w io.Writer) error {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := json.NewEncoder(z).Encode(f); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	sum := sha256.Sum256(body.Bytes())
	if _, err := fmt.Fprintf(w, "%s %d %x\n", magic, version, sum); err != nil {
		return err
	}
	_, err := w.Write(body.Bytes())
	return err
}

// Decode reads a file. EINVAL, by a text that says what is wrong.
func Decode(r io.Reader) (*File, error) {
	b := bufio.NewReader(io.LimitReader(r, maxFile+1))
	line, err := b.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	var v int
	var hexSum string
	if n, _ := fmt.Sscanf(string(line), magic+" %d %64s\n", &v, &hexSum); n < 1 {
		return nil, wrong("it does not begin with %q", magic)
	}
	if v != version {
		return nil, wrong("version %d, only %d is known", v, version)
	}
	body, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	if len(body) > maxFile-len(line) {
		return nil, wrong("more than %d MiB", maxFile>>20)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != hexSum {
		return nil, wrong("its sum is wrong: it was cut off or changed")
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, wrong("%v", err)
	}
	return decode(z)
}

// decode reads the document of a file.
func decode(r io.Reader) (*File, error) {
	doc := &io.LimitedReader{R: r, N: maxBody + 1}
	f := new(File)
	d := json.NewDecoder(doc)
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(f); err != nil {
		if doc.N <= 0 {
			return nil, wrong("more than %d MiB unpacked", maxBody>>20)
		}
		return nil, wrong("%v", err)
	}
	for k, v := range f.Props {
		f.Props[k] = plainNumbers(v)
	}
	return f, f.check()
}

// plainNumbers are the numbers of properties as modules know them.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		x, _ := v.Float64()
		return x
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}

// Read reads the file of a name.
func Read(path string) (*File, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	f, err := Decode(h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// check makes sure of what a run relies on.
func (f *File) check() error {
	if f.Poison == nil {
		return wrong("the request that kills is missing")
	}
	last := f.Checkpoint
	for i, e := range f.Entries {
		if e == nil {
			return wrong("entry %d is missing", i)
		}
		if e.Op.Seq <= last {
			return wrong("entry %d has number %d behind %d", i, e.Op.Seq, last)
		}
		last = e.Op.Seq
		if err := checkEntry(e); err != nil {
			return wrong("entry %d: %v", i, err)
		}
	}
	if err := checkEntry(f.Poison); err != nil {
		return wrong("the request that kills: %v", err)
	}
	if f.Mount.Op.Caller == nil {
		f.Mount.Op.Caller = rootCaller()
	}
	for i, r := range f.Store {
		if len(r.Key) == 0 || len(r.Key) > modapi.MaxStoreKey || len(r.Value) > modapi.MaxStoreValue {
			return wrong("record %d: %d bytes of key, %d of value", i, len(r.Key), len(r.Value))
		}
	}
	return f.checkDisk()
}

func checkEntry(e *journal.Entry) error {
	if e.Kind == 0 || e.Kind > journal.Unpin {
		return fmt.Errorf("%v is no mutator", e.Kind)
	}
	if e.Kind == journal.Setattr && e.Attr == nil {
		return errors.New("setattr without attributes")
	}
	if len(e.Name) > modapi.MaxStoreKey || len(e.Name2) > modapi.MaxStoreKey {
		return errors.New("a name is too long")
	}
	if e.Off < 0 || e.Size < 0 {
		return fmt.Errorf("offset %d, size %d", e.Off, e.Size)
	}
	if e.Op.Caller == nil || e.Op.Caller.Cred == nil {
		e.Op.Caller = rootCaller()
	}
	return nil
}

func rootCaller() *abi.Caller { return &abi.Caller{Cred: abi.Root} }

func (f *File) checkDisk() error {
	d := f.Disk
	if d == nil {
		return nil
	}
	g := d.Geom
	sec := int64(g.Sector)
	if sec < devops.DevBsize || sec > 64<<10 || sec&(sec-1) != 0 || g.Size < 0 || g.Size > maxDisk || g.Size%sec != 0 {
		return wrong("a device of %d bytes in sectors of %d", g.Size, sec)
	}
	for i, b := range d.Blocks {
		n := int64(len(b.Data))
		if b.Off < 0 || n == 0 || n > g.Size || b.Off > g.Size-n || b.Off%sec != 0 {
			return wrong("block %d: %d bytes at %d of %d", i, n, b.Off, g.Size)
		}
		if i > 0 && b.Off < d.Blocks[i-1].Off+int64(len(d.Blocks[i-1].Data)) {
			return wrong("block %d at %d is out of order", i, b.Off)
		}
	}
	return nil
}

// Of makes a File of what the VFS tells of a poison.
func Of(p *vfs.Poison) *File {
	req := p.Req
	req.Seq = 0
	return &File{Instance: p.Instance, Dir: p.Mount.Dir, Mount: req, Caps: p.Caps, Root: p.Root,
		Checkpoint: p.Checkpoint, Store: p.Store, Disk: p.Disk, Entries: p.Entries, Poison: p.Repro.Poison}
}
