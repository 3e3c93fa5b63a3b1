package vfs

import (
	"sync/atomic"
	"testing"
)

// TestOvertakenParent holds a trace back until one of the directories in it has
// moved: ".." of that one is where it is now, not where the trace has it.
func TestOvertakenParent(t *testing.T) {
	for _, v := range variants {
		if v.wrap == nil {
			continue // a file system without a hook
		}
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			for _, d := range []string{"/a", "/a/b", "/a/b/c", "/a/b/c/d"} {
				k.ok(k.Mkdir(ctx, su(), d, 0o755))
			}
			k.nc.purge()
			answered, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var held atomic.Bool
			f := k.fs()
			f.mu.Lock()
			f.late = func() {
				if held.CompareAndSwap(false, true) { // only the first answer
					close(answered)
					<-goOn
				}
			}
			f.mu.Unlock()
			go func() {
				defer close(done)
				k.Stat(ctx, su(), "/a/b/c/d", true)
			}()
			<-answered
			k.ok(k.Rename(ctx, su(), "/a/b/c", su(), "/a/c", 0))
			c := k.open("/a/c", 0)
			k.ok(k.Rename(ctx, su(), "/a/b", su(), "/a/c/d/b", 0))
			close(goOn)
			<-done
			w := su()
			w.At = c
			st, err := k.Stat(ctx, w, "..", true)
			k.ok(err)
			if want := k.stat("/a").Fileid; st.Fileid != want {
				t.Errorf(".. is %d, want %d", st.Fileid, want)
			}
			k.ok(c.Release(ctx))
			k.stat("/a/c/d/b")
		})
	}
}
