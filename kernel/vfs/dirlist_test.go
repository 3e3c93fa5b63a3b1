package vfs

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"pgregory.net/rapid"
)

// dents reads once with a buffer of n bytes.
func (k *kern) dents(f *file.File, n int) ([]abi.Dirent, error) {
	buf := make([]byte, n)
	n, err := k.Getdents(ctx, abi.KernelCaller, f, buf)
	if err != nil {
		return nil, err
	}
	return abi.ParseDirents(buf[:n])
}

// scan is one reading of a directory in pieces, under changes.
type scan struct {
	f    *file.File
	must map[string]bool // there since the scan began
	may  map[string]bool // there at some moment of it
	got  map[string]int
	left bool // not at the end yet
}

func newScan(k *kern, names map[string]abi.Fileid) *scan {
	s := &scan{f: k.open("/d", abi.O_RDONLY|abi.O_DIRECTORY), must: map[string]bool{}, may: map[string]bool{}, got: map[string]int{}, left: true}
	for n := range names {
		s.must[n], s.may[n] = true, true
	}
	return s
}

// TestScans holds what readdir promises, on every kind of mount, with memory
// for all listings and with next to none: a scan lists what stays exactly
// once, what comes and goes at most as often as it came, nothing else, and a
// new scan what there is.
func TestScans(t *testing.T) {
	for _, v := range variants {
		for _, mem := range []int64{64 << 20, 96 << 10} {
			if raceEnabled && (v.nocache() || v.caps&vfsops.CapKpages == 0) {
				continue // one goroutine: the race detector has nothing to find
			}
			t.Run(fmt.Sprint(v.name, " ", mem), func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) { runScans(t, rt, v, mem) })
			})
		}
	}
}

func runScans(t *testing.T, rt *rapid.T, v variant, mem int64) {
	k := newKern(t, v, Options{MemLimit: mem})
	defer k.UnmountAll(ctx)
	k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
	k.ok(k.Mkdir(ctx, su(), "/e", 0o755))
	names := map[string]abi.Fileid{}
	var scans []*scan
	defer func() {
		for _, s := range scans {
			s.f.Release(ctx)
		}
	}()
	gone := func(n string) {
		delete(names, n)
		for _, s := range scans {
			delete(s.must, n)
		}
	}
	came := func(n string) {
		names[n] = k.stat("/d/" + n).Fileid
		for _, s := range scans {
			s.may[n] = true
		}
	}
	name := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%0*d", rapid.SampledFrom([]int{1, 20, 200}).Draw(t, "len"), rapid.IntRange(0, 30).Draw(t, "n"))
	})
	rt.Repeat(map[string]func(*rapid.T){
		"make": func(rt *rapid.T) {
			n := name.Draw(rt, "name")
			if k.Mknod(ctx, su(), "/d/"+n, abi.S_IFREG|0o644, 0) == nil {
				came(n)
			}
		},
		"many": func(rt *rapid.T) {
			for i := range 20 {
				if n := fmt.Sprintf("m%0*d", 1+i*5, i); k.Mkdir(ctx, su(), "/d/"+n, 0o755) == nil {
					came(n)
				}
			}
		},
		"remove": func(rt *rapid.T) {
			if len(names) == 0 {
				return
			}
			n := rapid.SampledFrom(slices.Sorted(maps.Keys(names))).Draw(rt, "name")
			if k.Unlink(ctx, su(), "/d/"+n, 0) != nil {
				k.ok(k.Rmdir(ctx, su(), "/d/"+n))
			}
			gone(n)
		},
		"rename": func(rt *rapid.T) {
			if len(names) == 0 {
				return
			}
			a, b := rapid.SampledFrom(slices.Sorted(maps.Keys(names))).Draw(rt, "from"), name.Draw(rt, "to")
			if a != b && k.Rename(ctx, su(), "/d/"+a, su(), "/d/"+b, 0) == nil {
				gone(a)
				gone(b)
				came(b)
			}
		},
		"away": func(rt *rapid.T) {
			if len(names) == 0 {
				return
			}
			n := rapid.SampledFrom(slices.Sorted(maps.Keys(names))).Draw(rt, "name")
			if k.Rename(ctx, su(), "/d/"+n, su(), "/e/x", 0) == nil {
				gone(n)
			}
		},
		"begin": func(*rapid.T) {
			if len(scans) < 3 {
				scans = append(scans, newScan(k, names))
			}
		},
		"step": func(rt *rapid.T) {
			if len(scans) == 0 {
				return
			}
			s := rapid.SampledFrom(scans).Draw(rt, "scan")
			ds, err := k.dents(s.f, rapid.IntRange(280, 3000).Draw(rt, "room"))
			k.ok(err)
			s.left = len(ds) > 0
			for _, d := range ds {
				if s.got[d.Name]++; d.Name != "." && d.Name != ".." && !s.may[d.Name] {
					rt.Fatalf("listed %q, which was never there", d.Name)
				}
			}
			for n := range s.must {
				if s.got[n] > 1 || !s.left && s.got[n] == 0 {
					rt.Fatalf("%q, which stayed, was listed %d times", n, s.got[n])
				}
			}
			if !s.left {
				s.f.Release(ctx)
				scans = slices.DeleteFunc(scans, func(o *scan) bool { return o == s })
			}
		},
		"": func(rt *rapid.T) {
			if rapid.IntRange(0, 3).Draw(rt, "compare") > 0 {
				return
			}
			have := map[string]abi.Fileid{}
			for _, d := range k.ls("/d")[2:] {
				have[d.Name] = d.Fileid
			}
			if !maps.Equal(have, names) {
				rt.Fatalf("listed %v, there is %v", have, names)
			}
			if m := k.Memory(); m.Listings > m.Limit/memShare {
				rt.Fatalf("%+v", m)
			}
		},
	})
}

// calls is how often the file system was asked.
func (k *kern) calls(op string) int {
	f := k.fs()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// TestListingIsCached counts what is asked: once after every change of the
// directory, by whoever, and not after changes elsewhere.
func TestListingIsCached(t *testing.T) {
	misses := 0
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
	k.ok(k.Mkdir(ctx, su(), "/e", 0o755))
	for i := range 5000 { // several blocks
		k.ok(k.Mknod(ctx, su(), fmt.Sprintf("/d/f%d", i), abi.S_IFREG|0o644, 0))
	}
	asks := func(want bool, after string) {
		t.Helper()
		before := k.calls("readdir")
		n := len(k.ls("/d"))
		asked := k.calls("readdir") - before
		if (asked > 0) != want {
			t.Errorf("after %s: the file system was asked %d times for %d entries", after, asked, n)
		}
		misses += asked
		if n = len(k.ls("/d")); k.calls("readdir")-before != asked {
			t.Errorf("after %s: asked again for %d entries", after, n)
		}
	}
	asks(true, "nothing")
	k.ok(k.Mknod(ctx, su(), "/e/x", abi.S_IFREG|0o644, 0))
	k.write("/d/f1", "contents")
	k.ok(k.Chmod(ctx, su(), "/d", 0o700, true))
	asks(false, "changes elsewhere")
	for _, tc := range []struct {
		name string
		fn   func() error
	}{
		{"mknod", func() error { return k.Mknod(ctx, su(), "/d/x", abi.S_IFIFO|0o644, 0) }},
		{"create", func() error { k.write("/d/y", ""); return nil }},
		{"mkdir", func() error { return k.Mkdir(ctx, su(), "/d/z", 0o755) }},
		{"rmdir", func() error { return k.Rmdir(ctx, su(), "/d/z") }},
		{"symlink", func() error { return k.Symlink(ctx, su(), "x", "/d/l") }},
		{"link", func() error { return k.Link(ctx, su(), "/e/x", su(), "/d/h", false) }},
		{"unlink", func() error { return k.Unlink(ctx, su(), "/d/x", 0) }},
		{"rename in it", func() error { return k.Rename(ctx, su(), "/d/y", su(), "/d/yy", 0) }},
		{"rename out of it", func() error { return k.Rename(ctx, su(), "/d/yy", su(), "/e/y", 0) }},
		{"rename into it", func() error { return k.Rename(ctx, su(), "/e/y", su(), "/d/y", 0) }},
		{"exchange", func() error { return k.Rename(ctx, su(), "/e/x", su(), "/d/y", abi.RENAME_EXCHANGE) }},
	} {
		k.ok(tc.fn())
		asks(true, tc.name)
	}
	if k.cnt.dirMisses.Load() != uint64(misses) || k.cnt.dirHits.Load() == 0 {
		t.Errorf("%d hits, %d misses counted, %d asked", k.cnt.dirHits.Load(), k.cnt.dirMisses.Load(), misses)
	}
	// A mutator that fails may have been done all the same.
	f := k.fs()
	f.mu.Lock()
	f.hook = func(op string) error {
		if op == "create" {
			return abi.EIO
		}
		return nil
	}
	f.mu.Unlock()
	_, err := k.Open(ctx, su(), "/d/fails", abi.O_CREAT|abi.O_WRONLY, 0o644)
	k.is(err, abi.EIO)
	asks(true, "a failure")
	if k.Memory().Listings == 0 {
		t.Error("no memory is counted")
	}
	k.ok(k.UnmountAll(ctx))
	if m := k.Memory(); m.Listings != 0 || m.Vnodes != 0 || m.Pages != 0 {
		t.Errorf("after unmounting: %+v", m)
	}
}

// TestListingDies lets the component die: the new one's directories are
// listed.
func TestListingDies(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.write("/f", "x")
	if n := len(k.ls("/")); n != 3 {
		t.Fatalf("%d entries", n)
	}
	k.restart(variants[0])
	if n := len(k.ls("/")); n != 2 {
		t.Errorf("%d entries after a restart", n)
	}
}

// TestListingRace lists while others make and remove: what stays is listed
// once, whoever has made a name finds it, whoever has removed it does not.
func TestListingRace(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{MemLimit: 1 << 20})
			k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
			for i := range 100 {
				k.ok(k.Mknod(ctx, su(), fmt.Sprintf("/d/stays%d", i), abi.S_IFREG|0o644, 0))
			}
			list := func() map[string]int {
				f, err := k.Open(ctx, su(), "/d", abi.O_RDONLY, 0)
				if err != nil {
					t.Error(err)
					return nil
				}
				defer f.Release(ctx)
				got := map[string]int{}
				for {
					ds, err := k.dents(f, 1500)
					if err != nil || len(ds) == 0 {
						return got
					}
					for _, d := range ds {
						got[d.Name]++
					}
				}
			}
			var wg sync.WaitGroup
			for id := range 3 {
				wg.Go(func() {
					for i := range 60 {
						p := fmt.Sprintf("own%d.%d", id, i)
						if err := k.Mknod(ctx, su(), "/d/"+p, abi.S_IFREG|0o644, 0); err != nil {
							t.Error(err)
						}
						if got := list(); got[p] != 1 {
							t.Errorf("%s was made and is listed %d times", p, got[p])
						}
						if err := k.Unlink(ctx, su(), "/d/"+p, 0); err != nil {
							t.Error(err)
						}
						got := list()
						if got[p] != 0 {
							t.Errorf("%s was removed and is listed", p)
						}
						for j := range 100 {
							if n := got[fmt.Sprintf("stays%d", j)]; n != 1 {
								t.Errorf("stays%d is listed %d times", j, n)
							}
						}
					}
				})
			}
			wg.Wait()
			if n := len(list()); n != 102 {
				t.Errorf("%d entries at the end", n)
			}
		})
	}
}

// TestListingShare lists more directories than there is memory for, and one
// that is larger than its part.
func TestListingShare(t *testing.T) {
	k := newKern(t, variants[0], Options{MemLimit: 2 << 20})
	share := k.mem.share()
	for i := range 40 {
		d := fmt.Sprintf("/d%d", i)
		k.ok(k.Mkdir(ctx, su(), d, 0o755))
		for j := range 100 {
			k.ok(k.Mknod(ctx, su(), fmt.Sprintf("%s/%040d", d, j), abi.S_IFREG|0o644, 0))
		}
	}
	for range 2 {
		for i := range 40 {
			if n := len(k.ls(fmt.Sprintf("/d%d", i))); n != 102 {
				t.Fatalf("%d entries", n)
			}
			if m := k.Memory(); m.Listings > share || m.Listings == 0 {
				t.Fatalf("%+v", m)
			}
		}
	}
	for i := range 4000 {
		k.ok(k.Mknod(ctx, su(), fmt.Sprintf("/d0/x%040d", i), abi.S_IFREG|0o644, 0))
	}
	for range 2 {
		if n := len(k.ls("/d0")); n != 4102 {
			t.Fatalf("%d entries", n)
		}
	}
	if m := k.Memory(); m.Listings > share {
		t.Fatalf("%+v", m)
	}
	// What pages need, listings give.
	if k.lists.shrink() == 0 || k.Memory().Listings != 0 {
		t.Error("nothing given back")
	}
}

func TestEncodeBlock(t *testing.T) {
	ok := abi.Dirent{Fileid: 1, Cookie: 5, Type: abi.VREG, Name: "a"}
	for _, tc := range []struct {
		name string
		ents []abi.Dirent
		want bool
	}{
		{"empty", nil, true},
		{"one", []abi.Dirent{ok}, true},
		{"cookie again", []abi.Dirent{ok, ok}, false},
		{"cookie back", []abi.Dirent{ok, {Fileid: 1, Cookie: 4, Type: abi.VREG, Name: "b"}}, false},
		{"cookie as asked", []abi.Dirent{{Fileid: 1, Cookie: 3, Type: abi.VREG, Name: "b"}}, false},
		{"cookie too large", []abi.Dirent{{Fileid: 1, Cookie: 1 << 63, Type: abi.VREG, Name: "b"}}, false},
		{"no name", []abi.Dirent{{Fileid: 1, Cookie: 9, Type: abi.VREG}}, false},
	} {
		b := encodeBlock(3, &vfsops.ReaddirRes{Entries: tc.ents})
		if (b != nil) != tc.want {
			t.Errorf("%s: %v", tc.name, b)
		}
	}
}
