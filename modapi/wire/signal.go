package wire

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// SignalMsg tells a client of a signal that it handles, or that ended its
// process, after which the connection ends.
type SignalMsg struct {
	Signo int32
	Code  int32
	Pid   int32
	Uid   uint32
	Value int64
	Ended bool
}

func (m *SignalMsg) code(c *coder) {
	c.i32(&m.Signo)
	c.i32(&m.Code)
	c.i32(&m.Pid)
	c.u32(&m.Uid)
	c.i64(&m.Value)
	c.bool(&m.Ended)
}

// Append codes m at the end of b.
func (m *SignalMsg) Append(b []byte) []byte {
	c := coder{b: b}
	m.code(&c)
	return c.b
}

// Parse decodes m from all of b.
func (m *SignalMsg) Parse(b []byte) error {
	c := coder{b: b, dec: true}
	m.code(&c)
	return c.end()
}

// SignalMsgOf is a siginfo_t as it goes to a client.
func SignalMsgOf(si abi.Siginfo, ended bool) SignalMsg {
	return SignalMsg{int32(si.Signo), int32(si.Code), si.Pid, si.Uid, si.Value, ended}
}

// Siginfo is the message as a siginfo_t; ok is false if it is no signal.
func (m *SignalMsg) Siginfo() (si abi.Siginfo, ok bool) {
	return abi.Siginfo{Signo: int(m.Signo), Code: int(m.Code), Pid: m.Pid, Uid: m.Uid, Value: m.Value}, m.Signo > 0 && m.Signo < abi.NSIG
}
