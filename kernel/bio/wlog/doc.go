// Package wlog records what is written to a block device, and cuts the power.
// It is for tests: of kernel/bio, of file systems, of drivers.
//
// A Recorder stands between kernel/bio and a device (Mem, or any other) and
// notes each write, flush, discard and mark in a Log, whose Base is the image
// before. It also stands before a redo store, so that the order of both is
// known. CutPower then plays what a power cut may leave: for each prefix of the
// log the writes that a flush has covered are there, and of the others any
// subset, and torn ones. It calls the test for each of these images.
//
//	m := wlog.NewMem(256<<10, 512)
//	rec := wlog.Record(m)
//	... work on rec; rec.Mark([]byte("1")) when something was promised ...
//	err := rec.Log().CutPower(wlog.Cuts{Seed: seed}, func(c *wlog.Crash) error {
//	    // c.Image may be written to; c.Redo is the redo file, nil if there is none
//	})
//
// # The file
//
// A Log can be kept in a file (Log.WriteTo, ReadLog). Numbers are little-endian.
//
//	 0  8  magic "RMPWLOG1"
//	 8  4  sector size, bytes
//	12  4  CRC-32C of the 12 bytes before and the 16 behind
//	16  8  size of the image, bytes
//	24  8  number of records
//	32  .  the base image
//
// and the records, each 40 bytes and its data:
//
//	 0  4  kind: 1 write, 2 flush, 3 discard, 4 zeroes, 5 redo file put in
//	       place, 6 redo file removed, 7 mark
//	 4  4  flags: 1 FUA
//	 8  8  seq, from 1
//	16  8  offset; of a flush, the seq of the last write that it covers
//	24  8  length, bytes of the device
//	32  4  bytes of data that follow
//	36  4  CRC-32C of the 36 bytes before and the data
//
// Locks: Mem.mu and Recorder.mu are leaves.
package wlog
