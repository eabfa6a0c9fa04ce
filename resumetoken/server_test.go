package resumetoken

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A serverToken is an event's token with the fields of the event, both from a
// real server.
type serverToken struct {
	Stream string
	Token  Token
	Event  struct {
		OperationType        string         `bson:"operationType"`
		ClusterTime          bson.Timestamp `bson:"clusterTime"`
		CollectionUUID       *bson.Binary   `bson:"collectionUUID"`
		DocumentKey          bson.Raw       `bson:"documentKey"`
		OperationDescription bson.Raw       `bson:"operationDescription"`
		SplitEvent           *struct {
			Fragment int `bson:"fragment"`
		} `bson:"splitEvent"`
	}
	opened bool // the stream's first token, without an event
}

// serverTokens were written by MongoDB 6.0.27. They have an _id of every type
// and, in the streams of version 1, some hundred numbers at the edges of the
// key format: TestServerTokens proves that types and decimals are restored
// exactly.
func serverTokens(t testing.TB) []serverToken {
	t.Helper()
	var out []serverToken
	for _, line := range lines(t, "testdata/server_6_0_27.jsonl") {
		var in struct{ Token, Event, Stream json.RawMessage }
		if err := json.Unmarshal(line, &in); err != nil {
			t.Fatal(err)
		}
		s := serverToken{Stream: string(in.Stream), opened: string(in.Event) == "null"}
		var err error
		if s.Token, err = Parse(in.Token); err != nil {
			t.Fatal(err)
		}
		if !s.opened {
			if err := bson.UnmarshalExtJSON(in.Event, true, &s.Event); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, s)
	}
	return out
}

func lines(t testing.TB, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		out = append(out, bytes.Clone(sc.Bytes()))
	}
	return out
}

func TestServerTokens(t *testing.T) {
	seen := map[string]int{}
	for i, s := range serverTokens(t) {
		d, err := s.Token.Decode()
		if err != nil {
			t.Errorf("line %d: %v (%s)", i+1, err, s.Event.DocumentKey)
			continue
		}
		if d.HighWaterMark != s.opened {
			t.Errorf("line %d: high-water mark %v, want %v", i+1, d.HighWaterMark, s.opened)
		}
		if s.opened {
			continue
		}
		s.check(t, i+1, d)
		seen[d.Format.String()]++
		if d.TxnOpIndex > 0 {
			seen["transaction"]++
		}
		if d.FromInvalidate {
			seen["invalidate"]++
		}
		if d.IsFragment {
			seen["fragment"]++
		}
		if d.OperationDescription != nil {
			seen["description"]++
		}
	}
	for _, kind := range []string{"v1", "v2", "transaction", "invalidate", "fragment", "description"} {
		if seen[kind] == 0 {
			t.Errorf("no token of the kind %s was tried", kind)
		}
	}
}

func (s serverToken) check(t *testing.T, line int, d Decoded) {
	t.Helper()
	e := s.Event
	if d.ClusterTime != e.ClusterTime {
		t.Errorf("line %d: time %v, want %v", line, d.ClusterTime, e.ClusterTime)
	}
	if !bytes.Equal(d.DocumentKey, e.DocumentKey) {
		t.Errorf("line %d: document key %s, want %s", line, d.DocumentKey, e.DocumentKey)
	}
	if d.FromInvalidate != (e.OperationType == "invalidate") {
		t.Errorf("line %d: fromInvalidate %v of %s", line, d.FromInvalidate, e.OperationType)
	}
	if u := e.CollectionUUID; u != nil && !bytes.Equal(d.UUID[:], u.Data) {
		t.Errorf("line %d: UUID %v, want %x", line, d.UUID, u.Data)
	}
	if d.OperationType != "" && e.OperationType != "invalidate" && d.OperationType != e.OperationType {
		t.Errorf("line %d: operation %s, want %s", line, d.OperationType, e.OperationType)
	}
	// Of a rename, a token of FormatV2 has the description also where the event
	// hides it, and one of FormatV1 never.
	if !bytes.Equal(d.OperationDescription, e.OperationDescription) && e.OperationType != "rename" {
		t.Errorf("line %d: description %s, want %s", line, d.OperationDescription, e.OperationDescription)
	}
	if f := e.SplitEvent; d.IsFragment != (f != nil) || f != nil && d.Fragment != f.Fragment-1 {
		t.Errorf("line %d: fragment %v %d", line, d.IsFragment, d.Fragment)
	}
}
