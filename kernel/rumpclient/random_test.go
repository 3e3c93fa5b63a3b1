package rumpclient_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestRandomArguments makes system calls of every number with arguments that
// make little sense: each answers, or ends with its context, and the kernel
// works for others afterwards.
func TestRandomArguments(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		ints := []uint64{0, 1, 2, 3, 4, 5, 16, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 100}
		paths := []string{"", "/", ".", "..", "/a", "/a/b", "a", "//", "/dev/null", "kern.ostype", "\x00", "tmpfs", string(make([]byte, 2000))}
		bytes := func() []byte {
			b := make([]byte, []int{0, 1, 8, 15, 16, 17, 39, 40, 80, 96, 136, 4096}[r.IntN(12)])
			for i := range b {
				b[i] = byte(ints[r.IntN(len(ints))] >> (8 * r.IntN(8)))
			}
			return b
		}
		c := dial()
		calls := map[abi.Errno]int{}
		for i := range 4000 {
			num := r.IntN(abi.SYS_MINMODULE)
			if i%3 == 0 { // more of those that have bytes to take apart
				num = []int{abi.SYS_kevent, abi.SYS_kqueue1, abi.SYS_select, abi.SYS_pselect, abi.SYS_poll, abi.SYS_pollts, abi.SYS_setrlimit, abi.SYS_getrlimit,
					abi.SYS_lwproc_rfork, abi.SYS_lwproc_attach, abi.SYS_setpgid, abi.SYS_filestat, abi.SYS_fcntl, abi.SYS_pipe2, abi.SYS_sendmsg, abi.SYS_recvmsg}[r.IntN(16)]
			}
			switch num {
			case abi.SYS_reboot, abi.SYS_modctl, abi.SYS_unmount, abi.SYS_setuid, abi.SYS_setreuid, abi.SYS_seteuid, abi.SYS_chroot,
				abi.SYS_exit, abi.SYS_kill, abi.SYS__lwp_kill, abi.SYS_sigqueueinfo: // would end the client, or others
				continue
			}
			a := abi.Sysargs{Path: [2]string{paths[r.IntN(len(paths))], paths[r.IntN(len(paths))]}, In: bytes(), Out: bytes()}
			for j := range a.A {
				a.A[j] = ints[r.IntN(len(ints))]
			}
			if r.IntN(2) == 0 {
				a.Addr = bytes()
				a.Addr = a.Addr[:min(len(a.Addr), abi.SockaddrMaxLen)]
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			err := c.Syscall(short, num, &a)
			cancel()
			calls[abi.ErrnoOf(err)]++
			if err == nil && a.NO > len(a.Out) {
				t.Errorf("%s filled %d of %d bytes", abi.SyscallName(num), a.NO, len(a.Out))
			}
			if _, err := c.Getpid(ctx); err != nil {
				t.Fatalf("after %s %+v: %v", abi.SyscallName(num), a.A, err)
			}
		}
		if calls[0] < 100 || calls[abi.EINVAL] < 100 {
			t.Errorf("hardly anything was tried: %v", calls)
		}
		if s := k.PanicString(); s != "" {
			t.Errorf("the kernel panicked: %s", s)
		}
		_, err := dial().Stat(ctx, "/") // it may be read-only or immutable by now
		must(t, err)
	})
}
