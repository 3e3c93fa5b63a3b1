package inet

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// send writes b in pieces of up to max bytes and shuts down.
func send(s *so, b []byte, max int, r *rand.Rand) error {
	for len(b) > 0 {
		n := min(1+r.IntN(max), len(b))
		if _, err := s.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return s.shutdown(abi.SHUT_WR)
}

// sum reads to the end in pieces of up to max bytes.
func sum(s *so, max int, r *rand.Rand) (hash.Hash, int, error) {
	h := sha256.New()
	total := 0
	b := make([]byte, max)
	for {
		n, err := s.Read(b[:1+r.IntN(max)])
		if err == errEOF {
			return h, total, nil
		}
		if err != nil {
			return h, total, err
		}
		h.Write(b[:n])
		total += n
	}
}

// exchange sends data both ways at once and compares hashes.
func exchange(c, s *so, data []byte, max int, seed uint64) error {
	want := sha256.Sum256(data)
	errs := make(chan error, 4)
	var wg sync.WaitGroup
	for i, e := range []*so{c, s} {
		wg.Add(2)
		go func() {
			defer wg.Done()
			errs <- send(e, data, max, rand.New(rand.NewPCG(seed, uint64(i))))
		}()
		go func() {
			defer wg.Done()
			h, n, err := sum(e, max, rand.New(rand.NewPCG(seed, uint64(i+2))))
			if err == nil && [32]byte(h.Sum(nil)) != want {
				err = fmt.Errorf("got %d of %d bytes with another hash", n, len(data))
			}
			errs <- err
		}()
	}
	wg.Wait()
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func TestBulkBothWays(t *testing.T) {
	data := pattern(10 << 20)
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		t.Run(names[af], func(t *testing.T) {
			k := boot(t)
			c, s := k.pair(af)
			if err := exchange(c, s, data, 256<<10, 1); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestNoEdgeLost drives connections with the smallest buffers there are, so
// that both ends wait most of the time; a lost edge is a wait that never ends.
func TestNoEdgeLost(t *testing.T) {
	k := boot(t)
	const conns = 8
	data := pattern(256 << 10)
	var wg sync.WaitGroup
	for i := range conns {
		c, s := k.pairBuf([]int{abi.AF_INET, abi.AF_INET6}[i%2], 1)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := exchange(c, s, data, 3000, uint64(i)); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			c.close()
			s.close()
		}()
	}
	wg.Wait()
	if k.edges.Load() == 0 {
		t.Error("no edge at all")
	}
}

// TestAcceptEdge has connections that bring data before they are accepted: the
// edge must come for the new socket.
func TestAcceptEdge(t *testing.T) {
	k := boot(t)
	l, a := k.listener(abi.AF_INET)
	for range 50 {
		c := k.socket(abi.AF_INET, abi.SOCK_STREAM)
		if err := c.connect(a); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		s, _, err := l.accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.waitFor(abi.POLLIN); err != nil {
			t.Fatal(err)
		}
		c.close()
		if _, err := s.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 4)); err != errEOF {
			t.Fatalf("read after the end: %v", err)
		}
		s.close()
	}
}

// TestEdgesCoalesce has a hundred datagrams come to a socket that nobody reads:
// one edge for it, and none for the sender.
func TestEdgesCoalesce(t *testing.T) {
	k := boot(t)
	a, b := k.socket(abi.AF_INET, abi.SOCK_DGRAM), k.socket(abi.AF_INET, abi.SOCK_DGRAM)
	wantErr(t, "bind", b.bind(lo4), 0)
	wantErr(t, "connect", a.start(b.name(false)), 0)
	before := k.edges.Load()
	for range 100 {
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	// Two at first, since both sockets are new and their edges are armed.
	if n := k.edges.Load() - before; n == 0 || n > 2 {
		t.Errorf("%d edges for 100 datagrams", n)
	}
	for range 100 {
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	// Drained, so the next one has its edge, with no call in between.
	before = k.edges.Load()
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := k.edges.Load() - before; n != 1 {
		t.Errorf("%d edges after the socket was drained", n)
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			k := boot(b)
			c, s := k.pair(abi.AF_INET)
			p := pattern(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			done := make(chan error, 1)
			go func() {
				r := make([]byte, size)
				for {
					if _, err := s.Read(r); err != nil {
						done <- err
						return
					}
				}
			}()
			b.ResetTimer()
			for range b.N {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			c.close()
			if err := <-done; err != errEOF {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	k := boot(b)
	c, s := k.pair(abi.AF_INET)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := make([]byte, 1)
		for {
			if _, err := s.Read(r); err != nil {
				return
			}
			if _, err := s.Write(r); err != nil {
				return
			}
		}
	}()
	r := make([]byte, 1)
	for b.Loop() {
		if _, err := c.Write(r); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(r); err != nil {
			b.Fatal(err)
		}
	}
	c.close()
	<-done
}
