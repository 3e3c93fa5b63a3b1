package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var update = flag.Bool("update", false, "write the golden files")

type message interface {
	Append([]byte) []byte
	Parse([]byte) error
}

// messages are all of them; the order is that of the golden file and of the
// fuzz corpus.
var messages = []message{
	new(MountReq), new(MountRes), new(Entry), new(Vattr), new(LookupReq), new(LookupRes), new(Trace), new(HandleReq),
	new(HandlesReq), new(ReaddirReq), new(ReaddirRes), new(Dirents), new(IOReq), new(Statvfs), new(CreateReq), new(MknodReq),
	new(SymlinkReq), new(LinkReq), new(RemoveReq), new(RenameReq), new(Mutated), new(SetattrReq), new(WriteReq), new(WriteRes),
	new(TruncateReq), new(XattrReq), new(SetxattrReq), new(FallocReq), new(WritePagesReq), new(SyncReq), new(AccessReq),
	new(NumReq), new(NumRes), new(SocketReq), new(AddrMsg), new(AcceptReq), new(SendReq), new(RecvReq), new(RecvRes),
	new(OptReq), new(RoutesMsg), new(IfConfig), new(IfName), new(IfStats),
	new(DevReq), new(ModSyscallReq), new(HelloReq), new(HelloRes), new(SyscallReq), new(SyscallRes),
	new(AttachFSReq), new(AttachChrReq), new(AttachDomainReq), new(SysctlReq), new(EvcntMsg), new(ReadyMsg), new(DevReadyMsg), new(LogMsg),
	new(InfoRes), new(InitReq), new(SignalMsg),
	new(GeomMsg), new(BufReq), new(AttachBlkReq), new(NodesMsg), new(BlockOpenReq),
	new(StoreKey), new(StoreScanReq), new(StoreRecs), new(StoreBatch),
	new(SeekReq),
}

func name(m message) string { return reflect.TypeOf(m).Elem().Name() }

func fresh(m message) message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(message) }

// random makes a message of m's type with random contents in its limits.
func random(m message, r *rand.Rand) message {
	n := fresh(m)
	fill(reflect.ValueOf(n).Elem(), r)
	switch n := n.(type) {
	case *MountReq:
		n.Fsid = 0 // the frame's object
	case *LookupReq:
		for i := range n.Names {
			n.Names[i] = append(n.Names[i], 'x') // none is empty
		}
	case *SetxattrReq:
		n.Value = nil // the payload
	}
	return n
}

func text(r *rand.Rand) string {
	b := make([]byte, r.IntN(20))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func randAddr(r *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	switch r.IntN(4) {
	case 0:
		return netip.Addr{}
	case 1:
		return netip.AddrFrom4([4]byte(b[:4]))
	case 2:
		return netip.AddrFrom16(b).WithZone("3")
	}
	return netip.AddrFrom16(b)
}

func randProps(r *rand.Rand, depth int) map[string]any {
	m := map[string]any{}
	for range r.IntN(4) {
		m[text(r)] = randProp(r, depth)
	}
	return m
}

func randProp(r *rand.Rand, depth int) any {
	switch k := r.IntN(7); {
	case k == 0:
		return text(r)
	case k == 1:
		return r.IntN(2) == 0
	case k == 2:
		return int64(r.Uint64())
	case k == 3:
		return r.NormFloat64()
	case k == 4 && depth < 3:
		l := make([]any, r.IntN(3))
		for i := range l {
			l[i] = randProp(r, depth+1)
		}
		return l
	case k == 5 && depth < 3:
		return randProps(r, depth+1)
	}
	return text(r)
}

func fill(v reflect.Value, r *rand.Rand) {
	switch v.Addr().Interface().(type) {
	case *netip.Addr:
		v.Set(reflect.ValueOf(randAddr(r)))
		return
	case *netip.Prefix:
		a := randAddr(r).WithZone("")
		v.Set(reflect.ValueOf(netip.PrefixFrom(a, r.IntN(a.BitLen()+1))))
		return
	case *modapi.Props:
		if p := randProps(r, 0); len(p) > 0 {
			v.Set(reflect.ValueOf(modapi.Props(p)))
		}
		return
	case **abi.Caller:
		c := abi.Caller{Cred: new(abi.Cred), Pid: int32(r.Uint32()), Lid: int32(r.Uint32())}
		fill(reflect.ValueOf(c.Cred).Elem(), r)
		v.Set(reflect.ValueOf(&c))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.String:
		v.SetString(text(r))
	case reflect.Slice:
		n := r.IntN(4)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), r)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.Map:
		n := r.IntN(3)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range n {
			v.SetMapIndex(reflect.ValueOf(text(r)), reflect.ValueOf(text(r)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r)
		}
	default:
		panic(v.Type().String())
	}
}

// TestRoundTrip: what is coded decodes to the same, and no proper beginning of
// it decodes at all, unless the message is a list that ends with its bytes.
func TestRoundTrip(t *testing.T) {
	for _, m := range messages {
		t.Run(name(m), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
				want := random(m, r)
				b := want.Append(nil)
				got := fresh(m)
				if err := got.Parse(b); err != nil {
					t.Fatalf("%+v: %v", want, err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("got  %+v\nwant %+v", got, want)
				}
				if err := fresh(m).Parse(append(b[:len(b):len(b)], 0)); err == nil {
					t.Fatal("an extra byte was not noticed")
				}
				if len(b) == 0 {
					return
				}
				n := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
				if err := fresh(m).Parse(b[:n]); err == nil && !openEnded(m) {
					t.Fatalf("cut to %d of %d bytes it decodes", n, len(b))
				}
			})
		})
	}
}

func openEnded(m message) bool {
	switch m.(type) {
	case *Trace, *Dirents:
		return true
	}
	return false
}

func TestGolden(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "# wire major %d: one example of each message; go test -update\n", Major)
	for i, m := range messages {
		r := rand.New(rand.NewPCG(uint64(i), 42))
		fmt.Fprintf(&b, "%s %s\n", name(m), hex.EncodeToString(random(m, r).Append(nil)))
	}
	h := Header{Op: OpWrite, Flags: FlagMutator, ReqID: 0x0102030405060708, Epoch: 0x11121314, OpSeq: 0x2122232425262728,
		Object: 0x3132333435363738, ArgsLen: 3, PayloadLen: 5, ReplyLen: 0x41424, Cred: 0x5152, Class: ClassBlock, Rank: 7}
	fmt.Fprintf(&b, "frame %s\n", hex.EncodeToString(AppendFrame(nil, &h, []byte("abc"), []byte("hello"))))
	for _, op := range Ops() {
		fmt.Fprintf(&b, "op %04x %s class %d keeps %v oneway %v\n", uint16(op), op, op.Class(), op.Keeps(), op.Oneway())
	}
	const file = "testdata/golden.txt"
	if *update {
		os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gl, wl := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range gl {
		if i >= len(wl) || gl[i] != wl[i] {
			t.Errorf("line %d is now\n%s\nThe wire is append only.", i+1, gl[i])
		}
	}
	if len(gl) != len(wl) {
		t.Errorf("%d lines, the golden file has %d", len(gl), len(wl))
	}
}

func TestHeader(t *testing.T) {
	ok := Header{Op: OpRead, ReqID: 1, Epoch: 3, Object: 5, ReplyLen: 100, Class: ClassBlock}
	b := make([]byte, HeaderSize)
	ok.Put(b)
	var got Header
	if err := got.Parse(b); err != nil || got != ok {
		t.Fatalf("%+v, %v", got, err)
	}
	for what, h := range map[string]Header{
		"flags":           {ReqID: 1, Flags: 1 << 9},
		"args":            {ReqID: 1, ArgsLen: MaxArgs + 1},
		"payload":         {ReqID: 1, PayloadLen: MaxPayload + 1},
		"reply length":    {ReqID: 1, ReplyLen: MaxPayload + 1},
		"offset":          {ReqID: 1, ArgsOff: 64},
		"class":           {ReqID: 1, Class: 4},
		"no id":           {},
		"one-way with id": {ReqID: 1, Flags: FlagOneway},
		"one-way reply":   {Flags: FlagOneway | FlagReply},
		"errno":           {ReqID: 1, Errno: 5},
		"errno too large": {ReqID: 1, Flags: FlagReply, Errno: 256},
		"errno negative":  {ReqID: 1, Flags: FlagReply, Errno: -1},
		"errno, payload":  {ReqID: 1, Flags: FlagReply, Errno: 5, PayloadLen: 1},
	} {
		h.Put(b)
		if err := got.Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok.Put(b)
	b[0] = 'X'
	if err := got.Parse(b); !errors.Is(err, ErrMalformed) {
		t.Errorf("magic: %v", err)
	}
	if err := got.Parse(b[:63]); !errors.Is(err, ErrMalformed) {
		t.Errorf("short: %v", err)
	}
}

func TestOps(t *testing.T) {
	for i, op := range Ops() {
		if !op.Known() || op.info() != &ops[i] {
			t.Errorf("%v is not found in the table", op)
		}
		if op.Keeps() && op.Oneway() {
			t.Errorf("%v keeps and has no reply", op)
		}
	}
	for _, op := range []Op{0, 0x0100, 0x02ff, 0x0600, 0xffff, 0x8100, 0x0001} {
		if op.Known() || op.Class() != ClassAdmin {
			t.Errorf("%v is known", op)
		}
	}
}

func TestFits(t *testing.T) {
	long := bytes.Repeat([]byte("n"), 255)
	var names [][]byte
	for range vfsops.MaxNames {
		names = append(names, long)
	}
	n := FitNames(names)
	if n < 30 || n == len(names) {
		t.Errorf("%d of %d long names fit", n, len(names))
	}
	for _, k := range []int{n, n + 1} {
		req := LookupReq{Names: names[:k]}
		if fits := len(req.Append(nil)) <= MaxArgs; fits != (k == n) {
			t.Errorf("%d names: fits %v", k, fits)
		}
	}
	short := make([][]byte, 80)
	for i := range short {
		short[i] = []byte("a")
	}
	if n := FitNames(short); n != vfsops.MaxNames {
		t.Errorf("%d short names", n)
	}
	r := RenameReq{Op: vfsops.Op{Caller: &abi.Caller{Cred: &abi.Cred{Groups: make([]uint32, abi.NGroupsMax)}}}, FName: long, TName: long}
	if n := len(r.Append(nil)); n > MaxArgs {
		t.Errorf("a rename takes %d bytes", n)
	}
	if n := len((&HandlesReq{Nodes: make([]abi.Handle, MaxHandles)}).Append(nil)); n > MaxArgs {
		t.Errorf("%d handles take %d bytes", MaxHandles, n)
	}
	if n := len((*Trace)(&[]vfsops.Entry{{}, {}}).Append(nil)); n != TraceSize(2) {
		t.Errorf("a trace of 2 takes %d bytes, not %d", n, TraceSize(2))
	}
	if n := len(AppendDirent(nil, &abi.Dirent{Name: "abc"})); n != DirentSize+3 || DirentSize > 24 {
		t.Errorf("an entry takes %d bytes", n)
	}
}

func TestCheckProps(t *testing.T) {
	deep := map[string]any{}
	for d, i := deep, 0; i < 10; i++ {
		n := map[string]any{}
		d["x"] = n
		d = n
	}
	loop := map[string]any{}
	loop["loop"] = loop
	for what, tc := range map[string]struct {
		p    modapi.Props
		want error
	}{
		"all":   {modapi.Props{"s": "", "b": true, "i": 1, "n": int64(2), "f": 1.5, "l": []any{"x", 1}, "sl": []string{"a"}, "m": map[string]any{}}, nil},
		"type":  {modapi.Props{"t": struct{}{}}, abi.EINVAL},
		"inner": {modapi.Props{"l": []any{int32(1)}}, abi.EINVAL},
		"deep":  {deep, abi.EINVAL},
		"loop":  {loop, abi.EINVAL},
		"large": {modapi.Props{"s": strings.Repeat("x", 4096)}, abi.ENOMEM},
	} {
		if err := CheckProps(tc.p); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
	}
	var got InitReq
	if err := got.Parse((&InitReq{Props: modapi.Props{"n": 3, "l": []string{"a"}}}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	if want := (modapi.Props{"n": int64(3), "l": []any{"a"}}); !reflect.DeepEqual(got.Props, want) {
		t.Errorf("%#v", got.Props)
	}
}

func TestErrText(t *testing.T) {
	if got := string(ErrText(nil, "a\x1b[31m\n\xffä")); got != "a?[31m??ä" {
		t.Errorf("%q", got)
	}
	if got := ParseErrText(bytes.Repeat([]byte("ä"), 1000)); len(got) > maxErrText {
		t.Errorf("%d bytes", len(got))
	}
}

// TestAllocs: hot messages are coded without allocating.
func TestAllocs(t *testing.T) {
	buf := make([]byte, 0, MaxArgs)
	op := vfsops.Op{Caller: &abi.Caller{Cred: abi.NewCred(1, 1, 2, 3)}}
	lookup := vfsops.LookupReq{Names: [][]byte{[]byte("a"), []byte("b")}}
	create := vfsops.CreateReq{Op: op, Name: []byte("x")}
	write := vfsops.WriteReq{Op: op}
	var mut vfsops.Mutated
	for what, f := range map[string]func(){
		"lookup":  func() { (*LookupReq)(&lookup).Append(buf) },
		"getattr": func() { (&HandleReq{}).Append(buf) },
		"create":  func() { (*CreateReq)(&create).Append(buf) },
		"write":   func() { (&WriteReq{WriteReq: write}).Append(buf) },
		"read":    func() { (&IOReq{Off: 1}).Append(buf) },
		"mutated": func() { (*Mutated)(&mut).Append(buf) },
		"send":    func() { (&SendReq{}).Append(buf) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// FuzzParse: no input panics a decoder, and what decodes codes to something
// that decodes to the same.
func FuzzParse(f *testing.F) {
	for i, m := range messages {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		f.Add(uint8(i), random(m, r).Append(nil))
		f.Add(uint8(i), bytes.Repeat([]byte{0xff}, 64))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := messages[int(kind)%len(messages)]
		x := fresh(m)
		if x.Parse(b) != nil {
			return
		}
		c := x.Append(nil)
		y := fresh(m)
		if err := y.Parse(c); err != nil {
			t.Fatalf("%s: coded again it does not decode: %v", name(m), err)
		}
		if !bytes.Equal(c, y.Append(nil)) {
			t.Fatalf("%s: coded twice it differs", name(m))
		}
	})
}

// FuzzFrame does the same for frames.
func FuzzFrame(f *testing.F) {
	h := Header{Op: OpInfo, ReqID: 1, Epoch: 1, ReplyLen: 4096, Class: ClassAdmin}
	f.Add(AppendFrame(nil, &h, nil, nil))
	f.Add(AppendFrame(nil, &h, []byte("args"), []byte("payload")))
	f.Add([]byte("RMP1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, args, payload, err := ParseFrame(b)
		if err != nil {
			return
		}
		if again := AppendFrame(nil, &h, args, payload); !bytes.Equal(again, b) {
			t.Fatalf("%x is coded again as %x", b, again)
		}
	})
}

// TestSmallest: lists of elements that are all zero decode, so the sizes by
// which lengths of lists are judged are not too large.
func TestSmallest(t *testing.T) {
	for _, m := range messages {
		want := fresh(m)
		v := reflect.ValueOf(want).Elem()
		lists := 0
		grow := func(v reflect.Value) {
			if v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 {
				v.Set(reflect.MakeSlice(v.Type(), 3, 3))
				lists++
			}
		}
		grow(v)
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				grow(v.Field(i))
			}
		}
		if lq, ok := want.(*LookupReq); ok {
			for i := range lq.Names {
				lq.Names[i] = []byte("x")
			}
		}
		if err := fresh(m).Parse(want.Append(nil)); err != nil && lists > 0 {
			t.Errorf("%s: %v", name(m), err)
		}
	}
}
