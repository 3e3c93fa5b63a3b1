// Package modtest is the conformance kit for modules: the rules that the
// comments of modapi, vfsops, devops and sockops state, as tests that run
// against any module in every way it can be bound.
//
// The usual test of a module:
//
//	import _ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // adds the stream
//
//	func TestConformance(t *testing.T) {
//		modtest.TestModule(t, func() []modapi.Module { return []modapi.Module{tmpfs.New()} }, modtest.Options{})
//		modtest.TestFS(t, func() []modapi.Module { return []modapi.Module{tmpfs.New()} }, modtest.FSOptions{Type: "tmpfs"})
//	}
//
// Bindings runs a test once per binding: in-process, and each one that was
// registered (RegisterBinding), which is how the kit reaches the stream
// without importing the kernel. Kernel stands in for the kernel: it remembers
// what is attached, hands out grants, and turns edges into channels.
package modtest
