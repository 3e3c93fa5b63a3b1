package journal_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestFailBeforeDown: a process that dies when this mount is back and another of
// its is not ends the attempt by Fail, before the Down for it. A caller that was
// in flight waits for the next process: it is not answered EIO.
func TestFailBeforeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, p := rig(journal.Options{Wait: time.Hour})
		defer f.Close()
		wants(t, "create", create(bg, f, "a"), 0)
		p.Kill()
		f.Down()
		second := journalsim.NewProc(s)
		wants(t, "recover", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return second, nil }), 0)
		second.Kill()
		done := make(chan error, 2)
		go func() { done <- create(bg, f, "b") }()
		go func() { _, err := f.Getattr(bg, journalsim.Handle(1)); done <- err }()
		synctest.Wait() // both know that it is dead
		f.Fail()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("answered: %v", <-done)
		}
		f.Down()
		third := journalsim.NewProc(s)
		wants(t, "recover", f.Recover(bg, func(context.Context, abi.OpSeq) (vfsops.FS, error) { return third, nil }), 0)
		wants(t, "one", <-done, 0)
		wants(t, "the other", <-done, 0)
		if third.Named("a") == 0 || third.Named("b") == 0 {
			t.Errorf("%s", third.Dump())
		}
	})
}
