package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// mount puts the file system into Linux's tree: by mount(2) if root does it,
// else through fusermount3, which may.
func (s *Server) mount() error {
	if err := s.clean(); err != nil {
		return err
	}
	o := s.serverOptions()
	o.Options = []string{"default_permissions"}
	if os.Geteuid() != 0 {
		fd, err := s.askMount(o.MaxWrite)
		if err != nil {
			return err
		}
		return s.attach(fd, o)
	}
	// go-fuse's own mount(2) would let every child process have the device, and
	// so a component keep the mount when the host is dead.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w (modprobe fuse; a container needs the device)", host(err))
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if s.o.RO {
		flags |= unix.MS_RDONLY
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", fd, o.MaxWrite)
	if err := unix.Mount("rumpus", s.dir, "fuse.rumpus", flags, data); err != nil {
		unix.Close(fd)
		return fmt.Errorf("mount: %w", host(err))
	}
	return s.attach(fd, o)
}

// attach has go-fuse serve a mount by its descriptor of /dev/fuse, which it
// takes over.
func (s *Server) attach(fd int, o *fuse.MountOptions) (err error) {
	if s.srv, err = fuse.NewServer(s, fmt.Sprintf("/dev/fd/%d", fd), o); err != nil {
		detach(s.dir, 0)
		unix.Close(fd)
		return fmt.Errorf("%s: %w", err, abi.EIO)
	}
	return nil
}

// host is an error of the host's as one of ours.
func host(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return linuxabi.FromErrno(e)
	}
	return err
}

// maxLeft bounds how many dead mounts may lie on one another.
const maxLeft = 16

// clean takes dead mounts of killed hosts away from the directory, and refuses
// one that is alive.
func (s *Server) clean() error {
	for range maxLeft {
		var st unix.Stat_t
		err := unix.Stat(s.dir, &st)
		switch {
		case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return abi.ENOTDIR
		case err == nil && !mountedAt(s.dir):
			return nil
		case err == nil && alive(s.dir):
			return fmt.Errorf("another rumpus is mounted there: %w", abi.EBUSY)
		case err == nil: // what Linux has kept outlives the host
		case err != unix.ENOTCONN && err != unix.ECONNABORTED:
			return host(err)
		}
		s.o.Log.Warn("fuse: taking a dead mount away", "dir", s.dir)
		if err := detach(s.dir, 0); err != nil {
			return fmt.Errorf("a dead mount is there: %w", err)
		}
	}
	return abi.EBUSY
}

// aliveWait is how long a mount may take to answer before it counts as alive but
// busy.
const aliveWait = 5 * time.Second

// alive reports whether somebody serves a mount of ours: statfs(2) always asks
// him.
func alive(dir string) bool {
	dead := make(chan bool, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		dead <- err == unix.ENOTCONN || err == unix.ECONNABORTED
	}()
	t := time.NewTimer(aliveWait)
	defer t.Stop()
	select {
	case d := <-dead:
		return !d
	case <-t.C:
		return true
	}
}

// mountedAt reports whether the uppermost mount on a directory is one of ours.
func mountedAt(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	ours := false
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		pre, post, ok := bytes.Cut(line, []byte(" - "))
		f := bytes.Fields(pre)
		if ok && len(f) > 4 && unescape(string(f[4])) == dir {
			ours = bytes.HasPrefix(post, []byte("fuse.rumpus "))
		}
	}
	return ours
}

// unescape undoes what mountinfo does to white space and backslashes.
func unescape(p string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(p)
}

// detach takes a mount away from its directory; flags are umount2(2)'s, to
// which MNT_DETACH is added.
func detach(dir string, flags int) error {
	if os.Geteuid() == 0 {
		return host(unix.Unmount(dir, unix.MNT_DETACH|flags))
	}
	return fusermount("-u", "-z", dir)
}

// graceful is how long a mount that is busy may become idle before it is taken
// away from its users.
const graceful = 200 * time.Millisecond

// unmount takes the mount out of Linux's tree: as it should be if nobody uses
// it, else what programs have written to mappings is fetched first, and then
// the connection is cut.
func (s *Server) unmount() error {
	var err error
	for end := time.Now().Add(graceful); ; {
		if os.Geteuid() == 0 {
			err = host(unix.Unmount(s.dir, 0))
		} else {
			err = fusermount("-u", s.dir)
		}
		if err == nil || !errors.Is(err, abi.EBUSY) || time.Now().After(end) {
			break
		}
		t := time.NewTimer(graceful / 10)
		select {
		case <-t.C:
		case <-s.ended:
			t.Stop()
			return nil
		}
	}
	if err == nil {
		return nil
	}
	s.writeBack()
	s.o.Log.Warn("fuse: unmounted while in use", "dir", s.dir)
	return detach(s.dir, unix.MNT_FORCE)
}

// writeBack has Linux send what it has of dirty pages, as long as a Close may
// take.
func (s *Server) writeBack() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fd, err := unix.Open(s.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Syncfs(fd)
			unix.Close(fd)
		}
	}()
	t := time.NewTimer(closeWait / 2)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-s.ended:
	}
}

// settlePoll has Linux learn that files cannot be polled, before a program does
// it whose runtime would wait for us in the same process: a Go test, say.
func settlePoll(dir string) {
	fd, err := unix.Open(dir+"/.go-fuse-epoll-hack", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}
