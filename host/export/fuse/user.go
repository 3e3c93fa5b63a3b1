package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// An ordinary user mounts by fusermount3, which is root's and set-id: it looks
// whether he may, mounts, and hands the descriptor of /dev/fuse back through a
// socket that it finds in _FUSE_COMMFD. It unmounts what he has mounted.

// fusermount3 is the program's name.
const fusermount3 = "fusermount3"

// confFile is where root says what users may.
const confFile = "/etc/fuse.conf"

// askMount has fusermount3 mount s.dir and answers the descriptor. What it would
// refuse is found out first, where the refusal can say what to do.
func (s *Server) askMount(maxRead int) (int, error) {
	prog, err := exec.LookPath(fusermount3)
	if err != nil {
		return -1, fmt.Errorf("an ordinary user mounts by %s, which is not here (package fuse3): %w", fusermount3, abi.ENOENT)
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w (modprobe fuse; its mode has to be 0666)", host(err))
	}
	if err := unix.Access(s.dir, unix.W_OK); err != nil {
		return -1, fmt.Errorf("an ordinary user mounts on a directory that he can write: %w", host(err))
	}
	opts := fmt.Sprintf("default_permissions,fsname=rumpus,subtype=rumpus,max_read=%d", maxRead)
	if s.o.RO {
		opts += ",ro"
	}
	if s.o.AllowOther {
		conf, _ := os.ReadFile(confFile)
		if !allowsOther(conf) {
			return -1, fmt.Errorf("allow-other takes a line user_allow_other in %s, which root writes: %w", confFile, abi.EPERM)
		}
		opts += ",allow_other"
	}
	// Close-on-exec throughout: a component that got the descriptor would keep
	// the mount when the host is dead.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, host(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	defer theirs.Close()
	cmd := exec.Command(prog, "-o", opts, "--", s.dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return -1, fmt.Errorf("%s: %w", reason(said.Bytes(), err), abi.EPERM)
	}
	return takeFd(pair[0])
}

// takeFd takes the descriptor that was sent over a socket.
func takeFd(sock int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	var data [4]byte
	_, n, _, _, err := unix.Recvmsg(sock, data[:], oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, host(err)
	}
	if ms, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(ms) == 1 {
		if fds, err := unix.ParseUnixRights(&ms[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, fmt.Errorf("%s has sent no descriptor: %w", fusermount3, abi.EIO)
}

// allowsOther reports whether a fuse.conf lets users let others in.
func allowsOther(conf []byte) bool {
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// reason is what a program has said, or how it ended.
func reason(said []byte, err error) string {
	if t := strings.TrimSpace(string(said)); t != "" {
		return t
	}
	return fusermount3 + ": " + err.Error()
}

// fusermount unmounts with fusermount3. EBUSY if it says that the mount is in
// use, EINVAL if nothing is mounted there, else EPERM.
func fusermount(args ...string) error {
	out, err := exec.Command(fusermount3, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	e := abi.EPERM
	switch {
	case errors.Is(err, exec.ErrNotFound):
		e = abi.ENOENT
	case bytes.Contains(out, []byte("busy")):
		e = abi.EBUSY
	case bytes.Contains(out, []byte("not found in")), bytes.Contains(out, []byte("not mounted")), bytes.Contains(out, []byte("Invalid argument")):
		e = abi.EINVAL
	}
	return fmt.Errorf("%s: %w", reason(out, err), e)
}
