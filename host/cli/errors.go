package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The exit codes of rumpus.
const (
	exitOK          = 0
	exitRefused     = 1  // by the kernel or the host
	exitUsage       = 2  // wrong command line or configuration
	exitNoKernel    = 3  // no kernel reached
	exitUnavailable = 4  // component not available
	exitPanic       = 70 // the kernel panicked
)

// usageError is a wrong command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitError ends with a code and no message, because everything has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitCode is the exit code that an error means.
func exitCode(err error) int {
	var (
		exit    exitError
		usage   *usageError
		conf    *config.Error
		connect *rumpclient.ConnectError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage), errors.As(err, &conf):
		return exitUsage
	case errors.As(err, &connect), errors.Is(err, rumpclient.ErrGone):
		return exitNoKernel
	case isUnavailable(err):
		return exitUnavailable
	}
	return exitRefused
}

// isUnavailable reports whether a component's slot is empty: the kernel says
// "vfs component not available" with EOPNOTSUPP (ENXIO for devices).
func isUnavailable(err error) bool {
	var e *rumpclient.Error
	return errors.As(err, &e) && strings.Contains(e.Text, "component not available")
}

// errorText is the message for an error, with the name of its number behind it:
// "open /mnt/a: no such file or directory (ENOENT)". Control characters are
// replaced, because names in it may come from anywhere.
func errorText(err error) string {
	text := err.Error()
	var (
		ke *rumpclient.Error
		ce *rumpclient.ConnectError
		no abi.Errno
		he syscall.Errno
	)
	name := ""
	switch {
	case errors.As(err, &ce), errors.Is(err, rumpclient.ErrGone):
	case errors.Is(err, context.DeadlineExceeded):
		name = abi.ETIMEDOUT.Name()
	case errors.As(err, &ke):
		name = ke.Errno.Name()
	case errors.As(err, &no):
		name = no.Name()
	case errors.As(err, &he):
		name = unix.ErrnoName(he)
	}
	if name != "" && !strings.HasSuffix(text, "("+name+")") {
		text += " (" + name + ")"
	}
	return printable(text)
}
