package modapi

import "context"

// tickKey is the key of a context's ticker.
type tickKey struct{}

// Tick says that a handler that works for long gets on: the kernel takes a
// process that makes no progress for one that hangs. ctx is the handler's. A
// loop of more than some 10 ms calls it once every few milliseconds; it costs a
// reading of the clock, and never waits. Who waits for an upcall, or answers
// EAGAIN, needs no Tick. Where nobody judges (a module bound in-process) it does
// nothing.
func Tick(ctx context.Context) {
	if tick, ok := ctx.Value(tickKey{}).(func()); ok {
		tick()
	}
}

// WithTicker makes a context of which Tick calls tick, for the SDK and tests.
func WithTicker(ctx context.Context, tick func()) context.Context {
	return context.WithValue(ctx, tickKey{}, tick)
}
