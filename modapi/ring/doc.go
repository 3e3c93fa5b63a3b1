// Package ring carries calls (package wire) over memory that two processes
// share, beside a stream connection (package stream) that carries the rest. A
// call and its answer take half a microsecond where a stream takes thirty.
//
// # The usual sequence
//
//	f, err := ring.Create(true)            // the host: a sealed memfd
//	... f goes to the other process: at exec, or by a Passer
//	m, err := ring.Map(f)
//	c := stream.New(nc, handler, options)
//	_, err = ring.Attach(c, m, ring.Options{Serve: true})
//	err = c.Call(ctx, k)                   // by the ring where it can be
//
// Nobody calls an End: calls are made and served through the stream.Conn, and
// what is said there of deadlines, cancellation, *Lie, *Hang and *Dead holds.
// Life frames, what finds no room, and the news that a call has been given up or
// that the peer has died, go by the stream.
//
// One-way frames of Conn.TrySend go by the ring, those of Conn.Send by the
// stream. At most 8 of the former are on their way; then TrySend says that it
// has not sent. They are served in their order by the leader itself. Nobody
// waits for them: the sender finds their slots complete when it sends another.
//
// # The memory
//
// A page that says what it is, then one half for the calls of the first side
// and, if there are upcalls, one for those of the second. In a half:
//
//	state, bells, CPUs       one cache line each
//	ring                     128 entries: slot number + 1, or 0
//	slots                    128 times a word, the rest of wire.Header, and a
//	                         word in which a caller that gives up leaves its id
//	arguments                8 KiB a slot
//	inline areas             16 KiB a slot: the payload there and back
//	extents                  4 of 1 MiB, for larger payloads
//
// Pages that nobody touched do not exist. Which slots and extents are free only
// the caller knows, and takes the lowest, so that few pages are in use. The
// last 18 slots are for the ranks, two each: a call of a rank finds room
// however many of another are stuck. 16 of the others are for what is not kept
// (wire.Op.Keeps), so that mutators that are stuck do not hold up reads. What
// finds room is served: there may be as many goroutines as slots.
//
// # A call
//
// The caller copies header, arguments and payload into a slot, sets its word to
// submitted, and puts its number into the ring. If the server's state says that
// it sleeps, and only then, it is woken. The server copies the header out,
// sets the word to taken, serves, puts the answer into the slot and sets the
// word to complete. The generation in the word tells one use of a slot from
// the next.
//
// The caller spins on the word for up to 20 us, but not on the CPU that the
// server was last seen on, nor if more than half of the CPUs would spin, nor if
// that has been in vain for its class lately. Then it sleeps on the word (a
// futex, not private) in a thread of its own for at most 5 ms, at most 4
// callers at a time; then, or at once if it is of class admin, it parks: its
// goroutine waits on a channel, as in package stream, and a watcher tells it.
//
// # Serving
//
// The goroutine that finds a request serves it. Meanwhile it lends the lead:
// state is lent, and a caller whose spinning was in vain and whose request has
// not been taken rings, so that another goroutine looks at the ring. So a
// request that waits for an hour holds up nobody, and one that does not costs
// no handing over. Only if a call is made of the peer meanwhile, as from inside
// the request, is the lead handed over at once: the peer may call back. A server
// of which nothing is asked spins 20 us, sleeps on state for 10 ms, then is away:
// a parked goroutine and a word that the watcher looks at. Idle rings take no CPU
// time, and no threads but the watchers'.
//
// A watcher has one thread in futex_waitv for the bells of up to 63 ends. While
// calls are parked it looks at their words every now and then (50 ms, doubling
// up to 2 s), whether anybody rang or not.
//
// # What a hostile peer can do
//
// It can write any word at any time. A header is copied out before it is
// checked; slot numbers, lengths and offsets are checked against the layout,
// which is a constant; nothing in the memory is a pointer; the own free slots,
// generations and replies awaited are not in it. A slot in the ring that is not
// submitted or is being served, a header that breaks the rules, a reply for
// another request or longer than asked, and ringing without asking, are lies and
// end the connection. A word that is scribbled over can keep a call waiting
// for its deadline. The seals keep the memory from being cut short. Payload
// that a handler sees in place can change under it: Options.Own and
// stream.Request.Own copy it.
//
// # What goes wrong in Go
//
// A futex wait by RawSyscall hangs the garbage collector: they go by Syscall6.
// A goroutine that spins keeps its processor: it yields every few microseconds.
// One that sleeps keeps it as well, for up to 10 ms: there is one more than CPUs
// (unless GOMAXPROCS is set), taken by the first Attach.
//
// # Locks
//
//	watchers.mu   which watchers there are
//	watcher.mu    the ends of one
//	server.mu     whether goroutines may be started; leaf
//	End.noteMu    one-way frames in the ring; leaf
//
// None is held while a call is made or served.
package ring
