package config

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// suggestion names what was probably meant by a name, or all that there is.
func suggestion(name string, known []string) string {
	if len(known) == 0 {
		return "it has none"
	}
	plain := strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(name))
	for _, k := range known { // maxBatchBytes
		if strings.ReplaceAll(plain, "-", "") == strings.ReplaceAll(k, "-", "") {
			return "did you mean " + k + "?"
		}
	}
	if close := similar(plain, known); len(close) > 0 && len(close) <= 3 {
		return "did you mean " + strings.Join(close, " or ") + "?"
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return "there are " + strings.Join(known, ", ")
}

// similar asks cobra, which has such suggestions for its commands.
func similar(name string, known []string) []string {
	if len(name) < 2 || len(name) > 100 {
		return nil
	}
	parent := &cobra.Command{SuggestionsMinimumDistance: 1 + len(name)/4}
	for _, k := range known {
		parent.AddCommand(&cobra.Command{Use: k, Run: func(*cobra.Command, []string) {}})
	}
	return parent.SuggestionsFor(name)
}
