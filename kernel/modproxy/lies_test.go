package modproxy_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// full is a file system with everything.
type full interface {
	vfsops.FS
	vfsops.Creator
	vfsops.Remover
	vfsops.Renamer
	vfsops.Linker
	vfsops.Symlinker
	vfsops.Mknoder
	vfsops.Setattrer
	vfsops.Writer
	vfsops.Truncater
	vfsops.Xattrer
	vfsops.Fallocater
	vfsops.Readlinker
	vfsops.Pager
	vfsops.Pinner
	vfsops.Reclaimer
	vfsops.Reserver
	vfsops.Syncer
	vfsops.Accesser
	vfsops.HoleSeeker
}

// node is a good entry of mount 3.
func node(id abi.Fileid, typ abi.VType) vfsops.Entry {
	v := abi.Vattr{Type: typ, Mode: 0o644, Nlink: 1, Fileid: id, Gen: 1}
	return vfsops.Entry{Handle: v.Handle(3), Vattr: v}
}

func with(e vfsops.Entry, f func(e *vfsops.Entry)) vfsops.Entry {
	f(&e)
	return e
}

var (
	dir  = node(2, abi.VDIR)
	file = node(7, abi.VREG)
	link = node(8, abi.VLNK)
)

func entryArgs(e vfsops.Entry) []byte   { return (*wire.Entry)(&e).Append(nil) }
func attrArgs(v abi.Vattr) []byte       { return (*wire.Vattr)(&v).Append(nil) }
func mutArgs(m vfsops.Mutated) []byte   { return (*wire.Mutated)(&m).Append(nil) }
func numArgs(n int64) []byte            { return (&wire.NumRes{N: n}).Append(nil) }
func addrArgs(a abi.Sockaddr) []byte    { return (&wire.AddrMsg{Addr: a}).Append(nil) }
func traceOf(es ...vfsops.Entry) []byte { return (*wire.Trace)(&es).Append(nil) }
func direntsOf(ds ...abi.Dirent) []byte { return (*wire.Dirents)(&ds).Append(nil) }
func lookArgs(n uint32, e abi.Errno) []byte {
	return (&wire.LookupRes{N: n, Err: e}).Append(nil)
}

type lie struct {
	name    string
	args    []byte
	payload []byte
	call    func(ctx context.Context, fs full) error
}

func callRoot(ctx context.Context, fs full) error { _, err := fs.Root(ctx); return err }
func callLookup(ctx context.Context, fs full) error {
	_, err := fs.Lookup(ctx, vfsops.LookupReq{Start: dir.Handle, Names: [][]byte{[]byte("a"), []byte("b")}})
	return err
}
func callGetattr(ctx context.Context, fs full) error {
	_, err := fs.Getattr(ctx, file.Handle)
	return err
}
func callReaddir(ctx context.Context, fs full) error {
	_, err := fs.Readdir(ctx, vfsops.ReaddirReq{Dir: dir.Handle, Cookie: 5, Max: 4096})
	return err
}
func callCreate(ctx context.Context, fs full) error {
	_, err := fs.Create(ctx, vfsops.CreateReq{Op: op, Dir: dir.Handle, Name: []byte("x")})
	return err
}
func callRemove(ctx context.Context, fs full) error {
	_, err := fs.Remove(ctx, vfsops.RemoveReq{Op: op, Dir: dir.Handle, Name: []byte("x"), Victim: file.Handle})
	return err
}
func callLink(ctx context.Context, fs full) error {
	_, err := fs.Link(ctx, vfsops.LinkReq{Op: op, Dir: dir.Handle, Name: []byte("x"), Node: file.Handle})
	return err
}
func callWrite(ctx context.Context, fs full) error {
	_, err := fs.Write(ctx, vfsops.WriteReq{Op: op, Node: file.Handle, Off: 10}, abi.IovOf([]byte("hello")))
	return err
}

func writeArgs(n int, off int64, v abi.Vattr) []byte {
	return (*wire.WriteRes)(&vfsops.WriteRes{N: n, Off: off, Vattr: v}).Append(nil)
}

var eof = (&wire.ReaddirRes{EOF: true}).Append(nil)

var lies = []lie{
	{"root of another mount", entryArgs(with(dir, func(e *vfsops.Entry) { e.Handle.FS = 4 })), nil, callRoot},
	{"root is a file", entryArgs(file), nil, callRoot},
	{"root without id", entryArgs(with(dir, func(e *vfsops.Entry) { e.Handle.File, e.Vattr.Fileid = 0, 0 })), nil, callRoot},
	{"root of two minds", entryArgs(with(dir, func(e *vfsops.Entry) { e.Vattr.Fileid = 9 })), nil, callRoot},
	{"root of two generations", entryArgs(with(dir, func(e *vfsops.Entry) { e.Vattr.Gen = 9 })), nil, callRoot},
	{"root cut short", entryArgs(dir)[:50], nil, callRoot},
	{"unknown type", attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Type = 9 }).Vattr), nil, callGetattr},
	{"no type", attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Type = 0 }).Vattr), nil, callGetattr},
	{"negative size", attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Size = -1 }).Vattr), nil, callGetattr},
	{"negative bytes", attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Bytes = -1 }).Vattr), nil, callGetattr},
	{"nanoseconds", attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Mtime.Nsec = 1e9 }).Vattr), nil, callGetattr},
	{"attributes of another", attrArgs(dir.Vattr), nil, callGetattr},
	{"trace: count", lookArgs(2, 0), traceOf(dir), callLookup},
	{"trace: no reason", lookArgs(1, 0), traceOf(dir), callLookup},
	{"trace: nothing", lookArgs(0, 0), nil, callLookup},
	{"trace: through a file", lookArgs(2, 0), traceOf(file, file), callLookup},
	{"trace: through a link", lookArgs(2, 0), traceOf(link, file), callLookup},
	{"trace: another mount", lookArgs(1, abi.ENOENT), traceOf(with(dir, func(e *vfsops.Entry) { e.Handle.FS = 1 })), callLookup},
	{"trace: odd length", lookArgs(1, abi.ENOENT), traceOf(dir)[1:], callLookup},
	{"trace: errno", lookArgs(0, 700), nil, callLookup},
	{"readdir: dot dot", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Name: ".."}), callReaddir},
	{"readdir: dot", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Name: "."}), callReaddir},
	{"readdir: slash", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Name: "a/b"}), callReaddir},
	{"readdir: NUL", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Name: "a\x00"}), callReaddir},
	{"readdir: no name", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6}), callReaddir},
	{"readdir: no id", eof, direntsOf(abi.Dirent{Cookie: 6, Name: "a"}), callReaddir},
	{"readdir: type", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Type: 99, Name: "a"}), callReaddir},
	{"readdir: old cookie", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 5, Name: "a"}), callReaddir},
	{"readdir: cookies fall", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 9, Name: "a"}, abi.Dirent{Fileid: 1, Cookie: 8, Name: "b"}), callReaddir},
	{"readdir: for ever", (&wire.ReaddirRes{}).Append(nil), nil, callReaddir},
	{"readdir: cut", eof, direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Name: "abc"})[:20], callReaddir},
	{"create: nothing", mutArgs(vfsops.Mutated{Dir: dir.Vattr}), nil, callCreate},
	{"create: a directory", mutArgs(vfsops.Mutated{Node: dir, Dir: dir.Vattr}), nil, callCreate},
	{"create: in another", mutArgs(vfsops.Mutated{Node: file, Dir: node(5, abi.VDIR).Vattr}), nil, callCreate},
	{"create: in a file", mutArgs(vfsops.Mutated{Node: file, Dir: node(2, abi.VREG).Vattr}), nil, callCreate},
	{"create: second directory", mutArgs(vfsops.Mutated{Node: file, Dir2: dir.Vattr}), nil, callCreate},
	{"create: a victim", mutArgs(vfsops.Mutated{Node: file, Victim: file.Vattr}), nil, callCreate},
	{"remove: another", mutArgs(vfsops.Mutated{Victim: link.Vattr}), nil, callRemove},
	{"link: another", mutArgs(vfsops.Mutated{Node: link}), nil, callLink},
	{"write: too much", writeArgs(6, 10, file.Vattr), nil, callWrite},
	{"write: negative", writeArgs(-1, 10, file.Vattr), nil, callWrite},
	{"write: elsewhere", writeArgs(5, 11, file.Vattr), nil, callWrite},
	{"write: another", writeArgs(5, 10, link.Vattr), nil, callWrite},
	{"reserve: more", numArgs(11), nil, func(ctx context.Context, fs full) error { _, err := fs.Reserve(ctx, 10); return err }},
	{"seek: back", numArgs(9), nil, func(ctx context.Context, fs full) error {
		_, err := fs.Seek(ctx, file.Handle, 10, abi.SEEK_DATA)
		return err
	}},
	{"seek: from nowhere", numArgs(0), nil, func(ctx context.Context, fs full) error {
		_, err := fs.Seek(ctx, file.Handle, -1, abi.SEEK_HOLE)
		return err
	}},
	{"readlink: NUL", nil, []byte("a\x00b"), func(ctx context.Context, fs full) error { _, err := fs.Readlink(ctx, link.Handle); return err }},
	{"readlink: long", nil, make([]byte, 1024), func(ctx context.Context, fs full) error { _, err := fs.Readlink(ctx, link.Handle); return err }},
	{"listxattr: open", nil, []byte("user.a"), func(ctx context.Context, fs full) error { _, err := fs.Listxattr(ctx, file.Handle); return err }},
	{"readpages: short", nil, []byte("x"), func(ctx context.Context, fs full) error {
		return fs.ReadPages(ctx, file.Handle, 0, abi.IovOf(make([]byte, 4096)))
	}},
	{"read: long", nil, make([]byte, 11), func(ctx context.Context, fs full) error {
		_, err := fs.Read(ctx, file.Handle, 0, abi.IovOf(make([]byte, 10)))
		return err
	}},
	{"statvfs: cut", []byte{1, 2, 3}, nil, func(ctx context.Context, fs full) error { _, err := fs.Statvfs(ctx); return err }},
	{"truncate: another", attrArgs(dir.Vattr), nil, func(ctx context.Context, fs full) error {
		_, err := fs.Truncate(ctx, op, file.Handle, 5)
		return err
	}},
}

// TestLies: each is EIO and ends the link.
func TestLies(t *testing.T) {
	for _, tc := range lies {
		t.Run(tc.name, func(t *testing.T) {
			f, l, fs, _ := mounted(t)
			f.reply = func(r *stream.Request) {
				if len(tc.payload) > int(r.Header.ReplyLen) {
					r.Header.ReplyLen = wire.MaxPayload // say it all the same
				}
				r.Reply(0, tc.args, abi.IovOf(tc.payload))
			}
			if err := tc.call(t.Context(), fs.(full)); abi.ErrnoOf(err) != abi.EIO {
				t.Errorf("%v, want EIO", err)
			}
			wantLie(t, l)
		})
	}
}

// TestTruths: the same calls with honest answers pass.
func TestTruths(t *testing.T) {
	f, l, fs, _ := mounted(t)
	for name, tc := range map[string]lie{
		"root":    {args: entryArgs(dir), call: callRoot},
		"getattr": {args: attrArgs(file.Vattr), call: callGetattr},
		"lookup":  {args: lookArgs(2, 0), payload: traceOf(dir, file), call: callLookup},
		"partial": {args: lookArgs(1, abi.ENOENT), payload: traceOf(dir), call: callLookup},
		"stopped": {args: lookArgs(1, 0), payload: traceOf(link), call: callLookup},
		"readdir": {args: eof, payload: direntsOf(abi.Dirent{Fileid: 1, Cookie: 6, Type: abi.VREG, Name: "a"}), call: callReaddir},
		"create":  {args: mutArgs(vfsops.Mutated{Node: file, Dir: dir.Vattr}), call: callCreate},
		"remove":  {args: mutArgs(vfsops.Mutated{Dir: dir.Vattr, Victim: file.Vattr}), call: callRemove},
		"link":    {args: mutArgs(vfsops.Mutated{Node: file, Dir: dir.Vattr}), call: callLink},
		"write":   {args: writeArgs(5, 10, file.Vattr), call: callWrite},
	} {
		f.reply = func(r *stream.Request) { r.Reply(0, tc.args, abi.IovOf(tc.payload)) }
		if err := tc.call(t.Context(), fs.(full)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
	f.reply = func(r *stream.Request) {
		r.Reply(0, attrArgs(with(file, func(e *vfsops.Entry) { e.Vattr.Mode = 0o170644 }).Vattr), nil)
	}
	if v, err := fs.Getattr(t.Context(), file.Handle); err != nil || v.Mode != 0o644 {
		t.Errorf("mode %o, %v", v.Mode, err)
	}
}

// TestSockDevLies: the same for sockets and devices.
func TestSockDevLies(t *testing.T) {
	type objs struct {
		d sockops.Domain
		c devops.Chr
	}
	buf := make([]byte, 10)
	inet6 := abi.SockaddrFrom(netip.MustParseAddrPort("[::1]:1"))
	mixed := abi.Sockaddr{Family: abi.AF_INET, Addr: netip.MustParseAddr("::1")}
	for _, tc := range []struct {
		name    string
		args    []byte
		payload []byte
		want    abi.Errno
		call    func(ctx context.Context, o objs) error
	}{
		{"send", numArgs(11), nil, abi.ECONNRESET, func(ctx context.Context, o objs) error {
			_, err := o.d.Send(ctx, 1, sockops.SendReq{}, abi.IovOf(buf))
			return err
		}},
		{"recv", (&wire.RecvRes{N: 5}).Append(nil), []byte("abc"), abi.ECONNRESET, func(ctx context.Context, o objs) error {
			_, err := o.d.Recv(ctx, 1, sockops.RecvReq{}, abi.IovOf(buf))
			return err
		}},
		{"recv control", (&wire.RecvRes{N: 3, Control: buf}).Append(nil), []byte("abc"), abi.ECONNRESET, func(ctx context.Context, o objs) error {
			_, err := o.d.Recv(ctx, 1, sockops.RecvReq{MaxControl: 5}, abi.IovOf(buf))
			return err
		}},
		{"recv from", (&wire.RecvRes{N: 3, From: inet6}).Append(nil), []byte("abc"), abi.ECONNRESET, func(ctx context.Context, o objs) error {
			_, err := o.d.Recv(ctx, 1, sockops.RecvReq{}, abi.IovOf(buf))
			return err
		}},
		{"name", addrArgs(inet6), nil, abi.ECONNRESET, func(ctx context.Context, o objs) error { _, err := o.d.Name(ctx, 1, true); return err }},
		{"name mixed", addrArgs(mixed), nil, abi.ECONNRESET, func(ctx context.Context, o objs) error { _, err := o.d.Name(ctx, 1, true); return err }},
		{"poll", numArgs(-1), nil, abi.ECONNRESET, func(ctx context.Context, o objs) error { _, err := o.d.Poll(ctx, 1); return err }},
		{"accept", []byte("x"), nil, abi.EIO, func(ctx context.Context, o objs) error { _, err := o.d.Accept(ctx, 1, 2); return err }},
		{"dev write", numArgs(11), nil, abi.EIO, func(ctx context.Context, o objs) error {
			_, err := o.c.Write(ctx, 0, 0, abi.IovOf(buf), 0)
			return err
		}},
		{"dev poll", numArgs(1 << 20), nil, abi.EIO, func(ctx context.Context, o objs) error { _, err := o.c.Poll(ctx, 0); return err }},
		{"dev read", nil, make([]byte, 11), abi.EIO, func(ctx context.Context, o objs) error {
			_, err := o.c.Read(ctx, 0, 0, abi.IovOf(buf), 0)
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, l, k := newFake(t, all)
			f.reply = func(r *stream.Request) {
				r.Header.ReplyLen = wire.MaxPayload
				r.Reply(0, tc.args, abi.IovOf(tc.payload))
			}
			err := tc.call(t.Context(), objs{k.Domains[abi.AF_INET], k.Chrs["fakedev"].Ops})
			if abi.ErrnoOf(err) != tc.want {
				t.Errorf("%v, want %v", err, tc.want)
			}
			wantLie(t, l)
		})
	}
}

// TestUpcallLies: what a component may not say by itself.
func TestUpcallLies(t *testing.T) {
	oneway := func(op wire.Op, obj uint64, p []byte) func(f *fake) error {
		return func(f *fake) error { return f.c.Send(op, obj, nil, abi.IovOf(p)) }
	}
	evcnt := func(vs ...wire.EvcntVal) []byte { return (&wire.EvcntMsg{Vals: vs}).Append(nil) }
	for name, up := range map[string]func(f *fake) error{
		"fs name":     func(f *fake) error { return f.up(wire.OpAttachFS, (&wire.AttachFSReq{Name: "a/b"}).Append(nil), nil) },
		"no fs name":  func(f *fake) error { return f.up(wire.OpAttachFS, (&wire.AttachFSReq{}).Append(nil), nil) },
		"sysctl name": func(f *fake) error { return f.up(wire.OpSysctl, (&wire.SysctlReq{Name: "kern\x1b"}).Append(nil), nil) },
		"if class":    func(f *fake) error { return f.up(wire.OpAttachIf, (&wire.IfName{Class: "a b"}).Append(nil), nil) },
		"chr node": func(f *fake) error {
			return f.up(wire.OpAttachChr, (&wire.AttachChrReq{Name: "x", HasNodes: true, Nodes: []devops.Node{{Name: ".."}}}).Append(nil), nil)
		},
		"malformed":     func(f *fake) error { return f.up(wire.OpAttachDomain, []byte("x"), nil) },
		"no upcall":     func(f *fake) error { return f.up(wire.OpMkdir, nil, nil) },
		"ready":         oneway(wire.OpReady, 0, (&wire.ReadyMsg{Edges: []sockops.Ready{{Sock: 99}}}).Append(nil)),
		"ready of none": oneway(wire.OpReady, 0, (&wire.ReadyMsg{Edges: []sockops.Ready{{}}}).Append(nil)),
		"ready garbage": oneway(wire.OpReady, 0, []byte("garbage")),
		"dev-ready":     oneway(wire.OpDevReady, 0, (&wire.DevReadyMsg{Edges: []devops.Ready{{Dev: abi.Makedev(77, 0)}}}).Append(nil)),
		"log module":    oneway(wire.OpLog, 1, (&wire.LogMsg{Text: "x"}).Append(nil)),
		"log garbage":   oneway(wire.OpLog, 0, []byte("x")),
		"evcnt name":    oneway(wire.OpEvcnt, 0, evcnt(wire.EvcntVal{ID: 1, Value: 1})),
		"evcnt id":      oneway(wire.OpEvcnt, 0, evcnt(wire.EvcntVal{ID: 1 << 20, Group: "g", Name: "n"})),
		"evcnt falls":   oneway(wire.OpEvcnt, 0, evcnt(wire.EvcntVal{ID: 1, Group: "g", Name: "n", Value: 5}, wire.EvcntVal{ID: 1, Value: 4})),
	} {
		t.Run(name, func(t *testing.T) {
			_, l, _ := newFake(t, up)
			wantLie(t, l)
		})
	}
}

// TestLateUpcalls: attaching is for Init.
func TestLateUpcalls(t *testing.T) {
	f, l, _ := newFake(t, nil)
	err := f.up(wire.OpAttachFS, (&wire.AttachFSReq{Name: "late"}).Append(nil), nil)
	if abi.ErrnoOf(err) != abi.EPERM {
		t.Errorf("%v, want EPERM", err)
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}
