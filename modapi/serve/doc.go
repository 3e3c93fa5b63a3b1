// Package serve is the main function of a component process: it turns Go code
// that implements modules into a program that a rumpus host can load.
//
//	func main() { serve.Main(tmpfs.New(), hostfs.New()) }
//
// It is the only package of the SDK that knows hashicorp/go-plugin and gRPC.
//
// The words. The control plane is go-plugin's: launch, version negotiation,
// health, logs on stderr, and one gRPC method, rumpus.Module/Life, that
// carries init, fini and the other rare calls as encoded frames. The data
// plane is a unix stream that carries everything else. Both end in a Backend,
// which is normally modapi/dispatch.
//
// What the host gives a process at exec:
//
//	fd 0        /dev/null
//	fd 1, 2     pipes: the handshake line, then the log
//	fd 3        liveness: read end of a pipe that the host never writes.
//	            EOF means that the host is gone, and the process exits at once
//	fd 4        the data plane, one end of a unix socket pair
//	fd 5...     granted descriptors, named in RUMPUS_GRANTS ("data=5;log=6")
//	fd N        the shared memory of a ring (package ring), if RUMPUS_RING is N.
//	            A component that uses it says modapi.CapRing in its info
//
// RUMPUS_INSTANCE is the instance's name, RUMPUS_LOG_LEVEL what the host
// wants to hear. A program written in another language needs nothing but this
// list and go-plugin's handshake.
//
// The usual sequence: exec, handshake line, Life(init), stream traffic,
// Life(fini), the host closes the stream, exit 0.
//
// The host judges whether the process hangs by the processor time that it uses
// without progress: replies, upcalls and modapi.Tick, which becomes a one-way
// frame (wire.OpTick) of the data plane, at most every 20 ms and only while a
// handler ticks. There is no heartbeat.
//
// What goes wrong: a panic ends the process (it is never recovered), the host
// sees the death and its last words on stderr, and starts a new one. Data that
// a module writes to os.Stdout or os.Stderr while serving goes to the host's
// log. SIGINT and SIGTERM are ignored: Ctrl-C at a terminal reaches everybody,
// but only the host decides when a component ends. A process that was started
// by hand says what it is and exits with status 2.
package serve
