package resumetoken

import "bytes"

// Compare returns the order of two tokens in the stream: -1 if a is before b, +1
// if it is after b, and 0 if they have the same position. The result is a hint. ok
// is false, and order 0, if the tokens can't be compared.
//
// Tokens of the same format can be compared, and so can those of FormatV0,
// FormatV1 and FormatV2 with one another: by time, and at the same time the lower
// version is first. Opaque and malformed tokens and the zero Token can't be
// compared with any other.
//
// The result is meaningless for tokens of different deployments, and for those of
// one deployment from before and after it was restored from a backup. Compare
// can't detect that, because a token does not identify its deployment. Order 0
// does not always mean the same event: on MongoDB 4.0 a dropDatabase and its
// invalidate have the same token.
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
	// The version follows the time, and a lower one is encoded as a lower number.
	return bytes.Compare(ka, kb), true
}
