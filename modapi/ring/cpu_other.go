//go:build linux && !amd64

package ring

// noCPU is the number of a CPU that is not known.
const noCPU = ^uint32(0)

// spins keeps the compiler from leaving the loop in pause out.
var spins uint32

// pause passes a moment of time.
func pause(n uint32) {
	s := uint32(0)
	for i := uint32(0); i < 8*n; i++ {
		s += i
	}
	if s == 1 {
		spins = s
	}
}

// myCPU is not known: the caller then never finds itself on its peer's CPU,
// and only the bound of the spinning protects it.
func myCPU() uint32 { return noCPU }
