package supervise

import (
	"context"
	"slices"
	"testing"
	"time"
)

// TestPause: the first two restarts come at once, then the wait doubles.
func TestPause(t *testing.T) {
	var got []time.Duration
	for n := range 11 {
		got = append(got, pauseOf(n)/time.Millisecond)
	}
	if want := []time.Duration{0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000}; !slices.Equal(got, want) {
		t.Errorf("%v ms, not %v", got, want)
	}
	if d := pauseOf(1 << 40); d != time.Second {
		t.Errorf("%v", d)
	}
}

// TestOOM: where the host's kernel tells that it has killed for want of memory.
func TestOOM(t *testing.T) {
	for _, tc := range []struct {
		groups string
		want   []string
	}{
		{"", nil},
		{"0::/user.slice/a\n", []string{"/sys/fs/cgroup/user.slice/a/memory.events"}},
		{"9:name=systemd:/\n4:memory:/x/y\n0::/\n", []string{"/sys/fs/cgroup/memory/x/y/memory.oom_control", "/sys/fs/cgroup//memory.events"}},
		{"0::/../../other\ngarbage\n4:memory\n", nil},
	} {
		if got := oomPaths(tc.groups); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %v, not %v", tc.groups, got, tc.want)
		}
	}
	for _, tc := range []struct {
		text string
		n    uint64
		ok   bool
	}{
		{"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3, true},
		{"low 0\noom 9\noom_kill 12\noom_group_kill 1\n", 12, true},
		{"", 0, false}, {"oom_kill x\n", 0, false}, {"oom_kill\n", 0, false},
	} {
		if n, ok := oomCount([]byte(tc.text)); n != tc.n || ok != tc.ok {
			t.Errorf("%q: %d, %v", tc.text, n, ok)
		}
	}
	if a, b := oomKills(), oomKills(); b < a {
		t.Errorf("%d, then %d", a, b)
	}
}

// TestProbe: what the host's kernel says of a process that lives, is stopped,
// and has ended.
func TestProbe(t *testing.T) {
	p := mustStart(t)
	l := p.l
	if st, ok := l.State(); !ok || st == 'T' || st == 'Z' {
		t.Errorf("state %c, %v", st, ok)
	}
	before, ok := l.CPU()
	if !ok || before <= 0 {
		t.Errorf("processor time %v, %v", before, ok)
	}
	if d, ok := l.Delayed(); !ok || d < 0 {
		t.Logf("no schedstat here: %v, %v", d, ok)
	}
	life(t, p, "spawn")
	if after, ok := l.CPU(); !ok || after <= before {
		t.Errorf("processor time %v, then %v", before, after)
	}
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan struct{})
	go func() {
		defer close(said)
		p.Life(ctx, []byte("signal 19")) // SIGSTOP: it may answer or not
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if st, _ := l.State(); st == 'T' {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not seen to be stopped")
		}
	}
	cancel()
	<-said
	p.Kill()
	<-p.Dead()
	_, ok1 := l.CPU()
	_, ok2 := l.State()
	_, ok3 := l.Delayed()
	if ok1 || ok2 || ok3 {
		t.Error("a process that has been reaped is asked about")
	}
}
