package rigatonitest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// TestTokensAreWrittenAsServersDo takes tokens of real servers apart and puts
// them together again.
func TestTokensAreWrittenAsServersDo(t *testing.T) {
	for file, least := range map[string]int{"resume_tokens.jsonl": 15, "server_6_0_27.jsonl": 80} {
		f, err := os.Open("../resumetoken/testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		same := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			var line struct {
				Data  string
				Token json.RawMessage
			}
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			want := document(bson.D{{Key: "_data", Value: line.Data}})
			if line.Token != nil {
				if err := bson.UnmarshalExtJSON(line.Token, true, &want); err != nil {
					t.Fatal(err)
				}
			}
			got := again(want)
			if got == nil {
				continue
			}
			if line.Token == nil { // the others come without their type bits
				got = document(bson.D{{Key: "_data", Value: got.Lookup("_data")}})
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			same++
		}
		if same < least {
			t.Errorf("%s: only %d tokens were compared", file, same)
		}
		t.Logf("%s: %d tokens", file, same)
	}
}

// again makes a token of what a token says, or nil if it is one of a kind that
// this package doesn't make.
func again(doc bson.Raw) bson.Raw {
	tok, err := resumetoken.New(doc)
	if err != nil {
		return nil
	}
	d, err := tok.Decode()
	if err != nil || d.Format != resumetoken.FormatV1 || d.TxnOpIndex != 0 || d.OperationType != "" {
		return nil
	}
	if d.HighWaterMark {
		if !d.UUID.IsZero() {
			return nil
		}
		return highWaterMark(d.ClusterTime)
	}
	if d.DocumentKey != nil && !new(keyString).object(d.DocumentKey) {
		return nil
	}
	var uuid []byte
	if !d.UUID.IsZero() {
		uuid = d.UUID[:]
	}
	return eventToken(d.ClusterTime, d.FromInvalidate, uuid, d.DocumentKey)
}
