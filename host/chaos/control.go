package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A control page is shared by this program and the processes of one component,
// by a file that the configuration grants it. It says which fault the component
// is to do to itself. Words are 8 bytes and only used atomically.

// kind is what a fault does.
type kind uint8

const (
	kSIGKILL kind = 1 + iota // from outside
	kSIGSTOP                 // from outside
	kKill                    // to itself, at a moment inside
	kStop
	kPanic
	kExit
	kAbort
	kBomb
	kLoop
	kDeadlock
)

var kindNames = map[kind]string{kSIGKILL: "SIGKILL", kSIGSTOP: "SIGSTOP", kKill: "kill", kStop: "stop", kPanic: "panic", kExit: "exit",
	kAbort: "abort", kBomb: "bomb", kLoop: "loop", kDeadlock: "deadlock"}

func (k kind) String() string { return kindNames[k] }

// moment is where a component does something to itself.
type moment uint8

const (
	mAny         moment = iota // from outside
	mBefore                    // a mutator has come, and is not carried out
	mAfter                     // it is carried out, and not answered
	mRead                      // a call that changes nothing
	mQuick                     // a call of the classes spin and cpu
	mCheckpoint                // before a checkpoint is written
	mCheckpoints               // it is written, and not answered
	mInit                      // a new process begins
	mMount                     // a new process mounts again
	mMounted                   // it has, the answer is not out
	mReplay                    // a new process carries out its first mutators
	moments
)

var momentNames = [moments]string{"any", "before", "after", "read", "quick", "checkpoint", "checkpoint-written", "init", "mount", "mounted", "replay"}

func (m moment) String() string { return momentNames[m] }

// order is a fault that a component is told to do, at the n-th passage of the
// moment in a process other than the one with pid not.
type order struct {
	kind   kind
	moment moment
	nth    uint16
	not    uint32
}

func (o order) word() uint64 {
	return uint64(o.kind)<<56 | uint64(o.moment)<<48 | uint64(o.nth)<<32 | uint64(o.not)
}

func orderOf(w uint64) order {
	return order{kind(w >> 56), moment(w >> 48 & 0xff), uint16(w >> 32), uint32(w)}
}

// page is a control page: an order at a time, 0 if none is given, who carried the
// last one out, and the newest process.
type page struct {
	order, fired, newest *atomic.Uint64
	mem                  []byte
}

const pageSize = 4096

// makePage makes the file of a page.
func makePage(path string) (*page, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Chmod(0o666); err != nil { // a component has another uid
		return nil, err
	}
	if err := f.Truncate(pageSize); err != nil {
		return nil, err
	}
	return mapPage(f)
}

// mapPage maps a page.
func mapPage(f *os.File) (*page, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("control page: %w", err)
	}
	at := func(n int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[n*8])) }
	return &page{order: at(0), fired: at(8), newest: at(16), mem: mem}, nil
}

func (p *page) close() { unix.Munmap(p.mem) }

// give gives an order.
func (p *page) give(o order) { p.fired.Store(0); p.order.Store(o.word()) }

// take takes the order back; false: somebody carries it out.
func (p *page) take() bool { return p.order.Swap(0) != 0 }

// at is called by the component at each moment: it answers the kind of fault that
// is to be done now.
func (p *page) at(m moment, pid uint32) (kind, bool) {
	for {
		w := p.order.Load()
		o := orderOf(w)
		if w == 0 || o.moment != m || o.not == pid {
			return 0, false
		}
		if o.nth > 1 {
			o.nth--
			if p.order.CompareAndSwap(w, o.word()) {
				return 0, false
			}
		} else if p.order.CompareAndSwap(w, 0) {
			p.fired.Store(uint64(pid))
			return o.kind, true
		}
	}
}
