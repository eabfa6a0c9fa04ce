package redisstore

import "strings"

// The names of a key in Redis have one hash tag, so that a Cluster keeps them
// together: <prefix>{<encoded key>}, the record, and …:fence. Version 1 had …:cp, a
// mark, and …:cp:<seal>, the record.
const (
	recordSuffix = "}"
	fenceSuffix  = "}:fence"
	markSuffix   = "}:cp"
)

// names returns the names of record and fence.
func (s *Store) names(key string) []string {
	stem := s.opts.KeyPrefix + "{" + encodeKey(key)
	return []string{stem + recordSuffix, stem + fenceSuffix}
}

// oldNames returns those, and the names of mark and record in version 1.
func (s *Store) oldNames(key, seal string) []string {
	mark := s.opts.KeyPrefix + "{" + encodeKey(key) + markSuffix
	return append(s.names(key), mark, mark+":"+seal)
}

// keyOf returns the key that a name in Redis belongs to, if it is one of ours.
func (s *Store) keyOf(name string) (string, bool) {
	rest, ours := strings.CutPrefix(name, s.opts.KeyPrefix+"{")
	encoded, suffix, found := strings.Cut(rest, "}")
	suffix = "}" + suffix
	if !ours || !found || suffix != recordSuffix && suffix != fenceSuffix && suffix != markSuffix && !strings.HasPrefix(suffix, markSuffix+":") {
		return "", false
	}
	return decodeKey(encoded)
}

const upperHex = "0123456789ABCDEF"

// plain says which bytes of a key stand for themselves in Redis. A brace would
// end the hash tag; * ? [ ] ^ \ mean something to SCAN.
func plain(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-._/:", c) >= 0
}

func encodeKey(key string) string {
	from := 0
	for from < len(key) && plain(key[from]) {
		from++
	}
	if from == len(key) {
		return key
	}
	b := make([]byte, from, 3*len(key))
	copy(b, key)
	for _, c := range []byte(key[from:]) {
		if plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// decodeKey undoes encodeKey, and takes only what encodeKey makes.
func decodeKey(encoded string) (string, bool) {
	b := make([]byte, 0, len(encoded))
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		if c == '%' && i+2 < len(encoded) {
			high, low := strings.IndexByte(upperHex, encoded[i+1]), strings.IndexByte(upperHex, encoded[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c, i = byte(high<<4|low), i+2
		}
		b = append(b, c)
	}
	key := string(b)
	return key, key != "" && encodeKey(key) == encoded
}

// escapeGlob makes text that SCAN takes as it is.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}
