package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sample are events, one of each kind that people see.
var sample = []rumpclient.Event{
	{Kind: evlog.Started, Instance: "vfs", Pid: 100, Epoch: 1, Text: "hostfs tmpfs"},
	{Kind: evlog.Died, Instance: "vfs", Pid: 100, Epoch: 1, Cause: "hang", Signal: "SIGKILL", Calls: 3, Op: "lookup", Text: "fenced: peer hangs: no answer to lookup, it is stopped"},
	{Kind: evlog.Recovered, Instance: "vfs", Pid: 101, Epoch: 2, Ns: 3_456_789, Replayed: 17},
	{Kind: evlog.Poison, Mount: "/mnt", Op: "rename", Text: "/tmp/reproducer\x1b[31m"},
	{Kind: evlog.Degraded, Instance: "vfs", Text: "6 deaths in 10s, more than the restart budget of 5"},
	{Kind: evlog.Ended, Instance: "net", Pid: 102, Epoch: 1},
	{Kind: evlog.Halt},
}

// eventKernel is a fake that has sample as its last events, the first of which
// has the number first.
func eventKernel(first uint64, perCall int, more ...rumpclient.Event) *fakeKernel {
	k := newFake(nil)
	all := append([]rumpclient.Event(nil), sample...)
	for i := range all {
		all[i].Seq, all[i].Time = first+uint64(i), int64(i)*1_500_000_000
	}
	k.calls = map[int]func(context.Context, *abi.Sysargs) error{abi.SYS_events: func(ctx context.Context, a *abi.Sysargs) error {
		a.NO = 0
		a.R[1] = all[len(all)-1].Seq
		if a.A[1] != 0 && a.A[0] >= a.R[1] {
			if len(more) == 0 {
				return abi.EINTR
			}
			all, more = append(all, more[0]), more[1:]
		}
		n := 0
		for _, e := range all {
			if e.Seq > a.A[0] && n < perCall {
				b, _ := json.Marshal(e)
				a.NO += copy(a.Out[a.NO:], append(b, '\n'))
				n++
			}
		}
		return nil
	}}
	return k
}

// TestEventsGolden: what rumpus events writes.
func TestEventsGolden(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	late := rumpclient.Event{Seq: 520, Time: 20_000_000_000, Kind: evlog.SpareDied, Instance: "dev", Pid: 7, Text: "killed by SIGKILL"}
	for _, tc := range []struct {
		name  string
		first uint64
		args  []string
		json  bool
		more  []rumpclient.Event
		code  int
	}{
		{"events-all", 1, nil, false, nil, 0},
		{"events-last", 500, []string{"-n", "2"}, false, nil, 0},
		{"events-none", 500, []string{"-n", "0"}, false, nil, 0},
		{"events-forgotten", 500, []string{"-n", "100"}, false, nil, 0},
		{"events-json", 1, nil, true, nil, 0},
		{"events-follow", 500, []string{"-f", "-n", "1"}, false, []rumpclient.Event{late}, 1},
		{"events-follow-json", 500, []string{"-f", "-n", "1"}, true, []rumpclient.Event{late}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, out, _ := fakeCall(t, eventKernel(tc.first, 3, tc.more...), "events", nil)
			c.json, c.tty = tc.json, true
			if code := runFake(t, c, tc.args...); code != tc.code {
				t.Errorf("exit code %d", code)
			}
			c.out.Flush()
			file := filepath.Join("testdata", tc.name+".golden")
			if *update {
				if err := os.WriteFile(file, out.Bytes(), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("%s differs (go test -update rewrites it):\n%s", file, out)
			}
		})
	}
}

// TestModrecovery: modstat -r has a line for each component.
func TestModrecovery(t *testing.T) {
	k := newFake(nil)
	rows := []rumpclient.Modstat{
		{Name: "hostfs", Instance: "vfs", Pid: 5, State: "running", Restarts: 3, Causes: map[string]int{"killed": 2, "hang": 1}, RecoveryNs: 2_345_678, Spare: 6, HangNs: 1e8},
		{Name: "inet", Instance: "net", State: "failed"},
		{Name: "tmpfs", Instance: "vfs"},
	}
	k.calls = map[int]func(context.Context, *abi.Sysargs) error{abi.SYS_modstat: func(_ context.Context, a *abi.Sysargs) error {
		b, _ := json.Marshal(rows)
		a.NO = copy(a.Out, b)
		a.R[0] = uint64(len(b))
		return nil
	}}
	c, out, _ := fakeCall(t, k, "modstat", nil)
	if code := runFake(t, c, "-r"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.out.Flush()
	const want = `INSTANCE PID STATE   RESTARTS CAUSES          RECOVERY SPARE  HANG
vfs        5 running        3 hang:1,killed:2   2.35ms     6 100ms
net        - failed         0 -                      -     -     -
`
	if out.String() != want {
		t.Errorf("%s", out)
	}
}
