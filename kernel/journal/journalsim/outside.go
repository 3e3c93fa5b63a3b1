package journalsim

import (
	"errors"
	"flag"
	"io"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A simulation needs synctest's clock, which only a test gets. In a program
// that is no test, one test is started that never ends and runs what it is sent.

var (
	once sync.Once
	jobs = make(chan job)
)

type job struct {
	run  func()
	done chan struct{}
}

var errInTest = errors.New("journalsim: in a test, Config.T has to be that test")

// outside runs f in a bubble of the test of this program.
func outside(f func()) error {
	if testing.Testing() {
		return errInTest
	}
	once.Do(func() {
		tests := []testing.InternalTest{{Name: "journalsim", F: func(t *testing.T) {
			for j := range jobs {
				synctest.Test(t, func(*testing.T) { j.run() })
				close(j.done)
			}
		}}}
		testing.Init()
		if !flag.Parsed() { // the program has flags of its own, and parses them elsewhere
			flag.CommandLine.Parse(nil)
		}
		m := testing.MainStart(deps{}, tests, nil, nil, nil)
		go m.Run()
	})
	j := job{f, make(chan struct{})}
	jobs <- j
	<-j.done
	return nil
}

// deps is what a test program gets from go test, as far as it is used here.
type deps struct{}

type corpusEntry = struct {
	Parent     string
	Path       string
	Data       []byte
	Values     []any
	Generation int
	IsSeed     bool
}

func (deps) ImportPath() string                          { return "" }
func (deps) ModulePath() string                          { return "" }
func (deps) MatchString(string, string) (bool, error)    { return true, nil }
func (deps) SetPanicOnExit0(bool)                        {}
func (deps) StartCPUProfile(io.Writer) error             { return nil }
func (deps) StopCPUProfile()                             {}
func (deps) StartTestLog(io.Writer)                      {}
func (deps) StopTestLog() error                          { return nil }
func (deps) WriteProfileTo(string, io.Writer, int) error { return nil }
func (deps) CoordinateFuzzing(time.Duration, int64, time.Duration, int64, int, []corpusEntry, []reflect.Type, string, string) error {
	return nil
}
func (deps) RunFuzzWorker(func(corpusEntry) error) error              { return nil }
func (deps) ReadCorpus(string, []reflect.Type) ([]corpusEntry, error) { return nil, nil }
func (deps) CheckCorpus([]any, []reflect.Type) error                  { return nil }
func (deps) ResetCoverage()                                           {}
func (deps) SnapshotCoverage()                                        {}
func (deps) InitRuntimeCoverage() (string, func(string, string) (string, error), func() float64) {
	return "", nil, nil
}
