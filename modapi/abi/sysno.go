package abi

import "strconv"

// The system call numbers of NetBSD 10 (sys/kern/syscalls.master). Where
// NetBSD keeps old versions of a call for old programs, the plain name is the
// current one: SYS_stat is __stat50, SYS_getvfsstat is __getvfsstat90. The old
// versions have no name here and answer ENOSYS.
//
// A number without a handler is ENOSYS; having a name says nothing about
// support. The names keep the C spelling, as they do in the manual.
const (
	// Processes, credentials and limits.
	SYS_syscall     = 0
	SYS_exit        = 1
	SYS_fork        = 2
	SYS_getpid      = 20
	SYS_setuid      = 23
	SYS_getuid      = 24
	SYS_geteuid     = 25
	SYS_ptrace      = 26
	SYS_getppid     = 39
	SYS_getegid     = 43
	SYS_profil      = 44
	SYS_ktrace      = 45
	SYS_getgid      = 47
	SYS___getlogin  = 49
	SYS___setlogin  = 50
	SYS_acct        = 51
	SYS_execve      = 59
	SYS_getgroups   = 79
	SYS_setgroups   = 80
	SYS_getpgrp     = 81
	SYS_setpgid     = 82
	SYS_setpriority = 96
	SYS_getpriority = 100
	SYS_setreuid    = 126
	SYS_setregid    = 127
	SYS_setsid      = 147
	SYS_setgid      = 181
	SYS_setegid     = 182
	SYS_seteuid     = 183
	SYS_getrlimit   = 194
	SYS_setrlimit   = 195
	SYS___syscall   = 198
	SYS_getpgid     = 207
	SYS_vfork       = 282
	SYS_getsid      = 286
	SYS___clone     = 287
	SYS_fktrace     = 288
	SYS_issetugid   = 305
	SYS_utrace      = 306
	SYS_getrusage   = 445
	SYS_wait4       = 449
	SYS_fexecve     = 465
	SYS_posix_spawn = 474
	SYS_wait6       = 481

	// Signals.
	SYS_kill                 = 37
	SYS_sigqueueinfo         = 245
	SYS_sigaltstack          = 281
	SYS_sigpending           = 292
	SYS_sigprocmask          = 293
	SYS_sigsuspend           = 294
	SYS_getcontext           = 307
	SYS_setcontext           = 308
	SYS___sigaction_sigtramp = 340
	SYS___sigtimedwait       = 431

	// Threads and scheduling.
	SYS__lwp_create        = 309
	SYS__lwp_exit          = 310
	SYS__lwp_self          = 311
	SYS__lwp_wait          = 312
	SYS__lwp_suspend       = 313
	SYS__lwp_continue      = 314
	SYS__lwp_wakeup        = 315
	SYS__lwp_getprivate    = 316
	SYS__lwp_setprivate    = 317
	SYS__lwp_kill          = 318
	SYS__lwp_detach        = 319
	SYS__lwp_unpark        = 321
	SYS__lwp_unpark_all    = 322
	SYS__lwp_setname       = 323
	SYS__lwp_getname       = 324
	SYS__lwp_ctl           = 325
	SYS_rasctl             = 343
	SYS__sched_setparam    = 346
	SYS__sched_getparam    = 347
	SYS__sched_setaffinity = 348
	SYS__sched_getaffinity = 349
	SYS_sched_yield        = 350
	SYS__sched_protect     = 351
	SYS_pset_create        = 412
	SYS_pset_destroy       = 413
	SYS_pset_assign        = 414
	SYS__pset_bind         = 415
	SYS__lwp_park          = 478

	// Memory.
	SYS_break      = 17
	SYS_sbrk       = 69
	SYS_sstk       = 70
	SYS_munmap     = 73
	SYS_mprotect   = 74
	SYS_madvise    = 75
	SYS_mincore    = 78
	SYS_mmap       = 197
	SYS_mlock      = 203
	SYS_munlock    = 204
	SYS_mlockall   = 242
	SYS_munlockall = 243
	SYS_swapctl    = 271
	SYS_minherit   = 273
	SYS_msync      = 277
	SYS_mremap     = 411

	// Descriptors and data.
	SYS_read            = 3
	SYS_write           = 4
	SYS_open            = 5
	SYS_close           = 6
	SYS_dup             = 41
	SYS_pipe            = 42
	SYS_ioctl           = 54
	SYS_dup2            = 90
	SYS_getrandom       = 91
	SYS_fcntl           = 92
	SYS_fsync           = 95
	SYS_readv           = 120
	SYS_writev          = 121
	SYS_flock           = 131
	SYS_pread           = 173
	SYS_pwrite          = 174
	SYS_lseek           = 199
	SYS_truncate        = 200
	SYS_ftruncate       = 201
	SYS_fdatasync       = 241
	SYS_eventfd         = 267
	SYS_preadv          = 289
	SYS_pwritev         = 290
	SYS_fsync_range     = 354
	SYS_posix_fadvise   = 416
	SYS_pipe2           = 453
	SYS_dup3            = 454
	SYS_openat          = 468
	SYS_posix_fallocate = 479
	SYS_fdiscard        = 480

	// Names, directories and attributes.
	SYS_link           = 9
	SYS_unlink         = 10
	SYS_chdir          = 12
	SYS_fchdir         = 13
	SYS_chmod          = 15
	SYS_chown          = 16
	SYS_access         = 33
	SYS_chflags        = 34
	SYS_fchflags       = 35
	SYS_revoke         = 56
	SYS_symlink        = 57
	SYS_readlink       = 58
	SYS_umask          = 60
	SYS_chroot         = 61
	SYS_fchown         = 123
	SYS_fchmod         = 124
	SYS_rename         = 128
	SYS_mkfifo         = 132
	SYS_mkdir          = 136
	SYS_rmdir          = 137
	SYS_pathconf       = 191
	SYS_fpathconf      = 192
	SYS_undelete       = 205
	SYS___posix_rename = 270
	SYS_lchmod         = 274
	SYS_lchown         = 275
	SYS___posix_chown  = 283
	SYS___posix_fchown = 284
	SYS___posix_lchown = 285
	SYS___getcwd       = 296
	SYS_fchroot        = 297
	SYS_lchflags       = 304
	SYS_getdents       = 390
	SYS_utimes         = 420
	SYS_futimes        = 423
	SYS_lutimes        = 424
	SYS_stat           = 439
	SYS_fstat          = 440
	SYS_lstat          = 441
	SYS_mknod          = 450
	SYS_linkat         = 457
	SYS_renameat       = 458
	SYS_mkfifoat       = 459
	SYS_mknodat        = 460
	SYS_mkdirat        = 461
	SYS_faccessat      = 462
	SYS_fchmodat       = 463
	SYS_fchownat       = 464
	SYS_fstatat        = 466
	SYS_utimensat      = 467
	SYS_readlinkat     = 469
	SYS_symlinkat      = 470
	SYS_unlinkat       = 471
	SYS_futimens       = 472
	SYS_lpathconf      = 499

	// Mounts, file systems and file handles.
	SYS_unmount    = 22
	SYS_sync       = 36
	SYS_nfssvc     = 155
	SYS_getfh      = 395
	SYS_fhopen     = 396
	SYS_mount      = 410
	SYS_fhstat     = 451
	SYS___quotactl = 473
	SYS_getvfsstat = 483
	SYS_statvfs1   = 484
	SYS_fstatvfs1  = 485
	SYS_fhstatvfs1 = 486

	// Extended attributes and access control lists.
	SYS_extattrctl          = 360
	SYS_extattr_set_file    = 361
	SYS_extattr_get_file    = 362
	SYS_extattr_delete_file = 363
	SYS_extattr_set_fd      = 364
	SYS_extattr_get_fd      = 365
	SYS_extattr_delete_fd   = 366
	SYS_extattr_set_link    = 367
	SYS_extattr_get_link    = 368
	SYS_extattr_delete_link = 369
	SYS_extattr_list_fd     = 370
	SYS_extattr_list_file   = 371
	SYS_extattr_list_link   = 372
	SYS_setxattr            = 375
	SYS_lsetxattr           = 376
	SYS_fsetxattr           = 377
	SYS_getxattr            = 378
	SYS_lgetxattr           = 379
	SYS_fgetxattr           = 380
	SYS_listxattr           = 381
	SYS_llistxattr          = 382
	SYS_flistxattr          = 383
	SYS_removexattr         = 384
	SYS_lremovexattr        = 385
	SYS_fremovexattr        = 386
	SYS___acl_get_link      = 487
	SYS___acl_set_link      = 488
	SYS___acl_delete_link   = 489
	SYS___acl_aclcheck_link = 490
	SYS___acl_get_file      = 491
	SYS___acl_set_file      = 492
	SYS___acl_get_fd        = 493
	SYS___acl_set_fd        = 494
	SYS___acl_delete_file   = 495
	SYS___acl_delete_fd     = 496
	SYS___acl_aclcheck_file = 497
	SYS___acl_aclcheck_fd   = 498

	// Sockets.
	SYS_recvmsg     = 27
	SYS_sendmsg     = 28
	SYS_recvfrom    = 29
	SYS_accept      = 30
	SYS_getpeername = 31
	SYS_getsockname = 32
	SYS_connect     = 98
	SYS_bind        = 104
	SYS_setsockopt  = 105
	SYS_listen      = 106
	SYS_getsockopt  = 118
	SYS_sendto      = 133
	SYS_shutdown    = 134
	SYS_socketpair  = 135
	SYS_socket      = 394
	SYS_paccept     = 456
	SYS_recvmmsg    = 475
	SYS_sendmmsg    = 476

	// Waiting for events.
	SYS_poll    = 209
	SYS_kqueue  = 344
	SYS_select  = 417
	SYS_kevent  = 435
	SYS_pselect = 436
	SYS_pollts  = 437
	SYS_kqueue1 = 455

	// Asynchronous input and output.
	SYS_aio_cancel  = 399
	SYS_aio_error   = 400
	SYS_aio_fsync   = 401
	SYS_aio_read    = 402
	SYS_aio_return  = 403
	SYS_aio_write   = 405
	SYS_lio_listio  = 406
	SYS_aio_suspend = 438

	// Clocks and timers.
	SYS_ntp_adjtime          = 176
	SYS_timer_create         = 235
	SYS_timer_delete         = 236
	SYS_timer_getoverrun     = 239
	SYS_gettimeofday         = 418
	SYS_settimeofday         = 419
	SYS_adjtime              = 421
	SYS_setitimer            = 425
	SYS_getitimer            = 426
	SYS_clock_gettime        = 427
	SYS_clock_settime        = 428
	SYS_clock_getres         = 429
	SYS_nanosleep            = 430
	SYS_timer_settime        = 446
	SYS_timer_gettime        = 447
	SYS_ntp_gettime          = 448
	SYS_clock_nanosleep      = 477
	SYS_clock_getcpuclockid2 = 482

	// Semaphores, message queues and shared memory.
	SYS_semget          = 221
	SYS_semop           = 222
	SYS_semconfig       = 223
	SYS_msgget          = 225
	SYS_msgsnd          = 226
	SYS_msgrcv          = 227
	SYS_shmat           = 228
	SYS_shmdt           = 230
	SYS_shmget          = 231
	SYS__ksem_init      = 247
	SYS__ksem_open      = 248
	SYS__ksem_unlink    = 249
	SYS__ksem_close     = 250
	SYS__ksem_post      = 251
	SYS__ksem_wait      = 252
	SYS__ksem_trywait   = 253
	SYS__ksem_getvalue  = 254
	SYS__ksem_destroy   = 255
	SYS__ksem_timedwait = 256
	SYS_mq_open         = 257
	SYS_mq_close        = 258
	SYS_mq_unlink       = 259
	SYS_mq_getattr      = 260
	SYS_mq_setattr      = 261
	SYS_mq_notify       = 262
	SYS_mq_send         = 263
	SYS_mq_receive      = 264
	SYS_mq_timedsend    = 432
	SYS_mq_timedreceive = 433
	SYS___semctl        = 442
	SYS_shmctl          = 443
	SYS_msgctl          = 444

	// The system as a whole.
	SYS_sysarch  = 165
	SYS___sysctl = 202
	SYS_reboot   = 208
	SYS_modctl   = 246
	SYS_uuidgen  = 355
)

// The layout of the system call table (sysent).
const (
	SYS_MAXNETBSD = 511 // numbers up to here are NetBSD's
	SYS_MINOWN    = 512 // 512..639 are the calls that NetBSD lacks
	SYS_MAXOWN    = 639
	SYS_MINMODULE = 640 // 640..767 belong to modules
	SYS_MAXMODULE = 767
	SYS_NSYSENT   = 768 // slots in the table
)

// System calls that NetBSD lacks. Numbers are only ever appended.
const (
	SYS_renameat2       = 512 // renameat with flags: fromfd, tofd, flags (RENAME_*); two paths
	SYS_copy_file_range = 513 // copy between two descriptors inside the kernel
	SYS_syncfs          = 514 // sync the one file system a descriptor is on
	SYS_sysctlbyname    = 515 // sysctl by its text name
	SYS_mountx          = 516 // mount with options as text
	SYS_modstat         = 517 // list the loaded modules
	SYS_msgbuf          = 518 // read the kernel's message buffer
	SYS_ifstat          = 519 // network interfaces as records
	SYS_events          = 520 // the stream of kernel events
	SYS_lwproc_rfork    = 521 // make a child process (rump_lwproc_rfork)
	SYS_lwproc_attach   = 522 // become the process of a cookie that rfork gave
	SYS_procstat        = 523 // list the processes
	SYS_filestat        = 524 // list the open descriptors
	SYS_drvctl          = 525 // attach, detach and list block devices; DRV_*
	SYS_lwproc_exec     = 526 // hand the process to another program of the user, by a cookie for lwproc_attach
)

// What drvctl does, its first argument (after drvctl(4), whose commands have
// other arguments).
const (
	DRV_LIST   = 1 // Out: a JSON array of block devices
	DRV_ATTACH = 2 // Path: driver, and node that it stands on or ""; In: the driver's argument; Out: a JSON array of new nodes
	DRV_DETACH = 3 // Path: node; A[1]: 1 = by force
	DRV_PROBE  = 4 // Path: node; Out: what it holds, a JSON object
)

// Flags of lwproc_rfork: what the child gets of the descriptors, which it shares
// without a flag.
const (
	RUMP_RFFDG  = 0x01 // a copy
	RUMP_RFCFDG = 0x02 // none
)

// CookieSize is the size in bytes of what lwproc_rfork answers and
// lwproc_attach takes: random, so that nobody can guess it.
const CookieSize = 16

// SyscallName is the name of a system call in the manual ("open"), or
// "syscall 999" for a number that has none.
func SyscallName(num int) string {
	if num >= 0 && num < len(syscallTab) && syscallTab[num] != "" {
		return syscallTab[num]
	}
	return "syscall " + strconv.Itoa(num)
}

// SyscallByName finds the number of a system call by its name.
func SyscallByName(name string) (int, bool) {
	for num, n := range syscallTab {
		if n == name && n != "" {
			return num, true
		}
	}
	return 0, false
}
