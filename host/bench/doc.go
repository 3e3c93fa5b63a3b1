// Command bench measures what an operation costs, and what the same operation
// costs elsewhere, in one run on one machine: the absolute figures vary with
// the machine and the hour, the ratios do not.
//
// The words. An operation is what a program wants: stat a file, read 4 KiB. A
// hit is answered in the kernel from its caches; a crossing asks the component.
// A path is the way that the operation goes:
//
//	in-process   kernel, modules and program in this process
//	b-stream     kernel and program in this process, components in processes
//	             of their own, messages over the framed stream
//	c-stream     the program in a process of its own as well
//	b-ring       the same two over shared-memory rings, if this build
//	c-ring       has them
//	linux        tmpfs at /dev/shm and TCP over lo: the peer that ratios are of
//	fuse         a memory file system in a go-fuse process, its own example
//	             with permissions checked (default_permissions)
//	mount        rumpus, with component processes, mounted by FUSE. Both have a
//	             mount that Linux caches and one for crossings that it does not;
//	             what mount is to be compared with is fuse
//	grpc-1       go-plugin with a gRPC unary call: program, component
//	grpc-2       the same with a host between: program, host, component
//	processes    the program rumpus with its three components, as make build
//	             leaves it: for what is not about one operation
//
// A round trip (rtt) of pipe and unix is two goroutines with a pipe each way or
// a socket between them; of poll and kqueue the same pipes, but each side waits
// for its end before it reads. Linux's peers are pipe2, socketpair, poll and
// epoll, each side in a thread of its own.
//
// After the operations come rows about processes: from a host's start until it
// has served a client, the CPU time of host and components while nobody asks
// (-idle), their memory, and the threads of client, host and component after 64
// callers have called.
//
// Two rows are about trees of files, on mount and Linux's tmpfs: unpacking an
// archive by tar, and make with a C compiler in what came out. A short -t makes
// the tree small.
//
// A row is one operation on one path with one or four concurrent callers, or 64
// for those where threads matter:
// median and 99th percentile of an operation's time, operations a second, CPU
// time of all processes for an operation, and the ratio of the median to
// Linux's in the same run (below 1 is faster than Linux; for a stream of data,
// whose writes are buffered, the ratio of the rates).
//
// How it is measured. Callers begin together and work for the row's time (-t)
// after a warm-up of a tenth of it. Operations shorter than 2 us are timed in
// batches of that length, so that the clock does not count for more than 2 %;
// their percentiles are those of the batches' means. The garbage collector of
// the processes that measure is forced every 100 ms meanwhile (-gc): a wait
// that does not let it stop the world shows in p99; "getpid under GC" collects
// at every millisecond. "after 1 ms" is an operation before which nothing was
// asked for that time. CPU time is the processes'
// CPU clocks, children included, before and after.
//
// Devices are used by their raw nodes, past the kernel's cache: md, memory of
// the dev component, which each transfer crosses to, and etfs, an image of the
// host at /dev/shm. Linux's peer of both is pread and pwrite on a file there. The
// cipher of cgd is measured by itself.
//
// A crossing is made by file systems that the kernel must not cache: stat and
// open use a tmpfs mounted with nocache, pread and pwrite a hostfs over the same
// /dev/shm that Linux is measured on. Linux's
// calls are raw system calls with prepared arguments, the least that a Go
// program can pay.
//
// What goes wrong. A peer that the machine lacks (/dev/fuse, /dev/shm) is left
// out with a line on standard error. A machine with less than three idle CPUs
// cannot run program, kernel and component at once: crossings then include
// the host's context switches, for us as for the peers.
//
// With -soak N it makes N operations as a remote client, most of them hits, and
// compares memory, ring slots, descriptors and threads of all processes before
// and after.
//
// The program plays all processes itself: it executes itself with
// RUMPUS_BENCH_ROLE set, and the supervisor starts it as the components.
package main
