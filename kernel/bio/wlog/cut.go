package wlog

import (
	"fmt"
	"math/rand/v2"
)

// Cuts says how many power cuts to play.
type Cuts struct {
	Seed uint64
	// Random is how many random subsets of the writes that no flush has
	// covered are tried at each prefix, torn writes among them. 0: 3.
	Random int
	// Every plays only each so many-th prefix. 0: all.
	Every int
}

// Crash is what a power cut left.
type Crash struct {
	Prefix int      // records that had come
	What   string   // which of the writes in the air are there
	Image  []byte   // the callee's
	Redo   []byte   // nil: there is none
	Marks  [][]byte // promises made before
}

// CutPower calls check for what each power cut may leave, and answers its first
// error with the place.
func (l *Log) CutPower(c Cuts, check func(*Crash) error) error {
	if c.Random == 0 {
		c.Random = 3
	}
	rnd := rand.New(rand.NewPCG(c.Seed, 0x9e3779b97f4a7c15))
	safe := append([]byte(nil), l.Base...) // what is certainly there
	var air []Rec                          // writes that no flush has covered
	var redo []byte
	var marks [][]byte
	img := make([]byte, len(safe))
	try := func(prefix int, what string, torn bool, there func(i int) bool) error {
		copy(img, safe)
		for i, r := range air {
			if there(i) {
				l.apply(img, r)
			} else if torn && len(r.Data) > int(l.Sector) && rnd.IntN(2) == 0 {
				for s := 0; s < len(r.Data); s += int(l.Sector) {
					if rnd.IntN(2) == 0 {
						copy(img[r.Off+int64(s):], r.Data[s:s+int(l.Sector)])
					}
				}
			}
		}
		if err := check(&Crash{prefix, what, append([]byte(nil), img...), redo, marks}); err != nil {
			return fmt.Errorf("power cut after record %d of %d, %s: %w", prefix, len(l.Recs), what, err)
		}
		return nil
	}
	cut := func(prefix int) error {
		if err := try(prefix, "all writes there", false, func(int) bool { return true }); err != nil || len(air) == 0 {
			return err
		}
		if err := try(prefix, "none of the writes since the flush", false, func(int) bool { return false }); err != nil || len(air) == 1 {
			return err
		}
		if err := try(prefix, "only the last write", false, func(i int) bool { return i == len(air)-1 }); err != nil {
			return err
		}
		for range c.Random {
			miss := rnd.IntN(len(air))
			if err := try(prefix, fmt.Sprintf("all but write %d", air[miss].Seq), false, func(i int) bool { return i != miss }); err != nil {
				return err
			}
			if err := try(prefix, "some of the writes, some torn", true, func(int) bool { return rnd.IntN(2) == 0 }); err != nil {
				return err
			}
		}
		return nil
	}
	for i, r := range l.Recs {
		if c.Every <= 1 || i%c.Every == 0 {
			if err := cut(i); err != nil {
				return err
			}
		}
		switch r.Kind {
		case Flush:
			rest := air[:0]
			for _, w := range air {
				if w.Seq <= uint64(r.Off) {
					l.apply(safe, w)
				} else {
					rest = append(rest, w)
				}
			}
			air = rest
		case RedoPut:
			redo = r.Data
		case RedoRemove:
			redo = nil
		case Mark:
			marks = append(marks, r.Data)
		default:
			air = append(air, r)
		}
	}
	return cut(len(l.Recs))
}

// apply does a record to an image.
func (l *Log) apply(img []byte, r Rec) {
	switch r.Kind {
	case Write:
		copy(img[r.Off:], r.Data)
	case Zeroes:
		clear(img[r.Off : r.Off+r.Length])
	case Discard:
		for i := r.Off; i < r.Off+r.Length; i++ {
			img[i] = 0xdd
		}
	}
}
