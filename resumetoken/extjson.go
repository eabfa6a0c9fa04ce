package resumetoken

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// bsonField is the only field of the form that ExtJSON falls back to.
const bsonField = "$tokenBSON"

// ExtJSON returns the token as canonical Extended JSON v2, from which [Parse]
// restores the same token, byte for byte. A document that Extended JSON can't
// represent exactly is written as {"$tokenBSON": base64} instead. The zero Token is
// an error.
func (t Token) ExtJSON() ([]byte, error) { return t.AppendExtJSON(nil) }

// AppendExtJSON appends the result of [Token.ExtJSON] to dst. With an error it
// returns dst unchanged.
func (t Token) AppendExtJSON(dst []byte) ([]byte, error) {
	if t.doc == "" {
		return dst, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if text, ok := t.appendPlain(dst); ok {
		return text, nil
	}
	return append(dst, t.slowExtJSON()...), nil
}

// The two fields of MongoDB's tokens, in BSON.
const dataField, bitsField = "\x02_data\x00", "\x05_typeBits\x00"

// appendPlain writes MongoDB's tokens, a string of hexadecimal digits and
// perhaps type bits, without parsing, because a pipeline writes one with every
// checkpoint. The result is the same as slowExtJSON's.
func (t Token) appendPlain(dst []byte) ([]byte, bool) {
	data, rest, ok := cutField(t.doc[4:], dataField, 0)
	if !ok || !strings.HasSuffix(data, "\x00") {
		return nil, false
	}
	if data = data[:len(data)-1]; !isHex(data) {
		return nil, false
	}
	out := slices.Grow(dst, len(data)+len(rest)*2+64)
	out = append(append(append(out, `{"_data":"`...), data...), '"')
	if rest != "\x00" {
		bits, rest, ok := cutField(rest, bitsField, 1)
		if !ok || bits[0] != bson.TypeBinaryGeneric || rest != "\x00" {
			return nil, false
		}
		out = append(out, `,"_typeBits":{"$binary":{"base64":"`...)
		out = base64.StdEncoding.AppendEncode(out, []byte(bits[1:]))
		out = append(out, `","subType":"00"}}`...)
	}
	return append(out, '}'), true
}

// cutField reads a BSON element that begins with its length from the front of
// s; it has extra bytes more than the length says.
func cutField(s, field string, extra uint64) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, field)
	if !ok || len(s) < 4 {
		return "", "", false
	}
	n := uint64(uint32(s[0])|uint32(s[1])<<8|uint32(s[2])<<16|uint32(s[3])<<24) + extra
	if s = s[4:]; n > uint64(len(s)) {
		return "", "", false
	}
	return s[:n], s[n:], true
}

func isHex[T string | []byte](s T) bool {
	for i := range len(s) {
		if !hexDigits[s[i]] {
			return false
		}
	}
	return true
}

// hexDigits is true for each hexadecimal digit.
var hexDigits = func() (is [256]bool) {
	for _, c := range []byte("0123456789ABCDEFabcdef") {
		is[c] = true
	}
	return is
}()

// slowExtJSON reads its output back before it relies on it: Extended JSON can't
// represent some documents, and changes others silently (for example, text that
// is not UTF-8).
func (t Token) slowExtJSON() []byte {
	raw := bson.Raw(t.doc)
	if text, err := bson.MarshalExtJSON(raw, true, false); err == nil && utf8.Valid(text) {
		if back, err := Parse(text); err == nil && back == t {
			return text
		}
	}
	return []byte(`{"` + bsonField + `":"` + base64.StdEncoding.EncodeToString(raw) + `"}`)
}

// Parse parses the result of [Token.ExtJSON], or any Extended JSON form of a
// token.
func Parse(text []byte) (Token, error) {
	if t, ok := parsePlain(text); ok {
		return t, nil
	}
	return slowParse(text)
}

func slowParse(text []byte) (Token, error) {
	raw, err := parseExtJSON(text)
	if err != nil {
		// The decoder's own message quotes the text, which contains a
		// document's _id.
		return Token{}, fmt.Errorf("%w: it is not Extended JSON", ErrInvalid)
	}
	if v, err := raw.LookupErr(bsonField); err == nil {
		s, ok := v.StringValueOK()
		if !ok {
			return Token{}, fmt.Errorf("%w: %s is not a string", ErrInvalid, bsonField)
		}
		if raw, err = base64.StdEncoding.DecodeString(s); err != nil {
			return Token{}, fmt.Errorf("%w: %s is not base64", ErrInvalid, bsonField)
		}
	}
	return New(raw)
}

// parsePlain parses exactly what appendPlain writes, in a fifth of the time.
func parsePlain(text []byte) (Token, bool) {
	const afterData, beforeBits, afterBits = `"}`, `","_typeBits":{"$binary":{"base64":"`, `","subType":"00"}}}`
	rest, ok := bytes.CutPrefix(text, []byte(`{"_data":"`))
	n := bytes.IndexByte(rest, '"')
	if !ok || n < 0 || !isHex(rest[:n]) {
		return Token{}, false
	}
	data, rest := rest[:n], rest[n:]
	var bits []byte
	if string(rest) != afterData {
		rest, ok = bytes.CutPrefix(rest, []byte(beforeBits))
		rest, end := bytes.CutSuffix(rest, []byte(afterBits))
		// The decoder would ignore line breaks.
		if !ok || !end || bytes.ContainsAny(rest, "\r\n") {
			return Token{}, false
		}
		// Not nil if empty: the field exists.
		if bits, ok = decode64(rest); !ok {
			return Token{}, false
		}
	}
	size := 4 + len(dataField) + 4 + len(data) + 1 + 1
	if bits != nil {
		size += len(bitsField) + 4 + 1 + len(bits)
	}
	var b strings.Builder
	b.Grow(size)
	number := func(n int) {
		var v [4]byte
		binary.LittleEndian.PutUint32(v[:], uint32(n))
		b.Write(v[:])
	}
	number(size)
	b.WriteString(dataField)
	number(len(data) + 1)
	b.Write(data)
	b.WriteByte(0)
	if bits != nil {
		b.WriteString(bitsField)
		number(len(bits))
		b.WriteByte(bson.TypeBinaryGeneric)
		b.Write(bits)
	}
	b.WriteByte(0)
	return Token{doc: b.String()}, true
}

func decode64(text []byte) ([]byte, bool) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	return out[:n], err == nil
}

func parseExtJSON(text []byte) (bson.Raw, error) {
	// The driver stops reading where the document ends.
	if !json.Valid(text) {
		return nil, ErrInvalid
	}
	var raw bson.Raw
	if err := bson.UnmarshalExtJSON(text, true, &raw); err != nil {
		return nil, err
	}
	return raw, nil
}
