package statetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestCheck(t *testing.T) {
	d := newDisk(nil)
	report, err := Check(t.Context(), d.harness())
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	if len(report.Results) != len(cases()) || len(report.Failed()) != 0 || len(report.Skipped()) != 0 {
		t.Errorf("%d results, %d failed, %d skipped, of %d cases", len(report.Results), len(report.Failed()), len(report.Skipped()), len(cases()))
	}
	if len(d.recs) != 0 || len(report.Left) != 0 {
		t.Errorf("Check left records behind, and names %q: %q", report.Left, slices.Collect(maps.Keys(d.recs)))
	}
	if text := report.String(); !strings.Contains(text, "0 failed") || !strings.Contains(text, "passed   Load/NotFound") {
		t.Errorf("the report says:\n%s", text)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	h := newDisk(func(b *bug) { b.load = zeroForNone }).harness()
	report, err := Check(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "Load/NotFound") {
		t.Errorf("Check of a broken store: %v", err)
	}
	for _, want := range []string{"failed   Load/NotFound\n", "    the contract says: For a key without one it returns ErrNotFound, never a zero Checkpoint and nil.\n", "got success, want \"no checkpoint\""} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, report)
		}
	}
}

// TestCheckTouchesNothing wants Check to keep off what is there already.
func TestCheckTouchesNothing(t *testing.T) {
	d := newDisk(nil)
	mine := d.open()
	if err := mine.Save(t.Context(), "shop", numbered(1, 5)); err != nil {
		t.Fatal(err)
	}
	if report, err := Check(t.Context(), d.harness()); err != nil {
		t.Errorf("%v\n%s", err, report)
	}
	if cp, err := mine.Load(t.Context(), "shop"); err != nil || differ(cp, stored(numbered(1, 5), 0)) != "" || len(d.recs) != 1 {
		t.Errorf("after Check: %v, %d records", err, len(d.recs))
	}
	if err := mine.Save(t.Context(), "CON", sample(1)); err != nil {
		t.Fatal(err)
	}
	report, err := Check(t.Context(), d.harness())
	if err == nil || !strings.Contains(err.Error(), `"CON"`) || len(report.Results) != 0 {
		t.Errorf("Check of a store in which a key that it needs is taken: %v, %d results", err, len(report.Results))
	}
}

func TestCheckHarness(t *testing.T) {
	d := newDisk(nil)
	noOpen, half := d.harness(), d.harness()
	noOpen.Open, half.Restore = nil, nil
	for _, h := range []Harness{noOpen, half} {
		if _, err := Check(t.Context(), h); err == nil || !strings.Contains(err.Error(), "Harness.") {
			t.Errorf("Check of an incomplete harness: %v", err)
		}
	}
	refused := Harness{Open: func(context.Context) (state.Store, error) { return nil, errors.New("no route to host") }}
	if _, err := Check(t.Context(), refused); err == nil || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("Check of a store that can't be opened: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, d.harness()); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with a context that has ended: %v", err)
	}
}

// stuck never returns from Load, whatever its context says.
type stuck struct{ state.Store }

func (stuck) Load(context.Context, string) (state.Checkpoint, error) { select {} }

func TestStuck(t *testing.T) {
	h, err := Harness{Open: func(context.Context) (state.Store, error) { return stuck{newDisk(nil).open()}, nil }}.complete()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if r := find(t, "Load/NotFound").try(ctx, h); r.Status != Failed || !strings.Contains(r.Detail, "has not returned") {
		t.Errorf("a call that never returns: %s %s", r.Status, r.Detail)
	}
}

// TestSeed wants the same seed to give the same history.
func TestSeed(t *testing.T) {
	broken := func(b *bug) { leaseMutantNamed(t, "the fence is looked at after the sequence")(b) }
	var details []string
	for range 2 {
		h, err := newDisk(broken).harness().complete()
		if err != nil {
			t.Fatal(err)
		}
		h.Seed = 7
		r := find(t, "Random/Leases").try(t.Context(), h)
		details = append(details, shape(r.Detail))
	}
	if details[0] == "" || details[0] != details[1] {
		t.Errorf("seed 7 gives\n%s\nand then\n%s", details[0], details[1])
	}
	t.Setenv(SeedVar, "7")
	if seed, err := seedFromEnv(); seed != 7 || err != nil {
		t.Errorf("%s=7: %d, %v", SeedVar, seed, err)
	}
	t.Setenv(SeedVar, "x")
	if _, err := seedFromEnv(); err == nil {
		t.Errorf("%s=x is taken", SeedVar)
	}
}

// shape is a log without the times of leases, which are the clock's.
func shape(detail string) string {
	var lines []string
	for line := range strings.Lines(detail) {
		before, _, _ := strings.Cut(line, " until ")
		before, _, _ = strings.Cut(before, "statetest-")
		lines = append(lines, before)
	}
	return strings.Join(lines, "\n")
}

func leaseMutantNamed(t *testing.T, name string) func(b *bug) {
	for _, m := range leaseMutants {
		if m.name == name {
			return m.bug
		}
	}
	t.Fatalf("there is no mutant %q", name)
	return nil
}

func TestSampleTokens(t *testing.T) {
	for _, tok := range []struct {
		name string
		cp   state.Checkpoint
	}{{"small", sample(1)}, {"big", state.Checkpoint{Token: bigToken(1, 1000)}}} {
		d, err := tok.cp.Token.Decode()
		if err != nil || d.ClusterTime.T != 1_700_000_001 {
			t.Errorf("the %s sample token decodes to %+v, %v", tok.name, d.ClusterTime, err)
		}
		if leak(tok.cp.Token.Raw().String()) == "" {
			t.Errorf("the %s sample token's contents are not seen", tok.name)
		}
		if found := leak(tok.cp.Token.String()); found != "" {
			t.Errorf("a token printed shows %s", found)
		}
	}
}
