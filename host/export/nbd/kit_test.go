package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const page = 4096

// memDev is a device of memory, sparse by pages as far as it tells.
type memDev struct {
	info    Info
	mu      sync.RWMutex
	b       []byte
	used    []bool // pages
	flushes atomic.Int64
	fuas    atomic.Int64
	gate    chan struct{}                            // nil, or reads wait for it
	fail    func(cmd string, off int64, n int) error // nil, or errors
}

const allOps = OpFlush | OpFUA | OpTrim | OpZeroes | OpFastZeroes | OpExtents | OpMultiConn

func newMem(size int64, ops Ops) *memDev {
	return &memDev{info: Info{Size: size, Ops: ops}, b: make([]byte, size), used: make([]bool, (size+page-1)/page)}
}

func (d *memDev) Info() Info { return d.info }

func (d *memDev) err(cmd string, off int64, n int) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(cmd, off, n)
}

func (d *memDev) ReadAt(ctx context.Context, p []byte, off int64) error {
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := d.err("read", off, len(p)); err != nil {
		return err
	}
	d.mu.RLock()
	copy(p, d.b[off:])
	d.mu.RUnlock()
	return nil
}

func (d *memDev) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	if err := d.err("write", off, len(p)); err != nil {
		return err
	}
	if fua {
		d.fuas.Add(1)
	}
	d.mu.Lock()
	copy(d.b[off:], p)
	for i := off / page; i <= (off+int64(len(p))-1)/page; i++ {
		d.used[i] = true
	}
	d.mu.Unlock()
	return nil
}

func (d *memDev) Flush(context.Context) error {
	d.flushes.Add(1)
	return d.err("flush", 0, 0)
}

func (d *memDev) Trim(ctx context.Context, off, n int64) error {
	return d.WriteZeroes(ctx, off, n, false, true)
}

func (d *memDev) WriteZeroes(_ context.Context, off, n int64, fua, punch bool) error {
	if err := d.err("zero", off, int(n)); err != nil {
		return err
	}
	if fua {
		d.fuas.Add(1)
	}
	d.mu.Lock()
	clear(d.b[off : off+n])
	for i := off / page; i <= (off+n-1)/page; i++ {
		whole := i*page >= off && (i+1)*page <= off+n
		if whole && punch {
			d.used[i] = false
		} else if !punch {
			d.used[i] = true
		}
	}
	d.mu.Unlock()
	return nil
}

func (d *memDev) Extents(_ context.Context, off, n int64, dst []Extent) ([]Extent, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for end := off + n; off < end; {
		i := off / page
		k := min((i+1)*page, d.info.Size) - off
		dst = append(dst, Extent{k, !d.used[i], !d.used[i]})
		off += k
	}
	return dst, nil
}

// fileDev is a file.
type fileDev struct {
	f    *os.File
	size int64
}

func (d fileDev) Info() Info {
	return Info{Size: d.size, Block: 512, Ops: OpFlush | OpTrim | OpZeroes | OpExtents | OpMultiConn}
}

func (d fileDev) ReadAt(_ context.Context, p []byte, off int64) error {
	_, err := d.f.ReadAt(p, off)
	return err
}

func (d fileDev) WriteAt(_ context.Context, p []byte, off int64, _ bool) error {
	_, err := d.f.WriteAt(p, off)
	return err
}

func (d fileDev) Flush(context.Context) error { return unix.Fdatasync(int(d.f.Fd())) }

func (d fileDev) Trim(ctx context.Context, off, n int64) error {
	return d.WriteZeroes(ctx, off, n, false, true)
}

func (d fileDev) WriteZeroes(_ context.Context, off, n int64, _, punch bool) error {
	if !punch {
		return abi.EOPNOTSUPP // the server writes
	}
	return unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (d fileDev) Extents(_ context.Context, off, n int64, dst []Extent) ([]Extent, error) {
	for end := off + n; off < end; {
		data, err := unix.Seek(int(d.f.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			data = d.size
		}
		if data > off {
			dst = append(dst, Extent{data - off, true, true})
			off = data
			continue
		}
		hole, err := unix.Seek(int(d.f.Fd()), off, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		dst = append(dst, Extent{hole - off, false, false})
		off = hole
	}
	return dst, nil
}

func newFile(t testing.TB, size int64) fileDev {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return fileDev{f, size}
}

// serve serves exports on a unix socket and answers its path.
func serve(t testing.TB, o Options, exports ...Export) (*Server, string) {
	t.Helper()
	s := NewServer(o)
	for _, e := range exports {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := Listen("unix:"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		s.Close(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	return s, path
}

// tool is a program, or the test is skipped.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return p
}

// run runs a program that must succeed and answers what it said.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, tool(t, name), args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// raw is a client by hand.
type raw struct {
	t  testing.TB
	nc net.Conn
}

func dialRaw(t testing.TB, path string) *raw {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	return &raw{t, nc}
}

func (c *raw) write(b ...byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.t.Fatalf("reading %d bytes: %v", n, err)
	}
	return b
}

// gone expects the end of the connection.
func (c *raw) gone() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.nc); err != nil && !isReset(err) {
		c.t.Errorf("not ended: %v", err)
	}
}

func isReset(err error) bool {
	e, ok := err.(interface{ Timeout() bool })
	return !ok || !e.Timeout()
}

func (c *raw) hello() {
	c.t.Helper()
	if _, err := proto.ParseGreeting(c.read(proto.GreetingSize)); err != nil {
		c.t.Fatal(err)
	}
	c.write(0, 0, 0, byte(proto.FlagFixedNewstyle|proto.FlagNoZeroes))
}

// option sends an option and reads the replies up to the last one.
func (c *raw) option(o proto.Opt, data []byte) (last proto.Rep, replies [][]byte) {
	c.t.Helper()
	c.write(proto.AppendOption(nil, o, data)...)
	for {
		r, err := proto.ParseReply(c.read(proto.ReplySize))
		if err != nil || r.Opt != o {
			c.t.Fatalf("%+v, %v", r, err)
		}
		b := c.read(int(r.Len))
		if r.Type == proto.RepAck || r.Type.IsErr() {
			return r.Type, replies
		}
		replies = append(replies, b)
	}
}

// start goes into transmission with structured replies or without.
func (c *raw) start(name string, structured bool) {
	c.t.Helper()
	c.hello()
	if structured {
		if r, _ := c.option(proto.OptStructuredReply, nil); r != proto.RepAck {
			c.t.Fatal(r)
		}
		m := proto.MetaRequest{Name: name, Queries: []string{proto.BaseAllocation}}
		if r, l := c.option(proto.OptSetMetaContext, m.Append(nil)); r != proto.RepAck || len(l) != 1 {
			c.t.Fatal(r, l)
		}
	}
	g := proto.GoRequest{Name: name}
	if r, _ := c.option(proto.OptGo, g.Append(nil)); r != proto.RepAck {
		c.t.Fatal(r)
	}
}

func (c *raw) request(q proto.Request, data []byte) {
	c.t.Helper()
	b := make([]byte, proto.RequestSize)
	q.Put(b)
	c.write(append(b, data...)...)
}

// simple reads a simple reply.
func (c *raw) simple() (proto.Error, uint64) {
	c.t.Helper()
	b := c.read(proto.SimpleSize)
	h, err := proto.ParseHead(b)
	if err != nil || h.Structured {
		c.t.Fatalf("%x: %v", b, err)
	}
	return h.Err, h.Chunk.Cookie
}

// chunk reads a chunk.
func (c *raw) chunk() (proto.Chunk, []byte) {
	c.t.Helper()
	b := c.read(proto.ChunkSize)
	h, err := proto.ParseHead(b)
	if err != nil || !h.Structured {
		c.t.Fatalf("%x: %v", b, err)
	}
	return h.Chunk, c.read(int(h.Chunk.Len))
}

// pattern fills p so that every 8 bytes tell where they belong.
func pattern(p []byte, off, seed int64) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(off+int64(i))*0x9e3779b97f4a7c15+uint64(seed))
	}
}
