// Package glob matches names against patterns in which "*" stands for any run of
// characters, also none. There are no other wildcards and no escapes.
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
