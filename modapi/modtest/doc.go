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
// A file system that claims vfsops.CapCheckpoint dies in some of the rules, and
// comes back in new modules: the function that makes it is called again, and the
// Store, and FSUnderTest.Disks, are as the last checkpoint left them. A binding
// whose modules are Killers kills a process. TestRecovery is more of the same.
//
// Bindings runs a test once per binding: in-process, and each one that was
// registered (RegisterBinding), which is how the kit reaches the stream
// without importing the kernel. Kernel stands in for the kernel: it remembers
// what is attached, hands out grants, and turns edges into channels.
package modtest
