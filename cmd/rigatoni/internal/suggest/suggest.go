// Package suggest finds what was meant by a name that there isn't.
package suggest

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Name says what was probably meant by a name, or lists all that there is.
func Name(name string, known []string) string {
	if len(known) == 0 {
		return "it has none"
	}
	if close := Similar(name, known); close != nil {
		return "did you mean " + strings.Join(close, " or ") + "?"
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return "there are " + strings.Join(known, ", ")
}

// Similar returns the names that were probably meant, three at most; nil if none
// is close.
func Similar(name string, known []string) []string {
	plain := strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(name))
	for _, k := range known { // maxBatchBytes
		if strings.ReplaceAll(plain, "-", "") == strings.ReplaceAll(k, "-", "") {
			return []string{k}
		}
	}
	if len(plain) < 2 || len(plain) > 100 {
		return nil
	}
	// cobra has such suggestions for its commands.
	parent := &cobra.Command{SuggestionsMinimumDistance: 1 + len(plain)/4}
	for _, k := range known {
		parent.AddCommand(&cobra.Command{Use: k, Run: func(*cobra.Command, []string) {}})
	}
	if close := parent.SuggestionsFor(plain); 0 < len(close) && len(close) <= 3 {
		return close
	}
	return nil
}
