// Package quote writes names that others chose into messages: what comes from a
// database must not write to a terminal or forge a line of a log.
package quote

import (
	"strconv"
	"strings"
	"unicode"
)

// Name returns a name as it is if it is plain, and quoted as a Go string if it has
// blanks, quotes, control characters or others that are not printed.
func Name(name string) string {
	if name != "" && strings.IndexFunc(name, special) < 0 && name == strings.ToValidUTF8(name, "") {
		return name
	}
	return strconv.Quote(name)
}

func special(r rune) bool {
	return !unicode.IsPrint(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'`\\", r)
}

// Text returns a text with everything that is not printed, or that would begin a new
// line, as a Go escape. It is for messages of others, which repeat such names.
func Text(text string) string {
	if strings.IndexFunc(text, hidden) < 0 && text == strings.ToValidUTF8(text, "") {
		return text
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if hidden(r) {
			escaped := strconv.QuoteRune(r)
			b.WriteString(escaped[1 : len(escaped)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) && r != '\u00a0' }
