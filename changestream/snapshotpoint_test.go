package changestream

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

func ts(t, i uint32) bson.Timestamp { return bson.Timestamp{T: t, I: i} }

func eventToken(t *testing.T, at bson.Timestamp, txn int) resumetoken.Token {
	t.Helper()
	key, err := bson.Marshal(bson.D{{Key: "_id", Value: int32(1)}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := resumetoken.Encode(resumetoken.Decoded{Format: resumetoken.FormatV1, ClusterTime: at, TxnOpIndex: txn, UUID: resumetoken.UUID{1}, DocumentKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSafePointBeforeAnEvent(t *testing.T) {
	var p safePoints
	if s, ok := p.before(ts(5, 1)); !ok || s != ts(5, 0) {
		t.Errorf("before the first event: %v %v, want 5.0", s, ok)
	}
	p.processed(ts(5, 1))
	if s, ok := p.before(ts(5, 1)); ok {
		t.Errorf("among the events of one time (a transaction): %v", s)
	}
	if s, ok := p.before(ts(5, 3)); !ok || s != ts(5, 2) {
		t.Errorf("before a later event: %v %v, want 5.2", s, ok)
	}
	if s, ok := p.before(ts(6, 0)); !ok || s != (bson.Timestamp{T: 5, I: 1<<32 - 1}) {
		t.Errorf("one tick before 6.0: %v %v", s, ok)
	}
}

func TestSafePointOfAQuietStream(t *testing.T) {
	for _, c := range []struct {
		what  string
		last  bson.Timestamp
		token resumetoken.Token
		want  bson.Timestamp
		ok    bool
	}{
		{"a mark T says that nothing before T is missing", ts(5, 1), highWaterMark(t, ts(7, 3)), ts(7, 2), true},
		{"a mark right after the last event", ts(5, 1), highWaterMark(t, ts(5, 2)), ts(5, 1), true},
		{"a mark at the time of the last event, as a resumed stream gives it", ts(5, 1), highWaterMark(t, ts(5, 1)), ts(5, 0), false},
		{"the token of the last event", ts(5, 1), eventToken(t, ts(5, 1), 0), ts(5, 1), true},
		{"the token of an event before the last one", ts(5, 2), eventToken(t, ts(5, 1), 0), ts(5, 1), false},
		{"no token", ts(5, 1), resumetoken.Token{}, bson.Timestamp{}, false},
		{"a token that can't be decoded", ts(5, 1), opaque(t), bson.Timestamp{}, false},
	} {
		p := safePoints{last: c.last}
		if s, ok := p.quiet(c.token); s != c.want || ok != c.ok {
			t.Errorf("%s: %v %v, want %v %v", c.what, s, ok, c.want, c.ok)
		}
	}
}

// A stream that resumes in the middle of a transaction has events of that time to come.
func TestSafePointAfterResuming(t *testing.T) {
	var p safePoints
	p.resume(rigatoni.Position{Token: eventToken(t, ts(5, 1), 3)})
	if s, ok := p.before(ts(5, 1)); ok {
		t.Errorf("among the events of one time: %v", s)
	}
	p = safePoints{}
	p.resume(rigatoni.Position{Token: highWaterMark(t, ts(5, 1))})
	if s, ok := p.before(ts(5, 1)); !ok || s != ts(5, 0) {
		t.Errorf("after a mark: %v %v, want 5.0", s, ok)
	}
}
