package tmpfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Rename moves a name, replaces what the target name led to, or with
// abi.RENAME_EXCHANGE swaps two nodes. ESTALE if a name is not what the kernel
// thought, ENOTEMPTY, EISDIR, ENOTDIR, EMLINK, EINVAL for another flag.
//
// That a directory does not move below itself has been seen to by the kernel.
func (f *FS) Rename(ctx context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	if err := checkName(req.TName); err != nil {
		return m, err
	}
	if req.Flags&^(abi.RENAME_EXCHANGE|abi.RENAME_NOREPLACE) != 0 {
		return m, abi.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fd, err := f.getDir(ctx, req.FDir)
	if err != nil {
		return m, err
	}
	td, err := f.getLiveDir(ctx, req.TDir)
	if err != nil {
		return m, err
	}
	fe, err := f.findVictim(ctx, fd, req.FName, req.From)
	if err != nil {
		return m, err
	}
	te := td.dir.find(req.TName)
	if te != nil {
		if _, err := f.nodeOf(ctx, te); err != nil {
			return m, err
		}
	}
	switch {
	case te == nil && !req.To.IsZero(), te != nil && f.handle(te.node) != req.To:
		return m, abi.ESTALE
	case te == nil && req.Flags&abi.RENAME_EXCHANGE != 0:
		return m, abi.ENOENT
	case fe.node == fd || fe.node == td:
		return m, abi.EINVAL // a directory into itself
	}
	var victim *node
	switch {
	case te != nil && te.node == fe.node:
		// Two names of one file: rename(2) does nothing.
	case req.Flags&abi.RENAME_EXCHANGE != 0:
		victim = te.node
		err = f.exchange(fd, td, fe, te, req.Op.Now)
	default:
		if te != nil {
			victim = te.node
		}
		err = f.move(fd, td, fe, te, string(req.TName), req.Op.Now)
	}
	if err != nil {
		return m, err
	}
	// fe and te may have changed hands; the node moved is the one named.
	m.Node = f.entry(f.nodes[req.From.File])
	fd.fill(&m.Dir)
	if td != fd {
		td.fill(&m.Dir2)
	}
	if victim != nil {
		victim.fill(&m.Victim)
	}
	return m, nil
}

// move gives fe's node the name in td, replacing te if there is one.
func (f *FS) move(fd, td *node, fe, te *dirent, name string, now abi.Timespec) error {
	n := fe.node
	gains := n.dir != nil && fd != td // td gets a subdirectory more
	if te != nil {
		v := te.node
		switch {
		case v.dir != nil && n.dir == nil:
			return abi.EISDIR
		case v.dir == nil && n.dir != nil:
			return abi.ENOTDIR
		case v.dir != nil && v.dir.len() > 0:
			return abi.ENOTEMPTY
		}
	} else if gains && td.nlink >= abi.LINK_MAX {
		return abi.EMLINK
	}
	if n.dir != nil {
		fd.nlink--
		td.nlink++
	}
	f.delName(fd, fe, now)
	if te != nil {
		v := te.node
		te.lead(n) // keeps its cookie: the name stays in the directory
		f.changed(td, te)
		if v.dir != nil {
			td.nlink--
		}
		f.dropLink(v, now)
		td.touch(now)
	} else {
		f.addName(td, name, n, now)
	}
	n.ctime = now
	f.mark(n)
	return nil
}

// exchange swaps the nodes of two entries.
func (f *FS) exchange(fd, td *node, fe, te *dirent, now abi.Timespec) error {
	a, b := fe.node, te.node
	if b == fd {
		return abi.EINVAL // td would go into its own subtree
	}
	if fd != td && (a.dir != nil) != (b.dir != nil) {
		from, to := fd, td // who loses and who gains a subdirectory
		if b.dir != nil {
			from, to = td, fd
		}
		if to.nlink >= abi.LINK_MAX {
			return abi.EMLINK
		}
		from.nlink--
		to.nlink++
	}
	fe.lead(b)
	te.lead(a)
	f.changed(fd, fe)
	f.changed(td, te)
	a.ctime, b.ctime = now, now
	f.mark(a)
	f.mark(b)
	fd.touch(now)
	td.touch(now)
	return nil
}
