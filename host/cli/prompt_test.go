package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// askEnv has the test binary ask for a passphrase twice and write its length.
const askEnv = "RUMPUS_CLI_TEST_ASK"

func init() {
	if os.Getenv(askEnv) == "" {
		return
	}
	s := &secrets{prompt: true, fd: -1}
	ctx, stop := withSignals(context.Background())
	p, err := s.passphrase(ctx, "passphrase of disk0", true)
	stop()
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("length " + strconv.Itoa(len(p)) + "\n")
	os.Exit(0)
}

// TestPrompt asks at a terminal: what is typed is not shown, both must be the
// same, and the terminal is as it was, also after an interrupt.
func TestPrompt(t *testing.T) {
	for name, tc := range map[string]struct {
		typed []string // after each prompt
		says  string
	}{
		"same":        {[]string{"open sesame\n", "open sesame\n"}, "length 11"},
		"not same":    {[]string{"open sesame\n", "open barley\n"}, "not the same"},
		"erased":      {[]string{"open sesamx\x7fe\n", "open sesame\n"}, "length 11"},
		"interrupted": {[]string{"open ses\x03"}, "error: context canceled"},
		"ended":       {[]string{"\x04"}, "error: no passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			pty, tty := openPty(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), askEnv+"=1", "GORACE="+noSleep)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(60*time.Second, func() { cmd.Process.Kill() })
			defer kill.Stop()
			pty.SetReadDeadline(time.Now().Add(60 * time.Second))
			var out bytes.Buffer
			read := func(until string) {
				b := make([]byte, 256)
				for !strings.Contains(out.String(), until) {
					n, err := pty.Read(b)
					out.Write(b[:n])
					if err != nil {
						t.Fatalf("%v; it said %q, not %q", err, &out, until)
					}
				}
			}
			for i, s := range tc.typed {
				read([]string{"passphrase of disk0: ", "the same again: "}[i])
				if _, err := pty.WriteString(s); err != nil {
					t.Fatal(err)
				}
			}
			read(tc.says)
			cmd.Wait()
			if strings.Contains(out.String(), "sesam") {
				t.Errorf("the passphrase was shown: %q", &out)
			}
			term, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
			if err != nil || term.Lflag&unix.ECHO == 0 {
				t.Errorf("the terminal shows nothing any more: %v", err)
			}
		})
	}
}

// openPty makes a terminal.
func openPty(t *testing.T) (pty, tty *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	pty = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { pty.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	return pty, tty
}
