package config

import (
	"errors"
	"regexp"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// A Mistake is one that a library finds in the settings, in the user's words.
type Mistake struct {
	text string
	err  error
}

func (m *Mistake) Error() string { return m.text }
func (m *Mistake) Unwrap() error { return m.err }

// goNames finds Config.RetryMin, and a bare RetryMin that follows.
var goNames = regexp.MustCompile(`\b(Options\.|Config\.)?([A-Z]\w+)\b`)

// Explain replaces the names that Go code has for options, which a library uses
// in an error, by those of fields and flags, and says where the first of them
// was set.
func (s *Settings) Explain(err error) error {
	text, where, about := s.explain(err)
	switch {
	case about == nil:
		return err
	case where != "":
		text = where + ": " + text
	}
	return &Mistake{text, err}
}

// explain returns the text of an error with the names of fields and flags, the
// file and line of the first of them, and all of them.
func (s *Settings) explain(err error) (text, where string, about []string) {
	text = err.Error()
	begin := len(text)
	for _, prefix := range []string{"Options.", "Config."} {
		if i := strings.Index(text, prefix); i >= 0 {
			begin = min(begin, i)
		}
	}
	inWords := goNames.ReplaceAllStringFunc(text[begin:], func(found string) string {
		part := goNames.FindStringSubmatch(found)
		name := userName(part[2])
		if name == "" || part[1] == "" && about == nil {
			return found
		}
		about = append(about, strings.TrimPrefix(name, "--"))
		return name
	})
	if about == nil {
		return text, "", nil
	}
	switch where = s.origin[about[0]]; {
	case where == "", strings.Contains(where, ":"):
		return inWords, where, about
	default: // a flag, or a variable of the environment
		inWords = strings.Replace(inWords, "--"+about[0], about[0], 1)
		return strings.Replace(inWords, about[0], where, 1), "", about
	}
}

// userName is what users call a field of Go, "" if it is no option.
func userName(field string) string {
	for _, f := range Fields {
		switch {
		case f.Option.Field != field:
		case f.Option.Once:
			return "--" + f.Option.Name
		default:
			return f.Option.Name
		}
	}
	return ""
}

// nameOf is the name of the option of a back end that is this field of Go; "" if
// there is none.
func nameOf(options any, field string) string {
	for _, o := range option.Of(options) {
		if o.Field == field {
			return o.Name
		}
	}
	return ""
}

// IsMistake reports whether err is a mistake in the settings.
func IsMistake(err error) bool {
	return errors.As(err, new(Problems)) || errors.As(err, new(*Mistake))
}
