package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
)

// plug is a process with its link: hyper.Plugin.
type plug struct {
	p     *Process
	link  *modproxy.Link
	judge judge // the watcher's
	size  int64
	path  string
	ooms  uint64        // oomKills when it was new
	busy  chan struct{} // calls wait
	over  chan struct{} // closed when nothing good is to come of it
	done  chan struct{} // closed when it is dead, or beyond our reach
	drop  func()        // gives the uid back

	mu    sync.Mutex
	death hyper.Death // but for Text and what it said itself; protected by mu
	dead  bool        // it was reaped; protected by mu
}

var (
	_ hyper.Plugin     = (*plug)(nil)
	_ hyper.Mortal     = (*plug)(nil)
	_ hyper.Judged     = (*plug)(nil)
	_ hyper.PropsFiler = (*plug)(nil)
)

// waited is told that calls have begun to wait.
func (pl *plug) waited() {
	select {
	case pl.busy <- struct{}{}:
	default:
	}
}

// watch waits for the death of the process, for the failure of the link, which
// is a death sentence, and for a verdict that it hangs.
func (pl *plug) watch() {
	d := pl.end()
	x := pl.p.Exit()
	_, dead := pl.p.l.exited()
	if d.Cause == "" {
		d.Cause, d.Own, d.Text = "exit", true, x.Text
		switch {
		case x.Signal == syscall.SIGKILL && oomKills() > pl.ooms:
			d.Cause, d.Text = "oom", x.Text+", out of memory"
		case x.Signal == syscall.SIGKILL:
			d.Cause, d.Own = "killed", false
		case x.Signal != 0:
			d.Cause = "signal"
		}
	}
	if x.Signal != 0 {
		d.Signal = unix.SignalName(x.Signal)
	} else if dead {
		d.Status = x.Code
	}
	lost := pl.link.Conn().Lost()
	if d.Calls = lost.Fast + lost.Slow; d.Calls > 0 {
		d.Op = lost.FastOp.String()
		if lost.Slow > 0 {
			d.Op = lost.SlowOp.String()
		}
	}
	pl.mu.Lock()
	pl.death, pl.dead = d, dead
	pl.mu.Unlock()
	close(pl.done)
	// The new process does not wait for what is left of this one.
	pl.link.Close()
	pl.p.Kill()
	pl.drop()
}

// end returns when the process is dead, or beyond our reach. The death has a
// cause if we ended it.
func (pl *plug) end() (d hyper.Death) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-pl.p.Dead():
			close(pl.over)
			return d
		case <-pl.link.Done():
			err := pl.link.Err()
			if guilty(err) != "" {
				pl.p.l.fence()
			}
			close(pl.over) // callers are to wait, and not for the burial
			// The stream of a dying process breaks a moment before its death shows.
			if guilty(err) == "" && pl.p.l.ending() {
				return d
			}
			d = hyper.Death{Cause: guilty(err), Text: fmt.Sprintf("fenced: %v", err), Own: true}
			if d.Cause == "" {
				d.Cause = "closed"
			}
			pl.p.Fence()
			return d
		case <-pl.busy:
			timer.Reset(firstLook)
		case <-timer.C:
			hang, next := pl.judge.look(time.Now())
			if hang != nil {
				pl.link.Conn().Fail(hang)
			} else if next > 0 {
				timer.Reset(next)
			}
		}
	}
}

// guilty tells how the component broke the rules if the link ended for that.
func guilty(err error) string {
	var lie *stream.Lie
	var hang *stream.Hang
	switch {
	case errors.As(err, &lie):
		return "lie"
	case errors.As(err, &hang):
		return "hang"
	}
	return ""
}

// Modules are the modules of the process.
func (pl *plug) Modules() []modapi.Module { return pl.link.Modules() }

// Pid is the number of the process.
func (pl *plug) Pid() int { return pl.p.Pid() }

// Size is that of the program, in bytes.
func (pl *plug) Size() int64 { return pl.size }

// Done is closed when the process has died or its connection has ended.
func (pl *plug) Done() <-chan struct{} { return pl.over }

// Hang is how much processor time it may use without progress.
func (pl *plug) Hang() time.Duration { return pl.judge.cpu }

// PropsFile reads the program's properties, PATH.json: hyper.PropsFiler.
func (pl *plug) PropsFile(max int) ([]byte, error) {
	f, err := os.Open(pl.path + ".json")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, abi.ENOENT
		}
		return nil, fmt.Errorf("%v: %w", err, abi.EACCES)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s.json is no file: %w", pl.path, abi.EINVAL)
	}
	return io.ReadAll(io.LimitReader(f, int64(max)))
}

// Death is how the process ended, after Done, with its last words if it has
// itself to blame. It waits for the death: 200 ms, unless that can be seen to be
// on its way.
func (pl *plug) Death() hyper.Death {
	<-pl.done
	pl.mu.Lock()
	d, dead := pl.death, pl.dead
	pl.mu.Unlock()
	if !d.Own || !dead {
		return d
	}
	w := pl.p.LastWords()
	if w != "" {
		d.Text += ": " + w
	}
	if sig := signalLine(w); d.Cause == "exit" && d.Status == 2 && sig != "" {
		d.Cause, d.Signal = "signal", sig
	}
	if d.Cause == "exit" && d.Status == 2 && (strings.HasPrefix(w, "panic: ") || strings.HasPrefix(w, "fatal error: ")) {
		d.Cause = "panic"
	}
	return d
}

// Cause is the death in one line.
func (pl *plug) Cause() string { return pl.Death().Text }

// Stop ends the process: politely, or at once if ctx has ended.
func (pl *plug) Stop(ctx context.Context) {
	pl.link.Close()
	pl.p.Stop(ctx)
	waitFor(pl.done, releaseWait)
}
