//go:build !linux

package hyper

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// OpenFile answers EOPNOTSUPP: files of the host need Linux's calls.
func (Base) OpenFile(_ context.Context, o FileOpen) (File, error) {
	return nil, fileErr("open", o.Path, abi.EOPNOTSUPP, nil)
}

// RemoveFile answers EOPNOTSUPP.
func (Base) RemoveFile(path string) error {
	return fileErr("remove", path, abi.EOPNOTSUPP, nil)
}
