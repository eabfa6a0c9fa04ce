package config

import (
	"regexp"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
)

// goField finds a field of Go in the message of a library: with its struct, or, where
// it is of several words, alone. A name in quotes is somebody's.
var goField = regexp.MustCompile(`\b(?:Options|Config)\.([A-Z]\w+)|(^|[^\w."'` + "`" + `])((?:[A-Z][a-z0-9]+){2,})\b`)

// Words replaces the names that Go code has for options, which libraries use in the
// messages of a running pipeline, by those of fields and flags. Of the packages, the name
// of the one that says the most is left out.
func Words(text string) string {
	text = strings.ReplaceAll(text, "changestream: ", "")
	return goField.ReplaceAllStringFunc(text, func(found string) string {
		part := goField.FindStringSubmatch(found)
		if name := optionName(part[1] + part[3]); name != "" {
			return part[2] + name
		}
		return found
	})
}

// optionName is what users call a field of Go, of the command or of a back end.
func optionName(field string) string {
	if name := userName(field); name != "" {
		return name
	}
	for _, kinds := range [][]*backend.Kind{backend.Stores, backend.Destinations} {
		for _, k := range kinds {
			if name := nameOf(k.Options(), field); name != "" {
				return name
			}
		}
	}
	return ""
}
