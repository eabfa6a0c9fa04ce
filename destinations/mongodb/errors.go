package mongodb

import (
	"slices"
	"strings"
)

// aboutServer are the codes of a write that fails whatever its document is: a right, a state
// of the server, a conflict.
var aboutServer = []int{
	6, 7, 8, 11, 13, 20, 24, 43, 50, 64, 73, 89, 91, 100, 112, 133, 134, 166, 175, 189, 202, 225, 244, 246, 251, 256, 257, 262, 263, 290, 317, 388,
	8000, 9001, 10107, 11600, 11601, 11602, 13435, 13436,
}

// isAboutDocument reports whether a server refuses a document for what it is: a duplicate
// key (11000), a validator (121), a size, a name.
func isAboutDocument(code int) bool { return code != 0 && !slices.Contains(aboutServer, code) }

// A reason is an error of the driver, whose text has no documents: a server quotes them in
// some of its messages, in braces or after a key's name.
type reason struct{ err error }

const maxReason = 300

func (r reason) Error() string {
	text, _, cut := strings.Cut(r.err.Error(), "{")
	if before, _, dup := strings.Cut(text, " dup key: "); dup {
		text, cut = before, false
	}
	if len(text) > maxReason {
		text, cut = strings.ToValidUTF8(text[:maxReason], ""), true
	}
	if cut {
		text += "…"
	}
	return text
}

func (r reason) Unwrap() error { return r.err }

func explained(err error) error { return reason{err} }
