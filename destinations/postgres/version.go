package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// keyStringTimestamp begins the resume tokens of every MongoDB server: a timestamp
// follows, of eight bytes.
const keyStringTimestamp = 0x82

// versionOf is what the column version has for an event: the bytes of its resume token,
// whose order is that of the stream. The events of a transaction share their cluster
// time, and differ in their tokens.
func versionOf(ev rigatoni.Event) []byte {
	token, err := ev.Token()
	if err != nil {
		return timeVersion(ev.ClusterTime())
	}
	return tokenVersion(token, ev.ClusterTime())
}

// tokenVersion is the version of a token. One that isn't MongoDB's has an order that
// nobody knows, and is as late as its cluster time.
func tokenVersion(token resumetoken.Token, at bson.Timestamp) []byte {
	data := token.Raw().Lookup("_data")
	if text, ok := data.StringValueOK(); ok {
		if key, err := hex.DecodeString(text); err == nil && isKeyString(key) {
			return key
		}
	}
	if subtype, key, ok := data.BinaryOK(); ok && subtype == bson.TypeBinaryGeneric && isKeyString(key) {
		return key
	}
	return timeVersion(at)
}

func isKeyString(key []byte) bool { return len(key) >= 9 && key[0] == keyStringTimestamp }

func timeVersion(at bson.Timestamp) []byte {
	key := binary.BigEndian.AppendUint32([]byte{keyStringTimestamp}, at.T)
	return binary.BigEndian.AppendUint32(key, at.I)
}

// timeOf is the cluster time of a version, in seconds.
func timeOf(version []byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(version[1:])), 0)
}
