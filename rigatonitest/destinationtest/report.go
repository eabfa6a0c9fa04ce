package destinationtest

import (
	"fmt"
	"strings"
	"time"
)

// A Status is the result of a case.
type Status string

const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// A Report is the outcome of [Check].
type Report struct {
	// Results has one entry for each case, in the order in which they ran.
	Results []Result
	// Seed is the random seed; Harness.Seed repeats it.
	Seed uint64
}

// A Result is the outcome of one case.
type Result struct {
	Name   string // "Deliver/Order"
	Rule   string // the sentence of the contract that the case enforces
	Status Status
	Detail string // why it failed or was skipped
	Took   time.Duration
}

// Failed returns the results of the cases that failed.
func (r Report) Failed() []Result { return r.with(Failed) }

// Skipped returns the results of the cases that were skipped.
func (r Report) Skipped() []Result { return r.with(Skipped) }

func (r Report) with(s Status) (some []Result) {
	for _, res := range r.Results {
		if res.Status == s {
			some = append(some, res)
		}
	}
	return some
}

// String returns the report as text: a line for each case, and below those that
// failed the rule and what happened.
func (r Report) String() string {
	var b strings.Builder
	for _, res := range r.Results {
		fmt.Fprintf(&b, "%-8s %s", res.Status, res.Name)
		switch res.Status {
		case Failed:
			b.WriteString("\n    " + strings.ReplaceAll(res.text(), "\n", "\n    "))
		case Skipped:
			b.WriteString(": " + res.Detail)
		}
		b.WriteByte('\n')
	}
	failed, skipped := len(r.Failed()), len(r.Skipped())
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped; seed %d\n", len(r.Results)-failed-skipped, failed, skipped, r.Seed)
	return b.String()
}

// text returns the description of a failure.
func (r Result) text() string {
	return "the contract says: " + r.Rule + "\n" + strings.TrimRight(r.Detail, "\n")
}
