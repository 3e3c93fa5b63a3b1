package abi

import (
	"bytes"
	"slices"
	"testing"
)

// TestSignalNumbers holds numbers that programs are compiled with.
func TestSignalNumbers(t *testing.T) {
	for _, c := range []struct {
		name string
		sig  int
	}{
		{"SIGHUP", 1}, {"SIGKILL", 9}, {"SIGBUS", 10}, {"SIGSYS", 12}, {"SIGPIPE", 13}, {"SIGTERM", 15}, {"SIGURG", 16}, {"SIGSTOP", 17},
		{"SIGCONT", 19}, {"SIGCHLD", 20}, {"SIGIO", 23}, {"SIGXFSZ", 25}, {"SIGINFO", 29}, {"SIGUSR1", 30}, {"SIGUSR2", 31}, {"SIGPWR", 32},
		{"SIGRTMIN", 33}, {"SIGRTMIN+3", 36},
	} {
		if got := SignalName(c.sig); got != c.name {
			t.Errorf("%d is %s, not %s", c.sig, got, c.name)
		}
		for _, s := range []string{c.name, c.name[3:], "sig" + c.name[3:]} {
			if got, ok := SignalByName(s); got != c.sig || !ok {
				t.Errorf("%s is %d, %v", s, got, ok)
			}
		}
	}
	for _, s := range []string{"", "SIG", "NONE", "64", "-1", "RTMIN+31", "RTMIN3", "RTMIN+x"} {
		if got, ok := SignalByName(s); ok {
			t.Errorf("%q is %d", s, got)
		}
	}
	if got, ok := SignalByName("0"); got != 0 || !ok {
		t.Error("0 asks only")
	}
}

func TestSigset(t *testing.T) {
	s := SigsetOf(SIGHUP, SIGRTMAX, 0, 64, -5)
	if got := s.Signals(); !slices.Equal(got, []int{1, 63}) {
		t.Errorf("%v", got)
	}
	b := AppendSigset(nil, s)
	if !bytes.Equal(b, []byte{1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("% x", b)
	}
	if got, err := ParseSigset(b); got != s || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	s.Del(SIGHUP)
	if s.Has(SIGHUP) || !s.Has(SIGRTMAX) || s.Has(0) {
		t.Errorf("%x", s)
	}
}

func TestSiginfo(t *testing.T) {
	si := Siginfo{Signo: SIGUSR1, Code: SI_QUEUE, Pid: 7, Uid: 4711, Value: -3}
	b := AppendSiginfo([]byte{1}, si)[1:]
	if got, err := ParseSiginfo(b); got != si || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got := si.String(); got != "SIGUSR1 from process 7 of uid 4711" {
		t.Error(got)
	}
	a := Sigaction{Handler: 5, Mask: SigsetOf(SIGINT), Flags: SA_RESTART}
	if got, err := ParseSigaction(AppendSigaction(nil, a)); got != a || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for status, want := range map[int][2]int{0x0300: {3, 0}, 15: {-1, 15}, 0x117f: {-1, -1}} {
		code, exited := WExited(status)
		sig, signaled := WSignaled(status)
		if exited != (want[0] >= 0) || exited && code != want[0] || signaled != (want[1] > 0) || signaled && sig != want[1] {
			t.Errorf("%#x: %d %v, %d %v", status, code, exited, sig, signaled)
		}
	}
}

func FuzzSiginfo(f *testing.F) {
	f.Add(AppendSiginfo(nil, Siginfo{Signo: 3}))
	f.Add(AppendSigaction(nil, Sigaction{Handler: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if si, err := ParseSiginfo(b); err == nil {
			if si2, err := ParseSiginfo(AppendSiginfo(nil, si)); si2 != si || err != nil {
				t.Errorf("%+v, %+v, %v", si, si2, err)
			}
		}
		if a, err := ParseSigaction(b); err == nil {
			if a2, err := ParseSigaction(AppendSigaction(nil, a)); a2 != a || err != nil {
				t.Errorf("%+v, %+v, %v", a, a2, err)
			}
		}
	})
}
