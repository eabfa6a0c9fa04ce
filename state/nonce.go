package state

import (
	"crypto/rand"
	"encoding/hex"
)

// NewNonce returns a nonce for a [LeaseRequest]: 128 random bits as 32 hexadecimal
// digits.
func NewNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b[:])
}
