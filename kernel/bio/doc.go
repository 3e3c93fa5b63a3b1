// Package bio is the block layer: buffers, and what keeps images whole.
//
// # The words
//
// A Disk is a block device that is open here: its requests, and its cached
// blocks. A Buf is a cached block (struct buf), of one Unit. A Request is a buf
// on its way through the driver; biodone is its end. A Handle is one open of a
// Disk, and a file-like view of it. A Layered is a Disk as one mount sees it.
//
// # Requests
//
// The driver is a process that may die with requests in it. The table of
// requests is here, in the kernel's memory: when the driver is back, they are
// issued again, under the same numbers (Policy says otherwise). Each is answered
// once. Requests that overlap, one of which writes, are never in the driver
// together, and go in the order in which they came; a flush goes behind the
// writes before it, and the writes behind it wait for it.
//
// # Blocks
//
// Blocks are cached by device and number, in memory that is counted under the
// kernel's one limit, outside the Go heap. The least recently used go first;
// metadata stay while there are data. Who reads in order has the next blocks
// read ahead, in windows that double; when memory is short, not. Writes stay in
// memory (bdwrite) and are written behind, adjacent blocks in one request, when
// there are many or after some seconds; whole blocks of 64 KiB and more at once go
// to the device before the writer is answered, and are dirty only if it refuses
// them. A block that is written while the device is being given it goes on as a
// copy. Flush writes all of them and flushes the device; what cannot be written
// stays, and the next Flush tries again. Errors of reads are not remembered. The last close writes everything and forgets it.
//
//	h, err := sys.Open(ctx, dev, abi.O_RDWR)
//	n, err := h.ReadAt(ctx, p, off)
//	n, err = h.WriteAt(ctx, p, off, false)
//	err = h.Flush(ctx)
//	err = h.Close(ctx)
//
// # Layers
//
// A component writes metadata in pieces, and may die between two of them. So
// what a mount writes goes to L0, in memory; reads see L0 over L1 over the
// device. When the file system is whole, Checkpoint makes L0 a part of L1: no
// disk write. When the component dies, Drop throws L0 away, and the journal's
// operations are replayed on what is left. Sync is fsync: a checkpoint, then L1
// written to the device, and the device flushed, before it answers; concurrent
// ones share a write-out. L1 leaves memory only then.
//
//	l, err := bio.NewLayered(ctx, h, bio.LayerOptions{Redo: store, ID: id})
//	fs.Mount(..., l.IO())        // the component's BlockIO
//	l.Checkpoint(n, opseq)       // it is whole
//	l.Drop(ctx); l.IO()          // it died, and this is its successor's
//	err = l.Sync(ctx)
//
// Writing out must survive a power cut as well. A file system with a journal of
// its own (Journalled) is written out as it wrote: groups between barriers, in
// order, with a flush of the device behind each. For the others all blocks go to
// a redo file first (RedoStore, ReadRedo); at the next start a complete one is
// replayed. Blocks flagged FRESH, which the last checkpoint does not refer to,
// go straight to the device, if that checkpoint is on it.
//
// # What goes wrong
//
// A device that refuses a write-out: Sync answers the error, L1 stays, and the
// next Sync writes it again. L1 that fills its memory starts a write-out, and
// writers wait for it; L0 that does, asks for a checkpoint, and is ENOSPC at
// twice its share. A component that writes after Drop gets ENXIO. A driver that
// dies of one buf again and again: EIO. One that comes back with another size:
// ENXIO.
//
// # Counters
//
// Group bio: hits, misses, evicted, readahead, readahead_used,
// readahead_dropped, coalesced, writebacks, dirty_waits, overcommit, splits, issued,
// done, done_twice (a bug if it is not 0), reissued, abandoned, errors,
// checkpoints, syncs, writeouts, layers_dropped, layer_waits, fresh,
// redo_replayed; gauges by System.Stats.
//
// # Locks
//
//	System.lockOpen        opens and closes of one device; held over the driver's
//	  a Buf held           Getblk; several only in ascending order
//	    Layered.roundMu    write-outs that are wanted
//	    Layered.mu         layers; never held over I/O
//	      Disk.mu          blocks; never held over I/O
//	        queue.mu       requests
//	        System.mu      the list of devices
//	        slab.mu, Memory  leaves
//
// A Buf may be waited for with others held only if they have lower numbers; the
// flusher and readers wait with empty hands.
package bio
