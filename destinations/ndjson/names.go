package ndjson

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	suffix     = ".ndjson"
	openSuffix = ".partial" // behind suffix, while no checkpoint covers the whole file

	// With generation, number and suffixes a name stays below 143 bytes, what eCryptfs
	// allows; elsewhere it is 255.
	maxStem    = 90
	longPrefix = 49
)

// A fileName is what the name of a file says. A file keeps it from its first
// event on; only what follows the suffix changes.
type fileName struct {
	stem       string // the key, encoded
	generation uint64 // of the owner; see ownership
	number     uint64
}

// maxNumber is the last number with as many digits as the first: one more would sort
// before it.
const maxNumber = 999_999

// String returns the name of the finished file.
func (n fileName) String() string {
	return fmt.Sprintf("%s-%010d-%06d%s", n.stem, n.generation, n.number, suffix)
}

// open returns the name that the file has until it is finished.
func (n fileName) open() string { return n.String() + openSuffix }

// claimed returns the name that an owner of a later generation gives to an open file
// that its writer may still hold; see recovery.inherit.
func (n fileName) claimed(generation uint64) string {
	return fmt.Sprintf("%s.%010d", n.open(), generation)
}

// compare orders the files of one key as they were written.
func (n fileName) compare(m fileName) int {
	return cmp.Or(cmp.Compare(n.generation, m.generation), cmp.Compare(n.number, m.number))
}

// parseName reads the name of a file, finished or not.
func parseName(s string) (n fileName, finished, ok bool) {
	if n, ok = parseFinished(s); ok {
		return n, true, true
	}
	i := strings.LastIndex(s, suffix+openSuffix)
	if i < 0 {
		return fileName{}, false, false
	}
	n, ok = parseFinished(s[:i+len(suffix)])
	claim := s[i+len(suffix+openSuffix):]
	if !ok || claim == "" {
		return n, false, ok
	}
	generation, err := strconv.ParseUint(claim[1:], 10, 64)
	return n, false, err == nil && n.claimed(generation) == s
}

// parseFinished reads the name of a finished file. Generation and number stand at the
// end and have no "-", so that a key may have as many as it likes.
func parseFinished(s string) (fileName, bool) {
	rest, ok := strings.CutSuffix(s, suffix)
	if !ok {
		return fileName{}, false
	}
	var n fileName
	for _, field := range []*uint64{&n.number, &n.generation} {
		i := strings.LastIndexByte(rest, '-')
		if i < 0 {
			return fileName{}, false
		}
		var err error
		if *field, err = strconv.ParseUint(rest[i+1:], 10, 64); err != nil {
			return fileName{}, false
		}
		rest = rest[:i]
	}
	n.stem = rest
	return n, n.stem != "" && n.String() == s
}

// stemOf encodes a key: readable, different for different keys, and made of
// ASCII that no file system folds, normalises or reserves.
func stemOf(key string) string {
	s := escape(key)
	if len(s) <= maxStem {
		return s
	}
	s = s[:longPrefix]
	if i := strings.LastIndexByte(s, '%'); i > len(s)-3 {
		s = s[:i]
	}
	// No byte escapes to "~", so a long stem is never that of another key.
	sum := sha256.Sum256([]byte(key))
	return s + "~" + hex.EncodeToString(sum[:20])
}

func escape(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case i == 0 && (c == '.' || c == '-' || reserved(key)): // hidden, or looks like an option
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// reserved reports whether Windows takes a name that begins so for a device: it
// looks at what stands before the first dot.
func reserved(key string) bool {
	name, _, dot := strings.Cut(key, ".")
	if !dot {
		return false
	}
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (strings.HasPrefix(name, "com") || strings.HasPrefix(name, "lpt"))
}
