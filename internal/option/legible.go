package option

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// legible refuses the characters that no value has on purpose, and that nobody
// sees in a terminal or an editor: control characters, and blanks at the ends. The
// blanks of a secret are taken as they are. JSON may have line breaks.
func (o *Option) legible(given string) error {
	if o.Arg == "JSON" {
		return nil
	}
	if !utf8.ValidString(given) {
		return errors.New("is not valid text: it must be UTF-8")
	}
	what := ""
	bare := strings.TrimFunc(given, blank)
	switch i := strings.IndexFunc(given, hidden); {
	case given != "" && bare == "" && !o.Secret:
		return errors.New("is blank; leave it out for the default")
	case bare != given && !o.Secret && strings.HasPrefix(given, bare):
		r, _ := utf8.DecodeLastRuneInString(given)
		what = "ends with " + called(r)
	case bare != given && !o.Secret:
		r, _ := utf8.DecodeRuneInString(given)
		what = "begins with " + called(r)
	case i >= 0:
		r, _ := utf8.DecodeRuneInString(given[i:])
		what = "has " + called(r) + " in it"
	default:
		return nil
	}
	if o.Secret {
		return errors.New(what + "; take that out")
	}
	return fmt.Errorf("is %s, which %s; take that out", o.shown(given), what)
}

// blank reports whether a character at the end of a value is seen by nobody.
func blank(r rune) bool { return unicode.IsSpace(r) || hidden(r) }

// hidden reports whether a character is invisible or commands a terminal. Zero
// width joiners belong to some scripts.
func hidden(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return r != nonJoiner && r != joiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func called(r rune) string {
	switch {
	case r == ' ':
		return "a blank"
	case r == '\n', r == '\r':
		return "a line break"
	case r == '\t':
		return "a tab"
	case unicode.IsSpace(r):
		return fmt.Sprintf("the blank %U", r)
	}
	return fmt.Sprintf("the control character %U", r)
}
