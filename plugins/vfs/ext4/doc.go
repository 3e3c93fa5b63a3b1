// Package ext4 is ext2, ext3 and ext4 as mke2fs(8) makes them, on a block device
// of the kernel, as the types "ext4", "ext3" and "ext2": one driver is behind the
// three names, what it finds decides.
//
// The words. A file system is blocks of 1, 2 or 4 KiB in groups. The superblock
// says how many and which features are in use; a group's descriptor where its
// bitmaps of blocks and of inodes are, and its table of inodes. An inode has the
// attributes of a file, and in 60 bytes either the root of a tree of extents or,
// without that feature, the numbers of its first blocks and of blocks that have
// more. A directory is a file of entries; an indexed one has in its first block the
// root of a tree by the hash of names (htree). The journal (package jbd2) is a
// file of its own, inode 8.
//
// # Identity
//
// The file id is the inode number, the generation that of the inode (i_generation).
// An inode that is used again gets a higher one; a replay gets what it asks for.
//
// # How changes are made
//
// Every operation changes blocks in the cache (type tx), of which it keeps what
// they were: one that fails is undone. Blocks that were changed are the running
// transaction. A commit computes the checksums that are left, and writes them to
// the journal, or without one to their places; the contents of files are on the
// device before. Blocks that were freed are not used again before the commit.
//
// # Features
//
// An incompat feature that is not known is EINVAL, by name. With a ro_compat
// feature that is not known, or one that is only read (bigalloc, inline_data,
// ea_inode, large_dir, mmp, quota, verity), the mount is read-only, and the log says
// why. An image that needs recovery is never written by a read-only mount: what
// its journal says is kept in memory.
//
// Mount options:
//
//	errors=continue|remount-ro   what to do on damage; default: as the superblock says
//
// # What goes wrong
//
// The image is hostile. Every number is checked before it is used; trees are
// bounded in depth, scans in length. Damage is EIO for the file that has it, and
// the log names inode and block; the rest stays readable.
//
// # Locks
//
//	Module.mu   which mounts there are
//	FS.mu       everything in one mount, also while metadata is read
//	  FS.ioMu   contents on their way to the device; a commit waits for them
package ext4
