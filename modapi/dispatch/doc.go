// Package dispatch is the component's side of the wire: it turns frames into
// calls of modules, and the modules' calls of their kernel into upcalls.
//
// The usual sequence, as modapi/serve has it:
//
//	s := dispatch.New(mods, dispatch.Options{Granted: files})
//	go s.ServeStream(ctx, nc)            // operations, and upcalls back
//	reply, err := s.Life(ctx, frame)     // INFO, INIT, FINI ... by go-plugin
//
// Life frames may as well come on the stream.
//
// What a module attaches during Init is kept here by name or number; mounts and
// sockets are kept by the identifiers that the kernel gave them. When a module
// has ended (Fini, or an Init that failed), all its objects are gone and
// whatever is still asked of them is answered ENODEV.
//
// A panic in a module's handler ends the process: nothing recovers it, so the
// stack is printed and the exit status is 2. The kernel starts another one.
//
// # Locks
//
//	mod.life       one life operation at a time; held over the module's Init and Fini
//	notes.sendMu   one sender at a time; held over writes to the stream
//	  notes.mu     edges, counters and log lines to be sent; leaf
//	Server.mu      tables; leaf, never held over a call of a module
package dispatch
