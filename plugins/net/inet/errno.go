package inet

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// errnoOf is the NetBSD error number for an error of netstack, 0 for nil and
// EIO for one that has none. It covers errors that mean the same everywhere;
// operations that know better look first.
func errnoOf(err tcpip.Error) abi.Errno {
	switch err.(type) {
	case nil:
		return 0
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return abi.ECONNABORTED
	case *tcpip.ErrAddressFamilyNotSupported:
		return abi.EAFNOSUPPORT
	case *tcpip.ErrAlreadyBound, *tcpip.ErrInvalidEndpointState,
		*tcpip.ErrInvalidOptionValue, *tcpip.ErrInvalidPortRange,
		*tcpip.ErrMalformedHeader, *tcpip.ErrMissingRequiredFields,
		*tcpip.ErrMulticastInputCannotBeOutput:
		return abi.EINVAL
	case *tcpip.ErrAlreadyConnected:
		return abi.EISCONN
	case *tcpip.ErrAlreadyConnecting:
		return abi.EALREADY
	case *tcpip.ErrBadAddress, *tcpip.ErrBadBuffer:
		return abi.EFAULT
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		// NetBSD answers EAGAIN when the ports are used up. On these
		// interfaces EAGAIN means "wait", and nothing would ever say when.
		return abi.EADDRNOTAVAIL
	case *tcpip.ErrBroadcastDisabled:
		return abi.EACCES
	case *tcpip.ErrClosedForReceive:
		return 0 // end of file
	case *tcpip.ErrClosedForSend:
		return abi.EPIPE
	case *tcpip.ErrConnectStarted:
		return abi.EINPROGRESS
	case *tcpip.ErrConnectionRefused:
		return abi.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return abi.ECONNRESET
	case *tcpip.ErrDestinationRequired:
		return abi.EDESTADDRREQ
	case *tcpip.ErrDuplicateAddress, *tcpip.ErrDuplicateNICID:
		return abi.EEXIST
	case *tcpip.ErrEndpointBusy:
		return abi.EBUSY
	case *tcpip.ErrHostDown:
		return abi.EHOSTDOWN
	case *tcpip.ErrHostUnreachable:
		return abi.EHOSTUNREACH
	case *tcpip.ErrInvalidNICID, *tcpip.ErrUnknownDevice, *tcpip.ErrUnknownNICID:
		return abi.ENXIO
	case *tcpip.ErrMessageTooLong:
		return abi.EMSGSIZE
	case *tcpip.ErrNetworkUnreachable:
		return abi.ENETUNREACH
	case *tcpip.ErrNoBufferSpace:
		return abi.ENOBUFS
	case *tcpip.ErrNoNet:
		return abi.ENETDOWN
	case *tcpip.ErrNoSuchFile:
		return abi.ENOENT
	case *tcpip.ErrNotConnected:
		return abi.ENOTCONN
	case *tcpip.ErrNotPermitted:
		return abi.EPERM
	case *tcpip.ErrNotSupported:
		return abi.EOPNOTSUPP
	case *tcpip.ErrPortInUse:
		return abi.EADDRINUSE
	case *tcpip.ErrQueueSizeNotSupported:
		return abi.ENOTTY
	case *tcpip.ErrTimeout:
		return abi.ETIMEDOUT
	case *tcpip.ErrUnknownProtocol:
		return abi.EPROTONOSUPPORT
	case *tcpip.ErrUnknownProtocolOption:
		return abi.ENOPROTOOPT
	case *tcpip.ErrWouldBlock:
		return abi.EAGAIN
	}
	return abi.EIO
}

// wrap turns an error of netstack into one of ours that names the operation.
// EAGAIN and EINPROGRESS, which are everyday answers, come bare.
func wrap(op string, err tcpip.Error) error {
	switch e := errnoOf(err); e {
	case 0:
		return nil
	case abi.EAGAIN, abi.EINPROGRESS:
		return e
	case abi.EIO:
		return fmt.Errorf("%s: %s: %w", op, err, e)
	default:
		return fmt.Errorf("%s: %w", op, e)
	}
}

// wouldBlock reports whether err is netstack's "not now".
func wouldBlock(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrWouldBlock)
	return ok
}
