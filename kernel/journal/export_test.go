package journal

// What the tests outside of the package need of its inside.

// RetryAfter and OutsideKills are the constants.
const (
	RetryAfter   = retryAfter
	OutsideKills = outsideKills
)

// Lose takes an entry out of the journal although its caller is answered.
func (f *FS) Lose(e *Entry) {
	f.mu.Lock()
	f.unlistLocked(e)
	f.mu.Unlock()
}

// Double appends an entry once more.
func (f *FS) Double(e *Entry) {
	f.mu.Lock()
	o := *e
	f.seq++
	o.Op.Seq = f.seq
	f.list = append(f.list, &o)
	f.bytes += o.bytes()
	f.mu.Unlock()
}

// TrimEarly drops all entries.
func (f *FS) TrimEarly() {
	f.mu.Lock()
	f.trimLocked(f.seq)
	f.mu.Unlock()
}

// Makes is Kind.makes.
func (k Kind) Makes() bool { return k.makes() }
