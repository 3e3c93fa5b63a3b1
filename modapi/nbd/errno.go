package nbd

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Error is an error number as it stands in a reply. The numbers are the
// protocol's own (they look like Linux's), not abi's.
type Error uint32

// The error numbers.
const (
	EPERM     Error = 1
	EIO       Error = 5
	ENOMEM    Error = 12
	EINVAL    Error = 22
	ENOSPC    Error = 28
	EOVERFLOW Error = 75
	ENOTSUP   Error = 95
	ESHUTDOWN Error = 108
)

// Errno is our number for e, 0 for 0. A number that the protocol does not know
// counts as EINVAL, as it demands; ESHUTDOWN is EIO: the device is gone.
func (e Error) Errno() abi.Errno {
	switch e {
	case 0:
		return 0
	case EPERM:
		return abi.EROFS // "on a read-only export" is the only use that is documented
	case EIO, ESHUTDOWN:
		return abi.EIO
	case ENOMEM:
		return abi.ENOMEM
	case ENOSPC:
		return abi.ENOSPC
	case EOVERFLOW:
		return abi.EOVERFLOW
	case ENOTSUP:
		return abi.EOPNOTSUPP
	}
	return abi.EINVAL
}

func (e Error) String() string {
	switch e {
	case EPERM:
		return "EPERM"
	case EIO:
		return "EIO"
	case ENOMEM:
		return "ENOMEM"
	case EINVAL:
		return "EINVAL"
	case ENOSPC:
		return "ENOSPC"
	case EOVERFLOW:
		return "EOVERFLOW"
	case ENOTSUP:
		return "ENOTSUP"
	case ESHUTDOWN:
		return "ESHUTDOWN"
	}
	return fmt.Sprintf("error %d", uint32(e))
}

// ErrorOf is the protocol's number for an error, 0 for nil, EIO for what has
// none.
func ErrorOf(err error) Error {
	switch abi.ErrnoOf(err) {
	case 0:
		return 0
	case abi.EPERM, abi.EROFS, abi.EACCES:
		return EPERM
	case abi.ENOMEM:
		return ENOMEM
	case abi.EINVAL:
		return EINVAL
	case abi.ENOSPC, abi.EDQUOT, abi.EFBIG:
		return ENOSPC
	case abi.EOVERFLOW:
		return EOVERFLOW
	case abi.EOPNOTSUPP, abi.ENOTSUP:
		return ENOTSUP
	}
	return EIO
}
