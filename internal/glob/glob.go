// Package glob matches names against patterns in which "*" stands for any run of
// characters, also none. There are no other wildcards and no escapes.
//
// The other modules of this repository use the package although it is internal: what
// is exported here stays compatible, as if it were public.
package glob

import (
	"regexp"
	"strings"
)

// IsPattern reports whether s has a wildcard.
func IsPattern(s string) bool { return strings.Contains(s, "*") }

// Match reports whether all of name matches pattern.
func Match(pattern, name string) bool {
	first, rest, ok := strings.Cut(pattern, "*")
	if !ok {
		return name == pattern
	}
	name, ok = strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	// The leftmost match of each part leaves the most for those after it.
	for _, part := range parts[:len(parts)-1] {
		if _, name, ok = strings.Cut(name, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(name, last)
}

// Overlap reports whether some name matches both patterns. Its time is the product
// of their lengths.
func Overlap(a, b string) bool {
	// reached[j]: the part of a before i and the first j bytes of b can match the
	// same beginning of a name.
	reached := make([]bool, len(b)+1)
	reached[0] = true
	for j := range len(b) {
		reached[j+1] = reached[j] && b[j] == '*'
	}
	for i := range len(a) {
		before := reached
		reached = make([]bool, len(b)+1)
		reached[0] = before[0] && a[i] == '*'
		for j := range len(b) {
			switch {
			case a[i] == '*' || b[j] == '*':
				reached[j+1] = before[j+1] || reached[j]
			default:
				reached[j+1] = before[j] && a[i] == b[j]
			}
		}
	}
	return reached[len(b)]
}

// Regexp returns a regular expression that matches the same names, in the syntax
// that Go and MongoDB (PCRE) share. Not "$" ends it, which in PCRE also matches
// before a line break at the end.
func Regexp(pattern string) string {
	parts := strings.Split(pattern, "*")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return `(?s)^` + strings.Join(parts, ".*") + `\z`
}
