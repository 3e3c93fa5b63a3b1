package repro

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
)

// Bounds of a Dir: the oldest files go.
const (
	DirFiles = 16
	DirBytes = 256 << 20
)

// Dir is where a host keeps reproducers: files NAME.repro, mode 0600, in a
// directory of mode 0700.
type Dir struct {
	// Path is the directory, which is made when it is needed.
	Path string
	// Redact has every file redacted before it is written.
	Redact bool
	// Plugin says what an instance is: its plugin as configured, its program,
	// its properties.
	Plugin func(instance string) (plugin, program string, props modapi.Props)
	// Failed is told of a file that could not be written.
	Failed func(path string, err error)

	mu      sync.Mutex // one file at a time, and n
	n       int
	writing sync.WaitGroup
}

// Keep writes the reproducer of a poison, behind the caller's back, and answers
// in a few words where it will be.
func (d *Dir) Keep(p *vfs.Poison) string {
	if p.Lost != "" {
		return "no reproducer: " + p.Lost
	}
	f := Of(p)
	f.Made = time.Now().UTC()
	d.mu.Lock()
	d.n++
	name := fmt.Sprintf("%s-%s-%d-%d.repro", f.Instance, f.Made.Format("20060102T150405.000"), os.Getpid(), d.n)
	d.mu.Unlock()
	path := filepath.Join(d.Path, name)
	d.writing.Go(func() {
		if err := d.write(path, f); err != nil && d.Failed != nil {
			d.Failed(path, err)
		}
	})
	return path
}

// Wait returns when all that was to be kept is written.
func (d *Dir) Wait() { d.writing.Wait() }

func (d *Dir) write(path string, f *File) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Plugin, f.Path, f.Props = d.Plugin(f.Instance)
	if f.Sum, err = Sum(f.Path); err != nil {
		f.Sum = ""
	}
	if d.Redact {
		f.Redact(nil, false)
	}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return err
	}
	if err := Write(path, f); err != nil {
		return err
	}
	return d.trim(filepath.Base(path))
}

// Write makes the file of a name, mode 0600, whole or not at all.
func Write(path string, f *File) (err error) {
	tmp := path + ".tmp"
	h, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	if err := errors.Join(f.Encode(h), h.Sync(), h.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// trim removes the oldest files beyond the bounds, but not keep.
func (d *Dir) trim(keep string) error {
	list, err := os.ReadDir(d.Path)
	if err != nil {
		return err
	}
	type old struct {
		name string
		at   time.Time
		size int64
	}
	var files []old
	for _, e := range list {
		in, err := e.Info()
		if err != nil || !in.Mode().IsRegular() || !strings.HasSuffix(e.Name(), ".repro") {
			continue
		}
		files = append(files, old{e.Name(), in.ModTime(), in.Size()})
	}
	slices.SortFunc(files, func(a, b old) int { return b.at.Compare(a.at) })
	var size int64
	for i, f := range files {
		if size += f.size; (i >= DirFiles || size > DirBytes) && f.name != keep {
			if err := os.Remove(filepath.Join(d.Path, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Sum is the SHA-256 of a program's file, in hexadecimal.
func Sum(path string) (string, error) {
	h, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer h.Close()
	s := sha256.New()
	if _, err := io.Copy(s, h); err != nil {
		return "", err
	}
	return hex.EncodeToString(s.Sum(nil)), nil
}

// DefaultDir is where reproducers are kept if nobody says otherwise:
// $XDG_STATE_HOME/rumpus/repro, ~/.local/state/rumpus/repro, or below /tmp.
func DefaultDir(getenv func(string) string) string {
	if s := getenv("XDG_STATE_HOME"); filepath.IsAbs(s) {
		return filepath.Join(s, "rumpus", "repro")
	}
	if h := getenv("HOME"); filepath.IsAbs(h) {
		return filepath.Join(h, ".local", "state", "rumpus", "repro")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("rumpus-%d", os.Getuid()), "repro")
}
