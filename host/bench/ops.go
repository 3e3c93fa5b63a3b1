package main

import (
	"errors"
	"strconv"
	"time"
)

// errAbsent is the answer of a way to an operation that it does not have.
var errAbsent = errors.New("there is no such operation on this path")

// way makes operations: a client of a kernel, Linux, a gRPC connection.
type way interface {
	// bind prepares an operation for one caller and answers the function that
	// does it once, and one that ends it (nil: nothing to do). errAbsent.
	bind(op string, caller int) (fn func() error, done func(), err error)
}

// The operations. Those of a crossing have the name of the hit and "crossing".
const (
	opGetpid   = "getpid"
	opStat     = "stat hit"
	opStatX    = "stat crossing"
	opOpen     = "open+close hit"
	opOpenX    = "open+close crossing"
	opPread    = "pread 4K hit"
	opPreadX   = "pread 4K crossing"
	opPwrite   = "pwrite 4K hit"
	opPwriteX  = "pwrite 4K crossing"
	opRead1M   = "read 1M"
	opWrite1M  = "write 1M"
	opCreate   = "create+close+unlink"
	opMkdir    = "mkdir+rmdir"
	opReaddir  = "readdir 1000"
	opTCPRTT   = "tcp rtt 1 byte"
	opTCPBulk  = "tcp 64K one way"
	opPipeRTT  = "pipe rtt 1 byte"
	opPipeBulk = "pipe 64K one way"
	opUnixRTT  = "unix rtt 1 byte"
	opUnixBulk = "unix 64K one way"
	opPollRTT  = "poll rtt 1 byte"
	opKqRTT    = "kqueue rtt 1 byte"
	opWake     = "getpid after 1 ms"
	opWakeX    = "stat crossing after 1 ms"
	opGetpidGC = "getpid under GC"
	smallIO    = 4 << 10
	largeIO    = 1 << 20
	bulkIO     = 64 << 10
	dirEntries = 1000
	maxCallers = 4
	manyCalls  = 64
)

// operations in the order of the table.
var operations = []string{
	opGetpid, opStat, opStatX, opOpen, opOpenX, opPread, opPreadX, opPwrite, opPwriteX,
	opRead1M, opWrite1M, opCreate, opMkdir, opReaddir, opTCPRTT, opTCPBulk,
	opPipeRTT, opPipeBulk, opUnixRTT, opUnixBulk, opPollRTT, opKqRTT, opWake, opWakeX, opGetpidGC,
	opZero1M, opMd4K, opMd1M, opEtfs4K, opEtfs4KW, opEtfs1M, opXTS1M,
}

// callersOf is how many callers make an operation at a time, row by row.
func callersOf(op string) []int {
	switch op {
	case opWake, opWakeX, opGetpidGC, opZero1M, opMd4K, opMd1M, opEtfs4K, opEtfs4KW, opEtfs1M, opXTS1M:
		return []int{1}
	case opGetpid, opStatX:
		return []int{1, maxCallers, manyCalls}
	}
	return []int{1, maxCallers}
}

// baseOf is what is done, for operations that differ in their circumstances.
var baseOf = map[string]string{opWake: opGetpid, opWakeX: opStatX, opGetpidGC: opGetpid}

// idle is how long nothing is asked before an operation.
var idle = map[string]time.Duration{opWake: time.Millisecond, opWakeX: time.Millisecond}

// oneWay are the operations whose cost is in the rate: what is sent is buffered.
var oneWay = map[string]bool{opTCPBulk: true, opPipeBulk: true, opUnixBulk: true}

// hitOf is the operation that a crossing is compared with on paths that do not
// know the difference.
var hitOf = map[string]string{opStatX: opStat, opOpenX: opOpen, opPreadX: opPread, opPwriteX: opPwrite}

// crossing are the operations that reach the component on our paths: what the
// two hops of grpc-2 are compared with.
var crossing = map[string]bool{
	opStatX: true, opOpenX: true, opPreadX: true, opPwriteX: true, opCreate: true, opMkdir: true,
	opTCPRTT: true, opTCPBulk: true, opWakeX: true,
}

// bytesOf is how many bytes an operation moves, for those that are about that.
var bytesOf = map[string]float64{opRead1M: largeIO, opWrite1M: largeIO, opTCPBulk: bulkIO, opPipeBulk: bulkIO, opUnixBulk: bulkIO,
	opZero1M: largeIO, opMd1M: largeIO, opEtfs1M: largeIO, opXTS1M: largeIO}

// name is the i-th of the names that each path uses for a caller's file.
func name(prefix string, i int) string { return prefix + strconv.Itoa(i) }

// pattern is n bytes of contents, none of them the zero of a hole.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i%255) + 1
	}
	return p
}
