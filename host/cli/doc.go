// Package cli is the command line of rumpus: `rumpus run`, which is the kernel
// host, and the verbs that talk to a running kernel over its socket.
//
// # How it is laid out
//
// A verb is a value of type verb: its name, the group it is listed in, the text
// of its manual page, and a setup function that declares the verb's flags and
// gives back the function that does the work. The list verbs holds all of them;
// dispatch, `rumpus help`, the suggestions for a misspelt name and the table in
// README.md are made from it, so that a verb cannot be there without its manual.
//
//	help.go     the manual      errors.go  messages and exit codes
//	call.go     what a verb is given: streams, global flags, the client
//	text.go     tables, sizes, text that came from the kernel
//	image.go    --image: a kernel in this process, around a disk image
//	sh.go       lines of verbs that share one process of the kernel
//
// A verb's function gets a context that ends on SIGINT, SIGTERM and --timeout,
// and a call. It writes results to call.out, which is flushed when it is done,
// reports an operand that failed with call.fail and goes on with the next, or
// returns an error, which ends it.
//
// # Exit codes
//
// 0; 1 refused, by the kernel or the host; 2 usage or configuration; 3 no kernel
// reached; 4 component not available; 70 kernel panic (`run` only); 130 and 143
// when a signal ended it. Where several operands fail in different ways, the
// highest of their codes.
//
// # What is not trusted
//
// Names, link targets, values and error texts come from the kernel and may come
// from a component that serves a hostile image. What is written to a terminal
// has its control characters replaced (printable), error messages always. cp
// from the kernel refuses names with a "/" in them and writes below an os.Root,
// so that a tree with surprising symbolic links stays below its destination.
//
// There are no locks but call.mu, a leaf: it protects the standard error stream
// and the exit code, which the workers of cp share.
package cli
