package filestore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// The names of a key's files are made of one stem. It consists of ASCII that no
// file system folds, normalises or reserves.
const (
	dataSuffix = ".json"
	lockSuffix = ".lock"
	tempSuffix = ".tmp" // stem.0a1b2c3d.tmp

	// With the longest suffix a name stays below 143 bytes, what eCryptfs allows;
	// elsewhere it is 255.
	maxStem    = 120
	longPrefix = 70
)

const lowerHex = "0123456789abcdef"

// stem is the name of a key's files without suffix. Different keys have different
// stems.
func stem(key string) string {
	if s := escape(key); len(s) <= maxStem {
		return s
	}
	// No byte escapes to "~", so a long stem is never that of another key.
	sum := sha256.Sum256([]byte(key))
	return longStemPrefix(key) + "~" + hex.EncodeToString(sum[:20])
}

// longStemPrefix is as many whole bytes of the key as fit.
func longStemPrefix(key string) string {
	s := escape(key)[:longPrefix]
	if i := strings.LastIndexByte(s, '%'); i > len(s)-3 {
		s = s[:i]
	}
	return s
}

// escape writes the key in a-z, 0-9, "-", "_", "." and "%xx", so that it can be read
// back.
func escape(key string) string {
	var b strings.Builder
	first := reservedName(key) || key[0] == '.'
	for i := 0; i < len(key); i++ {
		c := key[i]
		if plainByte(c) && !(i == 0 && first) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(lowerHex[c>>4])
		b.WriteByte(lowerHex[c&15])
	}
	return b.String()
}

func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// reservedName reports whether Windows takes a name for a device, whatever comes after
// its first dot. (Large letters are escaped, so they are never one.)
func reservedName(key string) bool {
	name, _, _ := strings.Cut(key, ".")
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (name[:3] == "com" || name[:3] == "lpt") && name[3] >= '0' && name[3] <= '9'
}

// unescape is the key that has the stem s, if the stem is not a long one and is
// one that this store makes.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := strings.IndexByte(lowerHex, s[i+1]), strings.IndexByte(lowerHex, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		b.WriteByte(c)
	}
	key := b.String()
	return key, key != "" && stem(key) == s
}

// isLongStem reports whether s has the form of a long stem, and returns the readable
// beginning of the key.
func isLongStem(s string) (prefix string, ok bool) {
	before, sum, ok := strings.Cut(s, "~")
	if !ok || len(sum) != 40 || strings.Trim(sum, lowerHex) != "" {
		return "", false
	}
	prefix, _ = unescape(before)
	return prefix, true
}

// stemOfTemp is the stem in the name of a temporary file.
func stemOfTemp(name string) (string, bool) {
	s, ok := strings.CutSuffix(name, tempSuffix)
	if !ok || len(s) < 10 || s[len(s)-9] != '.' || strings.Trim(s[len(s)-8:], lowerHex) != "" {
		return "", false
	}
	return s[:len(s)-9], true
}
