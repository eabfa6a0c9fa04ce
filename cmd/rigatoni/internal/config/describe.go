package config

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Describe is an option's help: what it does, what it may be, and its default.
func Describe(o option.Option) string {
	text := o.Help
	if o.OneOf != nil {
		text += ": " + strings.Join(o.OneOf, ", ")
	}
	var notes []string
	if o.Default != "" {
		notes = append(notes, "default: "+o.Default)
	}
	if o.Off != "" {
		notes = append(notes, "off: "+o.Off)
	}
	if notes == nil {
		return text
	}
	return text + " (" + strings.Join(notes, "; ") + ")"
}
