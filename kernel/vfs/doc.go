// Package vfs is the virtual file system: the mount table, vnodes, namei, the
// caches of names, attributes and file pages, and the one place where access
// to files is authorised.
//
// # The words
//
// A Mount is a file system in the tree (struct mount); its file system sits
// behind vfsops.FS, usually in another process. A Vnode is a file that the
// kernel knows (struct vnode), found by its handle {fsid, fileid, generation}.
// Namei is the walk from a path to a vnode. Where says on whose behalf and from
// which directory a path is meant. Cwdinfo is a process's current directory,
// root directory and umask (struct cwdinfo).
//
// # The usual sequence
//
//	AttachFS -> Mount -> Open, Stat, Mkdir, ... -> Unmount -> DetachInstance
//
// A walk takes what the name cache has without a reference or a message, and
// asks the file system that owns the rest for a whole run of names in one
// Lookup. The answer, a trace of entries, is authorised directory by directory
// and cut at mount points and symbolic links.
//
// A mutator locks what it names, looks the last name up (again), authorises,
// takes its number in the order of the mount (OpSeq), calls the file system,
// and puts the attributes that come back (vfsops.Mutated) into the caches
// before it unlocks.
//
// # What is cached
//
// Of a file system with CapSole: names (also that a name is missing, unless
// CapCasefold), attributes, symbolic links, listings of directories as getdents
// gives them (dirList), and pages: with CapKpages the pages
// here are the contents; with a Pager they are a cache of it. Sizes and times
// that change by reads and writes of cached pages are kept in the vnode and
// written back by Setattr at last close (with CapKpages later: nobody else needs
// them), fsync, sync and reclaim. Of any other
// file system nothing is cached, every question goes through. CapAuthz asks the
// file system for permission too, and so nothing is cached.
//
// A mount with the option nocache is treated like one without CapSole. Contents
// that have no other place than pages here (CapKpages, or a Pager without a
// Writer) stay in pages, and with them what only the kernel knows of size and
// times; names, attributes, links and listings are asked for each time. The
// option cannot be changed by an update of the mount.
//
// Files behind a Pager are read ahead in windows that grow while the reader goes
// on (readAhead, posix_fadvise), and many dirty pages are written behind, both
// by Options.Async. Who does so holds a reference, for which an unmount waits.
//
// All of it is counted against Options.MemLimit (kernel/memlimit), see Memory:
// names, unused vnodes and listings have an eighth each at most, pages what is
// left, and always half. Whoever brings vnodes faster than the drain takes them
// takes some himself. When pages run out, clean pages go first, then listings,
// then dirty pages; pages of CapKpages are never taken, the writer gets ENOSPC.
//
// # POSIX
//
// Package posixtest judges all of it, together with two file systems of Linux's;
// what NetBSD and Linux do differently is listed there. Space for a range of a
// file, and holes in its place, are Fallocate's: pages of a file of CapKpages,
// else the file system's Fallocater; holes are found by those pages, or by the
// HoleSeeker and the pages that were not written back. A directory that was removed while somebody
// has it open has no names but ".".
//
// # Layers
//
// A nullfs shows a directory of another mount: its vnodes stand for lower ones
// (Vnode.base), on which everything is done. It caches nothing and asks below, as
// does authorisation. Its mount holds references below, so that the lower mount
// is busy. Locks of a mount come before those of the mounts below it; a mount is
// always made after those it stands on, so there are no circles. File systems in
// the kernel may open files themselves (FileOpener) and answer by who asks
// (Personal): kernfs, procfs.
//
// # What goes wrong
//
// No vfs component: EOPNOTSUPP from every path operation. A component that
// died: callers wait until it is back or Options.RestartWait is over, then EIO.
// Of a mount with a journal nothing is lost (vfsops.CapRecoverable, without the
// option norecover): kernel/journal stands between the kernel and its file
// system, its binding, vnodes and caches stay, and callers wait in the journal
// with whatever locks they hold. So its recovery takes neither opMu nor a vnode
// lock. Of other mounts, what the component had in memory is gone and open files
// of it answer ESTALE. A forced
// unmount: EIO. Odd answers of a component (a root as a child, a directory
// inside itself, a type that changes) are EIO, never a panic.
//
// # Locks
//
// From the outside in; two locks on one level are never held together unless
// noted:
//
//	file.File.OffMu          a read or write at the file's own offset
//	  VFS.opMu               one mount, unmount or remount at a time
//	    Mount.renameMu       one rename at a time per mount
//	      Vnode.mu           directories: parent before child, else by handle;
//	                         then files, by handle. Shared for Lookup, Getattr,
//	                         Readdir, Read; exclusive for mutators
//	        VFS.mu           mount table
//	        Mount.unpinMu    while pins are taken back, by the drain, sync and unmount
//	        Mount.reclaimMu  shared while a handle is in an answer on its way,
//	                         exclusive while handles are being forgotten
//	          Mount.vmu      vnode table
//	            Mount.treeMu parents of directories
//	              nameShard.mu (only writers; lookups take none)
//	              pagePool.mu
//	              Mount.resMu, Mount.stateMu
//	              Vnode.amu  attributes
//	                dirLists.mu  listings (leaf; readers take none)
//	              VFS.clockMu (leaf)
//	              lockTable.mu (leaf)
//	              storeMu (leaf), the journal's own locks
//
// Only renameMu, Vnode.mu and reclaimMu are held over a call to a file system,
// opMu by mount, unmount and remount, and unpinMu: no file operation waits for
// these two.
// VFS.mu and what is below reclaimMu never are.
//
// A Vnode's reference count needs no lock. A vnode whose count is 0 stays in
// the table until the clock hand takes it; to take it is to make the count
// negative, after which nobody can hold it. The name cache has no references:
// who finds a vnode there holds it (or fails) before depending on it.
package vfs
