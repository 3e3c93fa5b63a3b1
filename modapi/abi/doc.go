// Package abi holds what every part of rumpus must say in the same words:
// error numbers, flags, identifiers, vnode attributes, credentials, socket
// addresses, device numbers and system call numbers.
//
// All numbers are NetBSD's, on every host: EAGAIN is 35, O_CREAT is 0x200,
// AF_INET6 is 24. A host's own numbers never cross a process boundary; code
// that talks to the host's kernel converts at that edge.
//
// The values here are plain data without behaviour that could block, so there
// is no lock order. Everything is safe to copy.
package abi
