package snapcheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Missing  Kind = "missing"  // a document, or a change of one, was never delivered
	Disorder Kind = "disorder" // an earlier version after a later one, or a time out of order
	Early    Kind = "early"    // a change before the document that it changes
	Twice    Kind = "twice"    // again, although no run began in between
	Torn     Kind = "torn"     // a copied document is not what the server had at its time
	Left     Kind = "left"     // the destination has what the server no longer has
	Unknown  Kind = "unknown"  // an event that the server never sent
)

// Faults are counted, and the first few of each kind described.
type Faults struct {
	Count map[Kind]int
	Words map[Kind][]string
}

// described is how many faults of a kind are described.
const described = 5

func (f *Faults) add(k Kind, format string, args ...any) {
	if f.Count == nil {
		f.Count, f.Words = map[Kind]int{}, map[Kind][]string{}
	}
	if f.Count[k]++; f.Count[k] <= described {
		f.Words[k] = append(f.Words[k], fmt.Sprintf(format, args...))
	}
}

// None reports whether there are none.
func (f *Faults) None() bool { return len(f.Count) == 0 }

// String counts and describes them.
func (f *Faults) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(f.Count)) {
		fmt.Fprintf(&b, "%d %s:\n", f.Count[k], k)
		for _, w := range f.Words[k] {
			fmt.Fprintf(&b, "\t%s\n", w)
		}
	}
	return b.String()
}
