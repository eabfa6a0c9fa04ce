package ndjson

import (
	"strings"
	"testing"
)

// whole is what is kept of a file whose end may be torn.
func whole(t *testing.T, torn string) string {
	t.Helper()
	n, err := wholeLines(strings.NewReader(torn))
	if err != nil {
		t.Fatal(err)
	}
	return torn[:n]
}

func TestWholeLines(t *testing.T) {
	lines := strings.SplitAfter(text(t, 1, 5), "\n")[:5]
	all := strings.Join(lines, "")
	for end := range len(all) + 1 {
		if got, want := whole(t, all[:end]), all[:strings.LastIndexByte(all[:end], '\n')+1]; got != want {
			t.Fatalf("cut at %d: %d bytes are kept, want %d", end, len(got), len(want))
		}
	}
	// A block that was never written, anywhere: what is before it stays, and whole
	// lines after it go.
	for at := 0; at < len(all); at += 7 {
		for _, n := range []int{1, 64, 600} {
			torn := []byte(all)
			clear(torn[at:min(at+n, len(torn))])
			if got, want := whole(t, string(torn)), all[:strings.LastIndexByte(all[:at], '\n')+1]; got != want {
				t.Fatalf("%d zeros at %d: %d bytes are kept, want %d", n, at, len(got), len(want))
			}
		}
	}
}

func TestWholeLinesBeforeAnOddTail(t *testing.T) {
	lines := strings.SplitAfter(text(t, 1, 5), "\n")[:5]
	two := lines[0] + lines[1]
	for what, tail := range map[string]string{
		"zeros alone":            strings.Repeat("\x00", 10000),
		"more zeros than memory": strings.Repeat("\x00", 3<<20),
		"zeros and a line":       strings.Repeat("\x00", 4096) + lines[4],
		"zeros, a line break":    "\x00\x00\n" + lines[4],
		"an empty line":          "\n" + lines[4],
		"a number":               "5\n" + lines[4],
		"two lines in one":       strings.TrimSuffix(lines[3], "\n") + lines[4],
		"the end of a line":      lines[3][50:] + lines[4],
		"a long torn line":       `{"a":"` + strings.Repeat("x", 1<<20),
	} {
		if got := whole(t, two+tail); got != two {
			t.Errorf("%s: %d bytes are kept, want %d", what, len(got), len(two))
		}
		if got := whole(t, tail); got != "" {
			t.Errorf("%s alone: %d bytes are kept", what, len(got))
		}
	}
	long := `{"a":"` + strings.Repeat("x", 1<<20) + "\"}\n"
	if got := whole(t, long+long+lines[0]); got != long+long+lines[0] {
		t.Error("long whole lines are cut")
	}
}
