package ndjson

import (
	"bytes"
	"encoding/json"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func must(t testing.TB, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// checkLine fails if line can't be one line of a file.
func checkLine(t failer, line []byte) {
	t.Helper()
	if !json.Valid(line) {
		t.Fatalf("no valid JSON: %q", line)
	}
	if bytes.ContainsAny(line, "\n\r\x00\u0085\u2028\u2029") {
		t.Fatalf("a line break or NUL inside a line: %q", line)
	}
}

// event is like a change event of the server's; n makes it unlike others.
func event(n int, payload string) bson.D {
	oid := bson.ObjectID{0x65, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: token(n)}}},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: 1794000000, I: uint32(n)}},
		{Key: "wallTime", Value: bson.DateTime(1794000000000 + int64(n))},
		{Key: "fullDocument", Value: bson.D{{Key: "_id", Value: oid}, {Key: "n", Value: int32(n)}, {Key: "total", Value: 12.5}, {Key: "payload", Value: payload}}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: oid}}},
	}
}

func token(n int) string {
	const hex = "0123456789ABCDEF"
	b := []byte("826AEE2580000000002B022C0100296E5A100400000000000000000000000000000000463C5F6964003C6F7264657200000004")
	for i := range 8 {
		b[10+i] = hex[n>>(28-4*i)&15]
	}
	return string(b)
}
