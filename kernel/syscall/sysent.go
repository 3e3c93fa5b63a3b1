package syscall

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// sysent is the kernel's part of the table. A number without an entry is
// ENOSYS. Calls of the older family are the *at calls with AT_FDCWD.
var sysent = [abi.SYS_MINMODULE]fn{
	abi.SYS_read: sysRead, abi.SYS_write: sysWrite, abi.SYS_pread: sysPread, abi.SYS_pwrite: sysPwrite,
	abi.SYS_close: sysClose, abi.SYS_lseek: sysLseek,
	abi.SYS_dup: sysDup, abi.SYS_dup2: sysDup2, abi.SYS_dup3: sysDup3, abi.SYS_fcntl: sysFcntl, abi.SYS_flock: sysFlock, abi.SYS_ioctl: sysIoctl,
	abi.SYS_pipe: with(0, 0, sysPipe2), abi.SYS_pipe2: sysPipe2,
	abi.SYS_fsync: sysFsync, abi.SYS_fdatasync: sysFdatasync, abi.SYS_fstat: sysFstat,
	abi.SYS_poll: sysPoll, abi.SYS_pollts: sysPollts, abi.SYS_select: sysSelect, abi.SYS_pselect: sysPselect,
	abi.SYS_kqueue: sysKqueue, abi.SYS_kqueue1: sysKqueue1, abi.SYS_kevent: sysKevent,

	abi.SYS_open: cwdAt(sysOpenat, 2), abi.SYS_openat: sysOpenat,
	abi.SYS_stat: with(0, 0, cwdAt(sysFstatat, 1)), abi.SYS_lstat: with(0, abi.AT_SYMLINK_NOFOLLOW, cwdAt(sysFstatat, 1)), abi.SYS_fstatat: sysFstatat,
	abi.SYS_mkdir: cwdAt(sysMkdirat, 1), abi.SYS_mkdirat: sysMkdirat, abi.SYS_rmdir: sysRmdir,
	abi.SYS_unlink: with(0, 0, cwdAt(sysUnlinkat, 1)), abi.SYS_unlinkat: sysUnlinkat,
	abi.SYS_mkfifo: cwdAt(sysMkfifoat, 1), abi.SYS_mkfifoat: sysMkfifoat,
	abi.SYS_mknod: cwdAt(sysMknodat, 2), abi.SYS_mknodat: sysMknodat,
	abi.SYS_rename: bothCwd(0, sysRenameat2), abi.SYS_renameat: with(2, 0, sysRenameat2), abi.SYS_renameat2: sysRenameat2,
	abi.SYS_link: bothCwd(abi.AT_SYMLINK_FOLLOW, sysLinkat), abi.SYS_linkat: sysLinkat,
	abi.SYS_symlink: cwdAt(sysSymlinkat, 0), abi.SYS_symlinkat: sysSymlinkat,
	abi.SYS_readlink: cwdAt(sysReadlinkat, 0), abi.SYS_readlinkat: sysReadlinkat,
	abi.SYS_chmod: with(1, 0, cwdAt(sysFchmodat, 2)), abi.SYS_lchmod: with(1, abi.AT_SYMLINK_NOFOLLOW, cwdAt(sysFchmodat, 2)),
	abi.SYS_fchmodat: sysFchmodat, abi.SYS_fchmod: sysFchmod,
	abi.SYS_chflags: sysChflags(true), abi.SYS_lchflags: sysChflags(false),
	abi.SYS_chown: with(2, 0, cwdAt(sysFchownat, 3)), abi.SYS_lchown: with(2, abi.AT_SYMLINK_NOFOLLOW, cwdAt(sysFchownat, 3)),
	abi.SYS_fchownat: sysFchownat, abi.SYS_fchown: sysFchown,
	abi.SYS_utimensat: sysUtimensat, abi.SYS_futimens: sysFutimens,
	abi.SYS_access: with(1, 0, cwdAt(sysFaccessat, 2)), abi.SYS_faccessat: sysFaccessat,
	abi.SYS_truncate: sysTruncate, abi.SYS_ftruncate: sysFtruncate,
	abi.SYS_getdents: sysGetdents,
	abi.SYS_statvfs1: sysStatvfs1, abi.SYS_fstatvfs1: sysFstatvfs1, abi.SYS_getvfsstat: sysGetvfsstat,
	abi.SYS_mountx: sysMountx, abi.SYS_unmount: sysUnmount, abi.SYS_sync: sysSync,
	abi.SYS_chdir: sysChdir, abi.SYS_fchdir: sysFchdir, abi.SYS_chroot: sysChroot, abi.SYS___getcwd: sysGetcwd, abi.SYS_umask: sysUmask,

	abi.SYS_socket: sysSocket, abi.SYS_socketpair: sysSocketpair, abi.SYS_bind: sysBind, abi.SYS_connect: sysConnect,
	abi.SYS_listen: sysListen, abi.SYS_accept: sysAccept, abi.SYS_paccept: sysPaccept,
	abi.SYS_sendto: sysSendto, abi.SYS_recvfrom: sysRecvfrom, abi.SYS_shutdown: sysShutdown,
	abi.SYS_sendmsg: sysSendmsg, abi.SYS_recvmsg: sysRecvmsg,
	abi.SYS_setsockopt: sysSetsockopt, abi.SYS_getsockopt: sysGetsockopt,
	abi.SYS_getsockname: sysGetsockname, abi.SYS_getpeername: sysGetpeername, abi.SYS_ifstat: sysIfstat,

	abi.SYS_getpid: sysGetpid, abi.SYS_getppid: sysGetppid,
	abi.SYS_getuid: id(func(c *abi.Caller) uint32 { return c.Cred.Ruid }), abi.SYS_geteuid: id(func(c *abi.Caller) uint32 { return c.Cred.Euid }),
	abi.SYS_getgid: id(func(c *abi.Caller) uint32 { return c.Cred.Rgid }), abi.SYS_getegid: id(func(c *abi.Caller) uint32 { return c.Cred.Egid }),
	abi.SYS_getgroups: sysGetgroups, abi.SYS_setgroups: sysSetgroups, abi.SYS_setuid: sysSetuid, abi.SYS_setgid: sysSetgid,
	abi.SYS_setreuid: sysSetreuid, abi.SYS_setregid: sysSetregid, abi.SYS_seteuid: sysSeteuid, abi.SYS_setegid: sysSetegid,
	abi.SYS_getpgrp: sysGetpgrp, abi.SYS_getpgid: sysGetpgid, abi.SYS_setpgid: sysSetpgid, abi.SYS_setsid: sysSetsid, abi.SYS_getsid: sysGetsid,
	abi.SYS___getlogin: sysGetlogin, abi.SYS___setlogin: sysSetlogin, abi.SYS_getrlimit: sysGetrlimit, abi.SYS_setrlimit: sysSetrlimit,
	abi.SYS_procstat: sysProcstat, abi.SYS_filestat: sysFilestat,
	abi.SYS__lwp_self: sysLwpSelf, abi.SYS_lwproc_rfork: sysLwprocRfork,
	abi.SYS_issetugid: sysZero, abi.SYS_clock_gettime: sysClockGettime, abi.SYS_getrandom: sysGetrandom,
	abi.SYS_reboot: sysReboot, abi.SYS_modctl: sysModctl, abi.SYS_modstat: sysModstat,
	abi.SYS_sysctlbyname: sysSysctlbyname, abi.SYS___sysctl: sysSysctl, abi.SYS_msgbuf: sysMsgbuf,
}
