package postgres

import (
	"bytes"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

func eventWith(t *testing.T, token any, at bson.Timestamp) rigatoni.Event {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: token}, {Key: "operationType", Value: "insert"}, {Key: "clusterTime", Value: at}})
	if err != nil {
		t.Fatal(err)
	}
	return rigatoni.Event{Raw: raw}
}

// Versions have the order of the stream: by time, in a transaction by the token; a mark
// without an event is before the events of its time. A transform changes none.
func TestVersionOrder(t *testing.T) {
	var last []byte
	for _, d := range []resumetoken.Decoded{
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 1}, UUID: resumetoken.UUID{9}},
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 2}, HighWaterMark: true},
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 2}, UUID: resumetoken.UUID{9}},
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 2}, TxnOpIndex: 1, UUID: resumetoken.UUID{1}},
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 2}, TxnOpIndex: 300, UUID: resumetoken.UUID{1}},
		{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: 1, I: 1 << 31}, UUID: resumetoken.UUID{1}},
		{Format: resumetoken.FormatV2, ClusterTime: bson.Timestamp{T: 1<<32 - 1, I: 1}, UUID: resumetoken.UUID{1}, OperationType: "insert"},
	} {
		token, err := resumetoken.Encode(d)
		if err != nil {
			t.Fatal(err)
		}
		ev := eventWith(t, token.Raw(), bson.Timestamp{T: 7})
		v := versionOf(ev)
		if bytes.Compare(last, v) >= 0 {
			t.Errorf("%x is not after %x", v, last)
		}
		if other := versionOf(ev.With(bson.Raw("\x05\x00\x00\x00\x00"))); !bytes.Equal(v, other) {
			t.Errorf("a transform makes it %x", other)
		}
		if at := timeOf(v).Unix(); at != int64(d.ClusterTime.T) {
			t.Errorf("its time is %d, not %d", at, d.ClusterTime.T)
		}
		last = v
	}
}

// A token that isn't MongoDB's has the version of its cluster time.
func TestVersionOfOthers(t *testing.T) {
	at := bson.Timestamp{T: 2, I: 3}
	for name, token := range map[string]bson.D{
		"DocumentDB":   {{Key: "_data", Value: "01"}},
		"Cosmos DB":    {{Key: "_data", Value: bson.Binary{Data: []byte(`{"V":2}`)}}},
		"not hex":      {{Key: "_data", Value: "82zz"}},
		"without data": {{Key: "x", Value: 1}},
	} {
		if got := versionOf(eventWith(t, token, at)); !bytes.Equal(got, []byte{0x82, 0, 0, 0, 2, 0, 0, 0, 3}) {
			t.Errorf("%s: %x", name, got)
		}
	}
	key := []byte{0x82, 1, 2, 3, 4, 5, 6, 7, 8, 0x14, 4}
	if got := versionOf(eventWith(t, bson.D{{Key: "_data", Value: bson.Binary{Data: key}}}, at)); !bytes.Equal(got, key) {
		t.Errorf("MongoDB 3.6: %x", got)
	}
}
