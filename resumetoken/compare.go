package resumetoken

import "bytes"

// Compare tells in which order two tokens lie in the stream: -1 if a is before
// b, 1 if it is after b, 0 if they are at the same place. It is a hint, as good
// as the tokens: ok is false if they do not compare, and order 0 then.
//
// Tokens of the same format compare, and those of FormatV0, FormatV1 and
// FormatV2 with one another: by time, and at the same time the lower version is
// first. An opaque or malformed token compares with none, nor does the zero
// Token.
//
// Tokens of different deployments do not compare, and those of one deployment
// before and after it was restored from a backup; no token says where it is
// from, so Compare cannot know. And order 0 is not always the same event: on
// MongoDB 4.0 a dropDatabase and its invalidate have one token.
func Compare(a, b Token) (order int, ok bool) {
	da, err := a.Decode()
	if err != nil {
		return 0, false
	}
	db, err := b.Decode()
	if err != nil || (da.Format == Format36) != (db.Format == Format36) {
		return 0, false
	}
	ka, _, err := a.key()
	if err != nil {
		return 0, false
	}
	kb, _, err := b.key()
	if err != nil {
		return 0, false
	}
	// The version stands behind the time, and a lower one is the lower number.
	return bytes.Compare(ka, kb), true
}
