package extjson

import (
	"encoding/binary"
	"unicode/utf8"
)

// text returns the string value at the start of src, and its size.
func text(src []byte) ([]byte, int, error) {
	if len(src) < 5 {
		return nil, 0, &malformedError{0, "it ends inside a string"}
	}
	n := int64(int32(binary.LittleEndian.Uint32(src)))
	if n < 1 || n > int64(len(src)-4) {
		return nil, 0, &malformedError{0, "a string's length is wrong"}
	}
	end := 4 + int(n)
	if src[end-1] != 0 {
		return nil, 0, &malformedError{end - 1, "a string has no end"}
	}
	return src[4 : end-1], end, nil
}

func appendText(dst, src []byte) ([]byte, int, error) {
	s, n, err := text(src)
	if err != nil {
		return dst, 0, err
	}
	return appendString(dst, s), n, nil
}

// appendNamedText appends a string value in an object that names its type.
func (m Mode) appendNamedText(dst, src []byte, name string) ([]byte, int, error) {
	dst, n, err := appendText(m.open(dst, name), src)
	return m.close(dst), n, err
}

// plain has the bytes that stand for themselves in a JSON string.
var plain = func() (set [256]bool) {
	for b := ' '; b < utf8.RuneSelf; b++ {
		set[b] = b != '"' && b != '\\'
	}
	return set
}()

// plainPrefix returns how many bytes at the start of s are plain, or fewer:
// eight at a time, which most strings consist of.
func plainPrefix(s []byte) int {
	const (
		ones   = 0x0101010101010101
		highs  = 0x80 * ones
		blank  = 0x20 * ones
		quote  = '"' * ones
		escape = '\\' * ones
	)
	n := 0
	for ; len(s)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(s[n:])
		// The high bit of a difference is set where a byte is below the space, equal
		// to the quote, or equal to the backslash; also in bytes behind such a one,
		// which does no harm.
		if (w|(w-blank)|((w^quote)-ones)|((w^escape)-ones))&highs != 0 {
			break
		}
	}
	return n
}

// appendString appends s as a JSON string, as the driver does: a byte that is not
// UTF-8 becomes \ufffd, and line breaks are escaped, those too that only some
// readers split lines at.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i := plainPrefix(s); i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		size := 1
		if s[i] >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRune(s[i:])
			if !(r == utf8.RuneError && size == 1) && r != '\u0085' && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		dst = appendEscape(append(dst, s[done:i]...), s[i:i+size])
		i += size
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}

// appendEscape appends the escape of a character that JSON or a line can't hold.
func appendEscape(dst, s []byte) []byte {
	switch b := s[0]; {
	case len(s) == 3: // U+2028, U+2029
		return append(dst, '\\', 'u', '2', '0', '2', hexDigits[s[2]&15])
	case len(s) == 2:
		return append(dst, `\u0085`...)
	case b >= utf8.RuneSelf:
		return append(dst, `\ufffd`...)
	case b == '"' || b == '\\':
		return append(dst, '\\', b)
	case b == '\n':
		return append(dst, `\n`...)
	case b == '\r':
		return append(dst, `\r`...)
	case b == '\t':
		return append(dst, `\t`...)
	case b == '\b':
		return append(dst, `\b`...)
	case b == '\f':
		return append(dst, `\f`...)
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
	}
}
