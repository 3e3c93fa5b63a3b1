// Package journalsim proves the journal by simulation: a file system of one
// mount dies and comes back hundreds of times while workers use it, and every
// answer is held against an exact model.
//
// # The words
//
// A run (Run) is decided by a seed. A Proc is the process that serves the file
// system, a Store is what of it survives: both are goroutines and memory, and
// the journal between them and the workers is the real one. Workers have a
// directory each and know exactly what is in it; each append has a tag that no
// other has. Whoever calls the Proc, or comes by a fault point of the journal,
// waits for a turn; the seed decides whose it is, and at which turns the process
// dies. Time is that of testing/synctest: hours of waiting cost nothing.
//
// # What is checked
//
//   - every answer: errors, identities, offsets, sizes, contents, attributes,
//     listings; what is acknowledged is there until the end
//   - at the end: as many mutators were executed as acknowledged (nothing is
//     done twice), no file is left, granted pages are those that are known,
//     no replay has diverged, and there is an end
//
// # Using it
//
//	r, err := journalsim.Run(ctx, journalsim.Config{Seed: 7})
//
// err names the seed, the differences, and the last operations, deaths and
// fault points before the first: it is the bug report. Tests pass themselves as
// Config.T.
//
// Config.Fault may break the journal on purpose. The tests of the journal do, to
// show that it would be noticed.
//
// # Locks
//
//	Sim.hookMu   a call of Config.Fault
//	  Sim.mu     turns and what is counted; leaf
//	    Proc.mu  the state of a process
package journalsim
