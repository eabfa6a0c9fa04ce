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
