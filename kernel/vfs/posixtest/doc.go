// Package posixtest is a suite that judges file systems by POSIX.
package posixtest
