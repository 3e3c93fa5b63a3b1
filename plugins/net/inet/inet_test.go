package inet

import (
	"bytes"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestEcho(t *testing.T) {
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		t.Run(names[af], func(t *testing.T) {
			k := boot(t)
			c, s := k.pair(af)
			if got, want := s.name(true), c.name(false); got != want {
				t.Errorf("server's peer is %v, client is %v", got, want)
			}
			if got, want := c.name(true), s.name(false); got != want {
				t.Errorf("client's peer is %v, server is %v", got, want)
			}
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 16)
			r, err := s.recv(b, abi.MSG_PEEK)
			if err != nil || !bytes.Equal(b[:r.N], []byte("hello")) {
				t.Fatalf("peek: %q, %v", b[:r.N], err)
			}
			n, err := s.Read(b)
			if err != nil || !bytes.Equal(b[:n], []byte("hello")) {
				t.Fatalf("read: %q, %v", b[:n], err)
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(b); err != errEOF {
				t.Fatalf("read after close: %v", err)
			}
		})
	}
}
