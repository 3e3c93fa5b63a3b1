package kernel_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

const (
	redoChildEnv = "RUMPUS_REDO_CHILD" // the image of the child
	redoKillsEnv = "RUMPUS_KILLS"      // how many kills
	redoBlock    = 4096
	redoBlocks   = 2048
)

// redoTx is transaction t: the blocks that it writes. Block 0 has its number.
func redoTx(t uint64) []int64 {
	r := rand.New(rand.NewPCG(t, 5))
	blks := make([]int64, 16+r.IntN(100))
	for i := range blks {
		blks[i] = 1 + r.Int64N(redoBlocks-1)
	}
	return append(blks, 0)
}

func redoData(blk int64, t uint64) []byte {
	p := make([]byte, redoBlock)
	for i := 0; i < redoBlock; i += 512 {
		binary.LittleEndian.PutUint64(p[i:], t)
		binary.LittleEndian.PutUint64(p[i+8:], uint64(blk))
	}
	return p
}

// redoModel is which transaction each block is of, after all up to t.
type redoModel struct {
	t   uint64
	tag [redoBlocks]uint64
}

func (m *redoModel) advance(t uint64) {
	for m.t < t {
		m.t++
		for _, b := range redoTx(m.t) {
			m.tag[b] = m.t
		}
	}
}

// differ is the first block of an image that is not as the model has it, or -1.
func (m *redoModel) differ(img []byte) int64 {
	for b := range int64(redoBlocks) {
		want := make([]byte, redoBlock)
		if m.tag[b] > 0 {
			want = redoData(b, m.tag[b])
		}
		if !bytes.Equal(img[b*redoBlock:][:redoBlock], want) {
			return b
		}
	}
	return -1
}

// redoLayers boots a kernel on an image and opens its layers.
func redoLayers(ctx context.Context, img string) (*kernel.Kernel, *kernel.Layers, error) {
	k := kernel.New(kernel.Options{Hostname: "rump", Devices: []kernel.Device{{Driver: "etfs", Arg: fmt.Appendf(nil, `{"name": "disk0", "host": %q}`, img)}}})
	if err := k.Boot(ctx); err != nil {
		return nil, nil, err
	}
	n, ok := k.Dev.Lookup("disk0")
	if !ok {
		return k, nil, fmt.Errorf("no disk0: %s", dmesg(k))
	}
	l, err := k.OpenLayers(ctx, n.Dev, true, bio.LayerOptions{})
	return k, l, err
}

// TestRedoChild is the process that TestRedoKill kills: it makes transactions
// for ever and tells the number of each that is durable.
func TestRedoChild(t *testing.T) {
	img := os.Getenv(redoChildEnv)
	if img == "" {
		t.Skip("the child of TestRedoKill")
	}
	ctx := context.Background()
	_, l, err := redoLayers(ctx, img)
	if err != nil {
		t.Fatal(err)
	}
	io := l.IO()
	head := make([]byte, redoBlock)
	if err := io.Strategy(ctx, &devops.Buf{Bytes: redoBlock, Flags: devops.BRead, Data: abi.IovOf(head)}); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for tx := binary.LittleEndian.Uint64(head) + 1; ; tx++ {
		for _, b := range redoTx(tx) {
			p := redoData(b, tx)
			for off := int64(0); off < redoBlock; off += redoBlock / 2 { // in two pieces
				err := io.Strategy(ctx, &devops.Buf{Blkno: (b*redoBlock + off) / devops.DevBsize, Bytes: redoBlock / 2, Flags: devops.BWrite, Data: abi.IovOf(p[off:][:redoBlock/2])})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		l.Checkpoint(abi.Ckpt(tx), 0)
		if r.IntN(3) > 0 {
			continue
		}
		if err := l.WriteOut(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stdout.WriteString(strconv.FormatUint(tx, 10) + "\n"); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
}

// TestRedoKill kills a kernel that writes layers out to an image of the host,
// at any moment, over and over. What is left, with the redo file, is each time
// a whole number of transactions, and all that were told durable.
func TestRedoKill(t *testing.T) {
	kills := 30
	if testing.Short() {
		kills = 5
	}
	if s := os.Getenv(redoKillsEnv); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second+time.Duration(kills)*2*time.Second)
	defer cancel()
	img := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(img, make([]byte, redoBlock*redoBlocks), 0o600); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var m redoModel
	torn, replayed := 0, uint64(0)
	for i := range kills {
		acked := redoKill(ctx, t, img, time.Duration(r.Int64N(int64(40*time.Millisecond))))
		raw, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		left := m
		left.advance(binary.LittleEndian.Uint64(raw))
		if left.differ(raw) >= 0 {
			torn++
		}
		k, l, err := redoLayers(ctx, img)
		if err != nil {
			t.Fatalf("kill %d: recovery: %v", i, err)
		}
		replayed += k.Evcnt.Attach("bio", "redo_replayed").Load()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		k.Reboot(ctx, 0)
		got, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		at := binary.LittleEndian.Uint64(got)
		if at < acked || at < m.t {
			t.Fatalf("kill %d: the image is at transaction %d, and %d was durable", i, at, max(acked, m.t))
		}
		m.advance(at)
		if b := m.differ(got); b >= 0 {
			t.Fatalf("kill %d: the image is at transaction %d, but not its block %d", i, at, b)
		}
		if left, _ := filepath.Glob(img + ".*"); len(left) > 0 {
			t.Fatalf("kill %d: after recovery there is still %v", i, left)
		}
	}
	t.Logf("%d kills, %d transactions; %d images were torn, %d redo files replayed", kills, m.t, torn, replayed)
	if kills >= 30 && replayed == 0 {
		t.Error("no kill came into a write-out: the test shows nothing")
	}
}

// redoKill starts a child, kills it some time after its first durable
// transaction, and answers the last one.
func redoKill(ctx context.Context, t *testing.T, img string, after time.Duration) (acked uint64) {
	t.Helper()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestRedoChild$")
	c.Env = append(os.Environ(), redoChildEnv+"="+img)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil { // what the test binary says of itself
			errs.WriteString(lines.Text() + "\n")
			continue
		}
		if acked == 0 {
			time.AfterFunc(after, func() { c.Process.Kill() })
		}
		acked = n
	}
	if err := c.Wait(); c.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v\n%s", err, &errs)
	}
	return acked
}
