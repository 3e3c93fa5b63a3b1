// Package fat is the MS-DOS file system: FAT12, FAT16 and FAT32 with long names,
// on a block device of the kernel, as the type "msdos" (mount_msdos(8)).
//
// The words. The device begins with a boot sector, the BIOS parameter block
// (BPB), which says where all the rest is: one or more copies of the file
// allocation table (FAT), on FAT12 and FAT16 a root directory of fixed size, and
// clusters, numbered from 2. The FAT has an entry for each cluster: free, bad,
// the next of its chain, or the chain's end. A directory is a table of slots of
// 32 bytes. A file has one short slot (the name in 8+3 bytes, attributes, times,
// first cluster, size) and in front of it slots with the long name in UTF-16.
//
// # Identity
//
// FAT has no inodes. The file id is the place of the short slot on the device,
// as NetBSD has it, plus 2; the root's is 1. A file that is renamed keeps its id,
// and a file whose place gives an id that is in use gets one from 1<<56 on: both
// are noted in the mount's Store, so that a new process has them too. With the
// mount they are forgotten. The generation is made of the time of creation.
//
// # What is kept where
//
// Slots and FAT are in a cache here and written at a Checkpoint or Sync; file
// contents go to the device when the kernel writes its pages. A part of a file
// that nobody has written yet is filled with zeroes before the next checkpoint.
// What is on the device was whole at every checkpoint, which is all that the
// kernel ever writes to an image: a crash leaves no cross-linked chains. It may
// leave clusters of files that were open without a name, which belong to nobody:
// the dirty flag tells the next mount to look for them (dirty.go).
//
// # Space
//
// FAT has no holes, so what a file needs follows from its size. The kernel has
// space granted for files that grow in its page cache (Reserve), which nobody
// else gets; WritePages takes from it. So ENOSPC comes when a file grows, not
// when it is written back.
//
// # What a format of 1981 does not have
//
// Owners and modes: options say them for the whole mount; chmod(2) can change
// whether a file may be written, chown(2) to others is EINVAL. Links, symbolic
// links and special files: EOPNOTSUPP. Files of 4 GiB and more: EFBIG. Names are
// compared without case, and are what UTF-16 can say without the characters
// "*/:<>?\| and control characters, not ending in a dot or a space: EINVAL. Times
// are of 2 seconds (mtime), of a day (atime), of 10 milliseconds (creation), from
// 1980 to 2107, in the zone that the option gmtoff says; ctime is mtime.
//
// Mount options:
//
//	uid=N, gid=N    owner of everything; default 0
//	mask=OCTAL      permissions of files at most; default 755
//	dirmask=OCTAL   those of directories; default that of mask
//	gmtoff=N        seconds that the times on the disk are ahead of UTC; default 0
//
// # What goes wrong
//
// The image is hostile. Every number is checked before it is used, chains are
// bounded by the number of clusters, directories by 65536 slots, and a directory
// is in one place only, so that the tree has no cycles. What is damaged is EIO for
// that file, or is not shown, and the log says where. When the device
// fails in the middle of a change, the mount takes no further ones (EIO).
//
// # Locks
//
//	Module.mu   which mounts there are
//	FS.mu       everything in one mount; held over reads of the device that
//	            the cache needs, not over transfers of file contents
package fat
