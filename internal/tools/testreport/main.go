// Command testreport reads the output of "go test -json" from standard input
// and prints what a person wants to know: a line for each package, the whole
// output of what failed, and at the end what was skipped and why.
//
// It exits with 1 if anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is what "go test -json" prints; see "go doc test2json".
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type report struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string]*strings.Builder // of a test, or of a package
	reasons                 map[string][]string         // of a skip: the tests skipped for it
}

func main() {
	r := &report{out: os.Stdout, output: map[string]*strings.Builder{}, reasons: map[string][]string{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.close() {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.see(e)
			} else {
				r.out.Write(line) // not of go test's making: show it
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (r *report) see(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		b := r.output[key]
		if b == nil {
			b = &strings.Builder{}
			r.output[key] = b
		}
		b.WriteString(e.Output)
		return
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		return
	case "build-fail":
		r.failed++
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		r.endPackage(e)
	} else {
		r.endTest(e, key)
	}
}

func (r *report) endPackage(e event) {
	text := r.text(e.Package + " ")
	switch {
	case e.Action == "fail":
		fmt.Fprintf(r.out, "%sFAIL\t%s\t%.1fs\n", text, e.Package, e.Elapsed)
		if !strings.Contains(text, "FAIL") || strings.Contains(text, "panic:") {
			r.failed++ // it failed outside of any test
		}
	case e.Action == "skip" || strings.Contains(text, "no test files"):
	default:
		fmt.Fprintf(r.out, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	}
}

func (r *report) endTest(e event, key string) {
	text := r.text(key)
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, text)
	case "skip":
		r.skipped++
		reason := skipReason(text)
		r.reasons[reason] = append(r.reasons[reason], e.Test)
	}
	delete(r.output, key)
}

func (r *report) text(key string) string {
	if b := r.output[key]; b != nil {
		return b.String()
	}
	return ""
}

// skipReason finds what the test gave to t.Skip: "    file_test.go:12: reason".
func skipReason(text string) string {
	for line := range strings.Lines(text) {
		if _, reason, ok := strings.Cut(line, ".go:"); ok {
			if _, reason, ok = strings.Cut(reason, ": "); ok {
				return strings.TrimSpace(reason)
			}
		}
	}
	return "no reason given"
}

func (r *report) close() bool {
	inapplicable := 0
	for reason, tests := range r.reasons {
		if ofSuite(reason) {
			inapplicable += len(tests)
			delete(r.reasons, reason)
		}
	}
	if inapplicable > 0 {
		fmt.Fprintf(r.out, "\n%d cases of the stores' suite are about what the store under test can't do.\n", inapplicable)
	}
	if len(r.reasons) == 0 {
		fmt.Fprintln(r.out, "\nNothing else was skipped.")
	} else {
		fmt.Fprintln(r.out, "\nSkipped, and why:")
	}
	reasons := make([]string, 0, len(r.reasons))
	for reason := range r.reasons {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		tests := r.reasons[reason]
		fmt.Fprintf(r.out, "  %s\n      (%d: %s%s)\n", reason, len(tests), tests[0], more(len(tests)))
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && r.passed > 0
}

// ofSuite tells whether a reason is one of statetest's, for a case about what
// the store under test can't do. There are hundreds, on purpose.
func ofSuite(reason string) bool {
	return slices.ContainsFunc([]string{
		"the store ", "the harness has no ", "the data dies with the handle", "leases end with their owner's process",
	}, func(prefix string) bool { return strings.HasPrefix(reason, prefix) })
}

func more(n int) string {
	if n > 1 {
		return ", …"
	}
	return ""
}
