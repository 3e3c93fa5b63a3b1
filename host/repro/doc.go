// Package repro is for requests that kill: the files in which the kernel keeps
// how to let a file system's process die again, and the run of one.
//
// # The words
//
// A request is poison if a file system's process died over it twice (package
// journal); its client gets EIO. A reproducer is a File: the state of the mount
// at its last checkpoint, the mutators that were answered since, in order, and
// the poison. A run starts one process of the plugin, without a kernel, mounts
// the checkpoint in it, gives it the mutators and then the poison, with the
// times, seeds, callers and file numbers of then; it is the same each time, as
// far as the plugin is.
//
//	f, err := repro.Read(path)
//	r, err := repro.Run(ctx, f, repro.Options{Find: ..., Each: func(s repro.Step) { ... }})
//	fmt.Println(r)   // died: signal 11 at the poison ...
//
// # The file
//
// One line, "rumpus-repro 1 SHA256", the sum of all bytes behind it, which are
// the gzip of a JSON document: File. What a client wrote is in it (names, the
// contents of files), so that its mode is 0600; Redact takes out what it can.
// A file comes from anywhere: Decode bounds its size, also that of what gzip
// makes of it, and checks what it will be used for.
//
// A Dir keeps the files of one host, a bounded number of them.
package repro
