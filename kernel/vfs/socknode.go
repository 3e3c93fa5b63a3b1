package vfs

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// SocketNode is a name of an AF_LOCAL socket: a VSOCK vnode in use, and in it
// whatever the socket layer put there.
type SocketNode struct{ v *Vnode }

// Set puts x into the node.
func (n *SocketNode) Set(x any) {
	n.v.base().assoc.Lock()
	n.v.base().assoc.V = x
	n.v.base().assoc.Unlock()
}

// Get is what Set put in, nil if nobody did.
func (n *SocketNode) Get() any {
	n.v.base().assoc.Lock()
	defer n.v.base().assoc.Unlock()
	return n.v.base().assoc.V
}

// Release lets the vnode go; the name stays.
func (n *SocketNode) Release() { n.v.put() }

// MakeSocket makes a name for a socket, and answers it in use (the file
// system's half of bind(2)). EADDRINUSE if it exists; EROFS; the errors of the
// walk and EACCES.
func (fs *VFS) MakeSocket(ctx context.Context, w Where, path string) (*SocketNode, error) {
	perm := uint32(abi.ACCESSPERMS) &^ w.Cwd.mask()
	var v *Vnode
	err := fs.inParent(ctx, w, path, func(p *parentOp) error {
		if err := p.mayCreate(); err != nil {
			return err
		}
		if p.slash {
			return abi.ENOENT
		}
		if p.b.mknoder == nil {
			return abi.EROFS
		}
		req := vfsops.MknodReq{CreateReq: p.request(perm), Type: abi.VSOCK}
		var err error
		v, err = p.creation(func() (vfsops.Mutated, error) { return p.b.mknoder.Mknod(ctx, req) })
		return err
	})
	if errors.Is(err, abi.EEXIST) {
		err = abi.EADDRINUSE
	}
	if err != nil {
		return nil, err
	}
	return &SocketNode{v}, nil
}

// FindSocket finds a name for somebody who wants to send there, which takes
// permission to write. ENOTSOCK, EACCES; the errors of the walk.
func (fs *VFS) FindSocket(ctx context.Context, w Where, path string) (*SocketNode, error) {
	v, err := fs.namei(ctx, w, path, followLink)
	if err != nil {
		return nil, err
	}
	if v.typ != abi.VSOCK {
		v.put()
		return nil, abi.ENOTSOCK
	}
	var va abi.Vattr
	if err = v.getattr(ctx, &va); err == nil {
		err = v.access(ctx, w.Caller, abi.VWRITE, &va)
	}
	if err != nil {
		v.put()
		return nil, err
	}
	return &SocketNode{v}, nil
}
