package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var ddVerb = &verb{
	name: "dd", group: groupDevices, synopsis: []string{"[OPERAND=VALUE ...]"}, max: -1,
	short: "copy blocks between files and devices, here and in the kernel",
	long: []string{
		"Copies if= to of= as dd(1) does. A path of the kernel is written kernel:/path, all others are the host's; without them it is standard input and output.",
		"   if=FILE, of=FILE     from where, to where\n" +
			"   bs=N                 bytes of a block; ibs= and obs= for one side (512)\n" +
			"   count=N              copy so many blocks of input\n" +
			"   skip=N, iseek=N      leave out so many blocks of input first\n" +
			"   seek=N, oseek=N      leave so many blocks of output as they are\n" +
			"   conv=WORD,...        sync: fill blocks of input with NULs; noerror: go\n" +
			"                        on after an error of reading; notrunc: do not cut\n" +
			"                        the output; excl, nocreat: it must be new, or be\n" +
			"                        there; fsync, fdatasync: it is on the disk at the\n" +
			"                        end; sparse: leave out blocks of NULs; swab,\n" +
			"                        lcase, ucase\n" +
			"   status=WORD          none: no summary; noxfer: without the rate;\n" +
			"                        progress: how far it is, each second",
		"N is a number, with b (512), k, m, g or t (powers of 1024) behind it, or several with x between. While it runs longer than a second on a terminal, dd shows how far it is even without status=progress, but not with --quiet.",
	},
	examples: []example{
		{"rumpus dd if=kernel:/dev/disk0 of=disk.img bs=1m status=progress", "A disk of the kernel into a file."},
		{"rumpus dd if=boot.bin of=kernel:/dev/disk0 bs=512 seek=1 conv=notrunc,fsync", "A few sectors of it."},
	},
	setup: func(*pflag.FlagSet) runFunc {
		return func(ctx context.Context, c *call, args []string) error {
			d, err := parseDD(args)
			if err != nil {
				return err
			}
			return d.run(ctx, c)
		}
	},
}

// dd is one copy: what was asked for, and how far it is.
type dd struct {
	in, out               string
	ibs, obs, count       int64 // count < 0: all
	skip, seek            int64 // blocks
	conv                  []string
	status                string
	inFull, inPart        int64
	outFull, outPart      int64
	bytes                 atomic.Int64 // written
	begin                 time.Time
	src                   input
	dst                   output
	inPos, outPos, sought int64 // bytes
	inType                abi.VType
	inSize                int64
	pend                  []byte
}

const maxBlock = 1 << 30

// parseDD reads the operands.
func parseDD(args []string) (*dd, error) {
	d := &dd{ibs: 512, obs: 512, count: -1}
	seen := map[string]bool{}
	bs := int64(0)
	for _, a := range args {
		name, val, ok := strings.Cut(a, "=")
		switch {
		case !ok:
			return nil, usagef("operand %q is not NAME=VALUE", a)
		case name == "iseek":
			name = "skip"
		case name == "oseek":
			name = "seek"
		}
		if seen[name] {
			return nil, usagef("%s= is there twice", name)
		}
		seen[name] = true
		var err error
		number := func(low, high int64) (n int64) {
			if n, err = ddNumber(val); err == nil && (n < low || n > high) {
				err = usagef("%s: %q is not %d to %d", name, val, low, high)
			}
			return n
		}
		switch name {
		case "if", "of":
			if val == "" {
				return nil, usagef("%s= has no name", name)
			}
			if name == "if" {
				d.in = val
			} else {
				d.out = val
			}
		case "bs":
			bs = number(1, maxBlock)
		case "ibs":
			d.ibs = number(1, maxBlock)
		case "obs":
			d.obs = number(1, maxBlock)
		case "count":
			d.count = number(0, math.MaxInt64)
		case "skip":
			d.skip = number(0, math.MaxInt64)
		case "seek":
			d.seek = number(0, math.MaxInt64)
		case "status":
			if d.status = val; !slices.Contains([]string{"none", "noxfer", "progress"}, val) {
				err = usagef("status=%s: only none, noxfer and progress", val)
			}
		case "conv":
			d.conv = strings.Split(val, ",")
			for _, w := range d.conv {
				if !slices.Contains([]string{"sync", "noerror", "notrunc", "excl", "nocreat", "fsync", "fdatasync", "sparse", "swab", "lcase", "ucase"}, w) {
					err = usagef("conv=%s is not supported", w)
				}
			}
			if d.is("lcase") && d.is("ucase") || d.is("excl") && d.is("nocreat") {
				err = usagef("conv=%s: two that do not go together", val)
			}
		default:
			err = usagef("there is no operand %s=", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if bs > 0 {
		d.ibs, d.obs = bs, bs
	}
	if d.skip > math.MaxInt64/d.ibs || d.seek > math.MaxInt64/d.obs {
		return nil, usagef("skip or seek is too large")
	}
	return d, nil
}

// is reports whether conv has a word.
func (d *dd) is(word string) bool { return slices.Contains(d.conv, word) }

// ddNumber reads 512, 64k, 1m, 2x512.
func ddNumber(s string) (int64, error) {
	product := int64(1)
	for _, f := range strings.Split(strings.ToLower(s), "x") {
		n, i := int64(0), 0
		for ; i < len(f) && f[i] >= '0' && f[i] <= '9'; i++ {
			if n > (math.MaxInt64-9)/10 {
				return 0, usagef("%q is too large", s)
			}
			n = n*10 + int64(f[i]-'0')
		}
		unit, ok := map[string]int64{"": 1, "b": 512, "w": 4, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}[f[i:]]
		if i == 0 || !ok {
			return 0, usagef("%q is no number, such as 512, 64k, 1m, 2x512", s)
		}
		if n > math.MaxInt64/unit || n*unit > 0 && product > math.MaxInt64/(n*unit) {
			return 0, usagef("%q is too large", s)
		}
		product *= n * unit
	}
	return product, nil
}

// run copies, and says what was copied.
func (d *dd) run(ctx context.Context, c *call) (err error) {
	if err := d.open(ctx, c); err != nil {
		if d.src != nil {
			d.src.close(context.WithoutCancel(ctx))
		}
		return err
	}
	d.begin = time.Now()
	stop := d.progress(c)
	err = d.copy(ctx, c)
	if err == nil || d.is("noerror") {
		if ferr := d.flush(ctx, true); err == nil {
			err = ferr
		}
	}
	if err == nil {
		err = d.finish(ctx)
	}
	stop()
	end := context.WithoutCancel(ctx)
	d.src.close(end)
	if cerr := d.dst.close(end); err == nil {
		err = cerr
	}
	d.summary(c)
	return err
}

// open opens both sides and moves to where it begins.
func (d *dd) open(ctx context.Context, c *call) (err error) {
	var kern *kernelTree
	tree := func(arg string) (tree, string, error) {
		p, kernel := kernelSide(arg)
		if !kernel {
			return &hostTree{}, p, nil
		}
		if kern == nil {
			k, err := c.kernel(ctx)
			if err != nil {
				return nil, "", err
			}
			kern = &kernelTree{k}
		}
		return kern, p, nil
	}
	if d.in == "" {
		d.src = &stdio{r: c.stdin}
	} else {
		t, p, err := tree(d.in)
		if err != nil {
			return err
		}
		if d.src, err = t.open(ctx, p); err != nil {
			return err
		}
	}
	st, err := d.src.stat(ctx)
	if err != nil {
		return err
	}
	positioned(d.src, &st)
	d.inType, d.inSize = st.Type, st.Size
	if err := d.skipInput(ctx, &st); err != nil {
		return err
	}
	d.sought = d.seek * d.obs
	d.outPos = d.sought
	if d.out == "" {
		d.dst = &stdio{w: c.stdout}
		return nil
	}
	t, p, err := tree(d.out)
	if err != nil {
		return err
	}
	d.dst, err = openOutput(ctx, t, p, d.is("excl"), d.is("nocreat"), func(st *abi.Stat) (int64, bool) {
		return d.sought, st.Type == abi.VREG && !d.is("notrunc")
	})
	return err
}

// positioned has a disk read and written by offsets, as a file is.
func positioned(f any, st *abi.Stat) {
	stream := st.Type != abi.VREG && st.Type != abi.VBLK
	switch f := f.(type) {
	case *kernelFile:
		f.stream = stream
	case *hostFile:
		f.stream = stream
	}
}

// skipInput leaves out skip blocks: of a file or a disk by its offset, of others
// by reading.
func (d *dd) skipInput(ctx context.Context, st *abi.Stat) error {
	to := d.skip * d.ibs
	if st.Type == abi.VREG || st.Type == abi.VBLK {
		d.inPos = to
		return nil
	}
	b := make([]byte, d.ibs)
	for range d.skip {
		n, err := d.src.readAt(ctx, b, d.inPos)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		d.inPos += int64(n)
	}
	return nil
}

// copy reads until the end or count.
func (d *dd) copy(ctx context.Context, c *call) error {
	buf := make([]byte, d.ibs)
	for d.count < 0 || d.inFull+d.inPart < d.count {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := d.src.readAt(ctx, buf, d.inPos)
		if err != nil {
			if !d.is("noerror") || ctx.Err() != nil || exitCode(err) == exitNoKernel {
				return err
			}
			c.fail(err)
			d.inPos += d.ibs
			d.inPart++
			if d.inType != abi.VBLK && d.inType != abi.VREG || d.inPos >= d.inSize {
				return nil
			}
			if !d.is("sync") {
				continue
			}
			clear(buf)
			if err := d.put(ctx, buf); err != nil {
				return err
			}
			continue
		}
		if n == 0 {
			return nil
		}
		d.inPos += int64(n)
		b := buf[:n]
		if int64(n) == d.ibs {
			d.inFull++
		} else {
			d.inPart++
			if d.is("sync") {
				b = buf
				clear(b[n:])
			}
		}
		d.convert(b)
		if err := d.put(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// convert changes bytes in place.
func (d *dd) convert(b []byte) {
	if d.is("swab") {
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
	lower, upper := d.is("lcase"), d.is("ucase")
	if !lower && !upper {
		return
	}
	for i, x := range b {
		switch {
		case lower && x >= 'A' && x <= 'Z':
			b[i] = x + 'a' - 'A'
		case upper && x >= 'a' && x <= 'z':
			b[i] = x - ('a' - 'A')
		}
	}
}

// put writes a block of input, in blocks of output.
func (d *dd) put(ctx context.Context, b []byte) error {
	if d.ibs == d.obs {
		return d.write(ctx, b)
	}
	d.pend = append(d.pend, b...)
	return d.flush(ctx, false)
}

// flush writes the whole blocks that there are, with all what is left as well.
func (d *dd) flush(ctx context.Context, all bool) error {
	for int64(len(d.pend)) >= d.obs || all && len(d.pend) > 0 {
		n := min(int64(len(d.pend)), d.obs)
		if err := d.write(ctx, d.pend[:n]); err != nil {
			return err
		}
		d.pend = append(d.pend[:0], d.pend[n:]...)
	}
	return nil
}

// write writes one block.
func (d *dd) write(ctx context.Context, b []byte) error {
	if _, plain := d.dst.(*stdio); !plain && d.is("sparse") && len(bytes.TrimLeft(b, "\x00")) == 0 {
		// Left out: finish makes the file as long as it should be.
	} else if err := d.dst.writeAt(ctx, b, d.outPos); err != nil {
		return err
	}
	d.outPos += int64(len(b))
	d.bytes.Add(int64(len(b)))
	if int64(len(b)) == d.obs {
		d.outFull++
	} else {
		d.outPart++
	}
	return nil
}

// finish makes the output durable, and a sparse one whole.
func (d *dd) finish(ctx context.Context) error {
	o, ok := d.dst.(*ddOutput)
	if !ok {
		return nil
	}
	if d.is("sparse") && o.st.Type == abi.VREG {
		if st, err := o.stat(ctx); err != nil {
			return err
		} else if st.Size < d.outPos {
			if err := o.truncate(ctx, d.outPos); err != nil {
				return err
			}
		}
	}
	if d.is("fsync") || d.is("fdatasync") {
		return o.sync(ctx)
	}
	return nil
}

// progress shows how far it is, until the function that it gives is called.
func (d *dd) progress(c *call) (stop func()) {
	if d.status == "none" || d.status == "noxfer" || d.status == "" && (c.quiet || !isTerminal(c.stderr)) {
		return func() {}
	}
	tty := isTerminal(c.stderr)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		shown := false
		for {
			select {
			case <-quit:
				if shown && tty {
					fmt.Fprint(c.stderr, "\r\033[K")
				}
				return
			case <-tick.C:
			}
			shown = true
			line := d.rate()
			c.mu.Lock()
			if tty {
				fmt.Fprintf(c.stderr, "\r\033[K%s", line)
			} else {
				fmt.Fprintln(c.stderr, line)
			}
			c.mu.Unlock()
		}
	}()
	return func() { close(quit); <-done }
}

// rate is how much was transferred, and how fast.
func (d *dd) rate() string {
	n, t := d.bytes.Load(), time.Since(d.begin).Seconds()
	return fmt.Sprintf("%d bytes transferred in %.3f secs (%.0f bytes/sec)", n, t, float64(n)/max(t, 1e-6))
}

// summary is what dd says at the end.
func (d *dd) summary(c *call) {
	if d.status == "none" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.stderr, "%d+%d records in\n%d+%d records out\n", d.inFull, d.inPart, d.outFull, d.outPart)
	if d.status != "noxfer" {
		fmt.Fprintln(c.stderr, d.rate())
	}
}

// stdio is standard input or output as a side of dd.
type stdio struct {
	r io.Reader
	w io.Writer
}

func (s *stdio) stat(context.Context) (st abi.Stat, err error) {
	st.Type = abi.VFIFO
	return st, nil
}

func (s *stdio) readAt(_ context.Context, b []byte, _ int64) (int, error) {
	n, err := s.r.Read(b)
	if n > 0 || errors.Is(err, io.EOF) {
		return n, nil
	}
	if err != nil {
		err = fmt.Errorf("standard input: %w", err)
	}
	return n, err
}

func (s *stdio) data(_ context.Context, off, size int64) (int64, int64) { return off, size }

func (s *stdio) writeAt(_ context.Context, b []byte, _ int64) error {
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

func (s *stdio) truncate(context.Context, int64) error          { return nil }
func (s *stdio) setattr(context.Context, *abi.Stat, bool) error { return nil }
func (s *stdio) close(context.Context) error                    { return nil }

// ddOutput is an output that dd can also make durable.
type ddOutput struct {
	output
	st   abi.Stat
	stat func(context.Context) (abi.Stat, error)
	sync func(context.Context) error
}

// openOutput opens a file for writing without emptying it; cut says whether and
// where it is cut off. excl: it must be new; nocreat: it must be there.
func openOutput(ctx context.Context, t tree, p string, excl, nocreat bool, cut func(*abi.Stat) (int64, bool)) (output, error) {
	o := &ddOutput{}
	if kt, ok := t.(*kernelTree); ok {
		flags := abi.O_WRONLY | abi.O_CREAT | abi.O_CLOEXEC
		if nocreat {
			flags &^= abi.O_CREAT
		}
		if excl {
			flags |= abi.O_EXCL
		}
		fd, err := kt.k.Open(ctx, p, flags, 0o666)
		if err != nil {
			return nil, err
		}
		f := &kernelFile{k: kt.k, fd: fd, path: p}
		o.output, o.stat, o.sync = f, f.stat, func(ctx context.Context) error { return named(kt.k.Fsync(ctx, fd), p) }
	} else {
		flags := os.O_WRONLY | os.O_CREATE
		if nocreat {
			flags &^= os.O_CREATE
		}
		if excl {
			flags |= os.O_EXCL
		}
		hf, err := os.OpenFile(p, flags, 0o666)
		if err != nil {
			return nil, err
		}
		f := &hostFile{f: hf}
		o.output, o.stat, o.sync = f, f.stat, func(context.Context) error { return hf.Sync() }
	}
	var err error
	o.st, err = o.stat(ctx)
	positioned(o.output, &o.st)
	if err == nil {
		if at, ok := cut(&o.st); ok {
			err = o.truncate(ctx, at)
		}
	}
	if err != nil {
		o.close(ctx)
		return nil, err
	}
	return o, nil
}
