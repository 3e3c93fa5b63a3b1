package ext4

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func (f *FS) commit(ctx context.Context) error { return nil }
func (f *FS) roomy(ctx context.Context) error  { return nil }
func (f *FS) finish(ctx context.Context) error { return nil }
func (f *FS) startWriting(ctx context.Context, op *vfsops.Op) error {
	f.readOnly = true
	return nil
}
