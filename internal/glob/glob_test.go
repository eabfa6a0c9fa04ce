package glob

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "anything.at all\n", true},
		{"orders", "orders", true},
		{"orders", "orders2", false},
		{"log_*", "log_", true},
		{"log_*", "log_2024", true},
		{"log_*", "my_log_2024", false},
		{"log_*", "LOG_2024", false},
		{"*_log", "a_log", true},
		{"*_log", "a_log\n", false},
		{"*_log", "a_log_log", true},
		{"a*a", "a", false}, // the two don't overlap
		{"a*a", "aa", true},
		{"a*b*c", "a-c-b-c", true},
		{"a*b*c", "acb", false},
		{"**", "x", true},
		{"a.c", "abc", false},
		{"a?c", "abc", false},
		{"[ab]*", "b", false},
		{"ü*", "über", true},
		{`a\*`, `a\b`, true}, // no escapes
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
		if got := regexp.MustCompile(Regexp(c.pattern)).MatchString(c.name); got != c.want {
			t.Errorf("Regexp(%q) = %s matches %q: %v", c.pattern, Regexp(c.pattern), c.name, got)
		}
	}
}

// Match and Regexp agree, which are written independently of each other.
func TestMatchAgreesWithRegexp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	text := func(alphabet string) string {
		b := make([]byte, rnd.IntN(8))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	for range 20000 {
		pattern, name := text("ab*.\n"), text("ab.\n")
		want := regexp.MustCompile(Regexp(pattern)).MatchString(name)
		if got := Match(pattern, name); got != want {
			t.Fatalf("Match(%q, %q) = %v, by the regular expression %v", pattern, name, got, want)
		}
	}
}

func TestIsPattern(t *testing.T) {
	if IsPattern("orders") || !IsPattern("log_*") {
		t.Error("a pattern is what has a *")
	}
}

// TestOverlap: the answer is that of trying all names up to a length that the
// shortest common name of such patterns can't exceed.
func TestOverlap(t *testing.T) {
	var names func(n int) []string
	names = func(n int) []string {
		all := []string{""}
		if n == 0 {
			return all
		}
		for _, s := range names(n - 1) {
			all = append(all, s+"a", s+"b")
		}
		return all
	}
	candidates := names(8)
	rnd := rand.New(rand.NewPCG(1, 2))
	pattern := func() string {
		b := make([]byte, rnd.IntN(5))
		for i := range b {
			b[i] = "ab*"[rnd.IntN(3)]
		}
		return string(b)
	}
	both := map[bool]int{}
	for range 3000 {
		a, b := pattern(), pattern()
		want := slices.ContainsFunc(candidates, func(s string) bool { return Match(a, s) && Match(b, s) })
		if got := Overlap(a, b); got != want {
			t.Fatalf("%q and %q: overlap %v, want %v", a, b, got, want)
		}
		both[want]++
	}
	if both[true] < 100 || both[false] < 100 {
		t.Errorf("the cases are one-sided: %v", both)
	}
}
