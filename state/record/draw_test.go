package record

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

var oddText = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
	"\x00\x1f\x7f", "\u2028\u2029\ufeff", "a\"b\\c/\b\f\n\r\t", "<&>", "👩‍🚀", "token", "\ufffd", strings.Repeat("x", 5000),
}))

var oddDoc = rapid.OneOf(
	rapid.SampledFrom([]string{
		`null`, `0`, `-0.0e+10`, `123456789012345678901234567890.5`, `"\ud800"`, `"\u2028<>"`, `{"a":1,"a":2}`, " \n{ \"a\"\r\n:\t[ ] }\n",
		`{"version":2,"token":{"_data":""}}`, `"a\"]}\\"`, `[[[{}],[]]]`,
	}),
	rapid.Custom(func(t *rapid.T) string {
		doc, err := json.Marshal(map[string]string{oddText.Draw(t, "name"): oddText.Draw(t, "value")})
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}),
)

func drawDocs(t *rapid.T, label string) map[string]json.RawMessage {
	docs := rapid.MapOfN(oddText, oddDoc, 0, 4).Draw(t, label)
	if len(docs) == 0 {
		return nil
	}
	raw := make(map[string]json.RawMessage, len(docs))
	for name, doc := range docs {
		raw[name] = json.RawMessage(doc)
	}
	return raw
}

func drawToken(t *rapid.T) resumetoken.Token {
	doc := bson.D{{Key: "_data", Value: rapid.OneOf(
		rapid.Just[any](plainHex), rapid.Just[any](""), rapid.Just[any](bson.Binary{Data: []byte{0x82, 0, 0xff}}), rapid.Just[any](`a"\b`),
		rapid.Map(rapid.String(), func(s string) any { return strings.ReplaceAll(s, "\x00", "") }),
	).Draw(t, "_data")}}
	if rapid.Bool().Draw(t, "has typeBits") {
		doc = append(doc, bson.E{Key: "_typeBits", Value: bson.Binary{Data: rapid.SliceOf(rapid.Byte()).Draw(t, "typeBits")}})
	}
	if rapid.Bool().Draw(t, "foreign") {
		doc = append(doc, bson.E{Key: "_kind", Value: rapid.SampledFrom([]any{int32(1), int64(2), 0.5, math.NaN(), nil, bson.D{{Key: "$oid", Value: "x"}}}).Draw(t, "kind")})
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := resumetoken.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func drawTime(t *rapid.T, label string) time.Time {
	sec := rapid.OneOf(rapid.Int64Range(-62167219200, 253402300799), rapid.Just(time.Time{}.Unix())).Draw(t, label)
	nanos := rapid.SampledFrom([]int64{0, 1e6, 999e6, 1, 999999999}).Draw(t, label+" nanos")
	return time.Unix(sec, nanos).UTC()
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		Status:       rapid.SampledFrom([]Status{Saved, Never, Cleared}).Draw(t, "status"),
		LastSequence: rapid.Uint64Range(0, state.MaxSequence).Draw(t, "last"),
		Epoch:        rapid.Uint64().Draw(t, "epoch"),
		Nonce:        oddText.Draw(t, "nonce"),
		Owner:        oddText.Draw(t, "owner"),
		LeaseUntil:   drawTime(t, "until"),
		Unknown:      drawDocs(t, "unknown"),
	}
	for name := range recordFields {
		delete(r.Unknown, name)
	}
	if len(r.Unknown) == 0 {
		r.Unknown = nil
	}
	if r.Status != Saved {
		return r
	}
	r.Checkpoint = state.Checkpoint{
		StartAfter:  rapid.Bool().Draw(t, "startAfter"),
		ClusterTime: bson.Timestamp{T: rapid.Uint32().Draw(t, "t"), I: rapid.Uint32().Draw(t, "i")},
		SavedAt:     drawTime(t, "savedAt"),
		Sequence:    rapid.SampledFrom([]uint64{0, r.LastSequence, 1, state.MaxSequence}).Draw(t, "sequence"),
		Fingerprint: oddText.Draw(t, "fingerprint"),
		Epoch:       rapid.SampledFrom([]uint64{0, r.Epoch, math.MaxUint64}).Draw(t, "savedEpoch"),
		Extra:       drawDocs(t, "extra"),
	}
	if rapid.Bool().Draw(t, "has token") {
		r.Checkpoint.Token = drawToken(t)
	}
	return r
}
