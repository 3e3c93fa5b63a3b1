package journal_test

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// quick is a file system that does nothing.
type quick struct{ *journalsim.Proc }

func (quick) Create(_ context.Context, req vfsops.CreateReq) (m vfsops.Mutated, err error) {
	m.Node.Handle = abi.Handle{File: 5}
	return m, nil
}

func (quick) WritePages(context.Context, vfsops.Op, abi.Handle, int64, abi.Iov, int64) error {
	return nil
}

func (quick) ReadPages(context.Context, abi.Handle, int64, abi.Iov) error { return nil }

func (quick) Checkpoint(context.Context, abi.OpSeq) error { return nil }

// BenchmarkMutator is what the journal adds to a mutator.
func BenchmarkMutator(b *testing.B) {
	f := journal.New(quick{journalsim.NewProc(&journalsim.Store{})}, journal.Options{Seq: 1})
	defer f.Close()
	b.Run("create", func(b *testing.B) {
		b.ReportAllocs()
		req := vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Name: []byte("name")}
		for b.Loop() {
			f.Create(bg, req)
		}
	})
	b.Run("pages", func(b *testing.B) {
		b.ReportAllocs()
		src := abi.IovOf(make([]byte, 16<<10))
		for b.Loop() {
			f.WritePages(bg, vfsops.Op{Caller: abi.KernelCaller}, abi.Handle{}, 0, src, 16<<10)
		}
	})
}
