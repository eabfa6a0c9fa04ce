package state

import (
	"crypto/rand"
	"encoding/hex"
)

// NewNonce makes the nonce of a [LeaseRequest]: 128 random bits, as 32
// hexadecimal digits. It is made before the first attempt to acquire a lease and
// kept for every further one.
func NewNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b[:])
}
