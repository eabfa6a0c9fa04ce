package config

import (
	"errors"
	"regexp"
	"strings"
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
	text, first := err.Error(), ""
	begin := len(text)
	for _, prefix := range []string{"Options.", "Config."} {
		if i := strings.Index(text, prefix); i >= 0 {
			begin = min(begin, i)
		}
	}
	text = goNames.ReplaceAllStringFunc(text[begin:], func(found string) string {
		part := goNames.FindStringSubmatch(found)
		name := userName(part[2])
		if name == "" || part[1] == "" && first == "" {
			return found
		}
		if first == "" {
			first = name
		}
		return name
	})
	if first == "" {
		return err
	}
	switch where := s.origin[first]; {
	case strings.HasPrefix(where, "--"):
		text = strings.Replace(text, first, where, 1)
	case where != "":
		text = where + ": " + text
	}
	return &Mistake{text, err}
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

// IsMistake reports whether err is a mistake in the settings.
func IsMistake(err error) bool {
	return errors.As(err, new(Problems)) || errors.As(err, new(*Mistake))
}
