package journal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestFailBeforeDown: a process that dies when this mount is back and another of
// its is not ends the attempt by Fail, before the Down for it. A caller that was
// in flight waits for the next process: it is not answered EIO.
func TestFailBeforeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(Options{Wait: time.Hour})
		defer f.Close()
		wants(t, "create", create(bg, f, "a"), 0)
		p.kill()
		f.Down()
		second := newSim(s)
		wants(t, "recover", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return second, nil }), 0)
		second.kill()
		done := make(chan error, 2)
		go func() { done <- create(bg, f, "b") }()
		go func() { _, err := f.Getattr(bg, simHandle(1)); done <- err }()
		synctest.Wait() // both know that it is dead
		f.Fail()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("answered: %v", <-done)
		}
		f.Down()
		third := newSim(s)
		wants(t, "recover", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return third, nil }), 0)
		wants(t, "one", <-done, 0)
		wants(t, "the other", <-done, 0)
		if third.st.nodes[1].ents["a"] == 0 || third.st.nodes[1].ents["b"] == 0 {
			t.Errorf("%s", third.st.dump())
		}
	})
}
