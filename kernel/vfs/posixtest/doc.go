// Package posixtest judges file systems by POSIX: one table of cases, and every
// file system, reached in every way, has to pass all of it.
//
//	posixtest.Run(t, posixtest.World{Name: "mine", New: newProcess, Dir: "/mnt/x"})
//
// # The words
//
// A Sys is a process: its system calls, with NetBSD's numbers. A World is a file
// system and how processes that use it are made. A Case does something in a
// directory of its own, as the super-user or as several users, and checks what
// comes of it. Its process is a P, which is a Sys that checks errors: the last
// arguments of its methods say which answer is right.
//
// # Whose book
//
// The table passes on Linux's tmpfs and ext4 as well, so that it says what POSIX
// says and not what this kernel happens to do. Where the two systems differ the
// case lists both answers (differ), with the reason; where POSIX allows several,
// either does:
//
//	unlink of a directory          EPERM; Linux EISDIR
//	open of a socket               EOPNOTSUPP; Linux ENXIO
//	mknod of a directory           EINVAL; Linux EPERM
//	chmod of a sticky file         EFTYPE but for the super-user; Linux ignores the bit
//	chmod g+s, foreign group       EPERM; Linux drops the bit
//	group of a new file            the directory's; Linux the process's, but for g+s
//	set-id bits, chown by root     stay; Linux takes them away
//	write across RLIMIT_FSIZE      EFBIG; Linux writes what fits
//	getdents, removed directory    nothing; Linux ENOENT
//
// # Access times
//
// A read changes the access time, always without an option, and with relatime
// when it does not come after the last change; with noatime never. mmap and reads
// that Linux answers from its own cache (FUSE) do not. Nothing else does, but
// listing a directory may.
//
// # The table
//
// Passed cases by group; what is skipped, World.Lacks says why. POSIX_TABLE=FILE
// go test writes it anew.
//
//	group                 cases  Linux tmpfs  ext4  in-proc  nocache  stream  ring  nullfs  hostfs  FUSE
//	allocate                 12           12    12       12       12      12    12      12      11    12
//	at                       25           25    25       25       25      25    25      25      25    25
//	chmod and chown          16           16    16       16       16      16    16      16      15    16
//	fifo                     14           14    14       14       14      14    14      14      14    14
//	flock                     5            5     5        5        5       5     5       5       5     5
//	getdents                 13           13    13       13       13      13    13      13      13    13
//	holes                     7            7     7        7        7       7     7       7       5     7
//	link                      9            8     8        9        8       8     8       8       8     8
//	mkdir and rmdir          12           12    12       12       12      12    12      12      12    12
//	mknod                     8            8     8        8        8       8     8       8       8     8
//	open                     57           57    57       57       57      57    57      57      57    57
//	owner of what is new      5            5     5        5        5       5     5       5       5     5
//	path                     31           31    31       31       31      31    31      31      31    31
//	permission               12           12    12       12       12      12    12      12      12    12
//	read and write           34           34    34       34       34      34    34      34      34    34
//	record locks             14           14    14       14       14      14    14      14      14    14
//	rename                   31           31    31       31       31      31    31      31      31    31
//	space                     8            8     2        8        8       8     8       2       2     2
//	symlink                   6            6     6        6        6       6     6       6       6     6
//	times                    47           47    47       47       47      47    47      47      47    47
//	unlink                    8            8     8        8        8       8     8       8       8     8
//	xattr                    11           11    11       11       11      11    11      11      11    11
//	all                     385          384   378      385      384     384   384     378     374   378
//
// # Others
//
// RaceRenames and RaceReplace have processes rename against each other, and look
// at what is left.
package posixtest
