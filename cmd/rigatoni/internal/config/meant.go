package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/suggest"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// meant says what was probably meant by a field that there isn't.
func meant(name string) string {
	if name == "<<" {
		return "YAML's merge is not known here; write its fields out"
	}
	if f, k := backendWith(name); k != nil {
		return fmt.Sprintf("it is an option of %s: write it beside url:, below %s:", k.Name(), f.Option.Name)
	}
	for _, f := range Fields {
		if !f.Option.Once && slices.Contains(f.Option.OneOf, name) {
			return fmt.Sprintf("did you mean %s: %s?", f.Option.Name, name)
		}
	}
	if close := suggest.Similar(name, inFiles()); close != nil {
		return "did you mean " + strings.Join(close, " or ") + "?"
	}
	return "rigatoni run --help lists those that there are"
}

// meantOption is meant for an option of a back end.
func meantOption(name string, options any) string {
	var names []string
	for _, o := range option.Of(options) {
		if slices.Contains(o.OneOf, name) {
			return fmt.Sprintf("did you mean %s: %s?", o.Name, name)
		}
		names = append(names, o.Name)
	}
	if f, ok := ByName(name); ok && !f.Option.Once {
		return fmt.Sprintf("%s is a field of its own: write it in the first column", name)
	}
	return suggest.Name(name, names)
}

// MeantFlag says what was probably meant by a flag that there isn't; "" if nothing
// is close.
func MeantFlag(name string) string {
	if f, k := backendWith(name); k != nil {
		return fmt.Sprintf("it is a parameter of the URL: --%s '%s?%s=…'", f.Option.Name, k.Forms[0][0], name)
	}
	var names []string
	for _, f := range Fields {
		names = append(names, f.Option.Name)
	}
	if close := suggest.Similar(name, names); close != nil {
		return "did you mean --" + strings.Join(close, " or --") + "?"
	}
	return ""
}

// backendWith returns a kind of back end that has the option, and the option that
// names such back ends.
func backendWith(name string) (Field, *backend.Kind) {
	for _, f := range Fields {
		for _, k := range f.Kinds {
			if _, ok := option.Find(k.Options(), name); ok {
				return f, k
			}
		}
	}
	return Field{}, nil
}
