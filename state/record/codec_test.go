package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

const plainHex = "8260EC7417000000012B022C0100296E5A10044B4A1B0E3FA2439BA6F0D61DDD6805FB46645F6964006460EC741724019F022F0786530004"

func token(t testing.TB, fields ...any) resumetoken.Token {
	t.Helper()
	doc := bson.D{{Key: "_data", Value: plainHex}}
	for i := 0; i < len(fields); i += 2 {
		doc = append(doc, bson.E{Key: fields[i].(string), Value: fields[i+1]})
	}
	return tokenOf(t, doc)
}

func tokenOf(t testing.TB, doc bson.D) resumetoken.Token {
	t.Helper()
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

// full is a record that has every field.
func full(t testing.TB) Record {
	return Record{
		Status: Saved,
		Checkpoint: state.Checkpoint{
			Token:       token(t),
			StartAfter:  true,
			ClusterTime: bson.Timestamp{T: 1794000000, I: 3},
			SavedAt:     time.Date(2026, 11, 23, 0, 46, 1, 124e6, time.UTC),
			Sequence:    18204,
			Fingerprint: "rs0/shop.orders",
			Epoch:       6,
			Extra:       map[string]json.RawMessage{"gap": json.RawMessage(`{"from":1}`), "a": json.RawMessage(`[1, 2]`)},
		},
		LastSequence: 18205,
		Epoch:        7,
		Nonce:        "00ff",
		Owner:        "host/1",
		LeaseUntil:   time.Date(2026, 11, 23, 0, 46, 16, 0, time.UTC),
		Unknown:      map[string]json.RawMessage{"z": json.RawMessage(`null`), "b": json.RawMessage(`{"x":[1]}`)},
	}
}

func TestRecordForm(t *testing.T) {
	plain := Record{Status: Saved, Checkpoint: state.Checkpoint{Token: token(t), Sequence: 5, SavedAt: time.UnixMilli(1500)}, LastSequence: 5}
	expired := full(t)
	expired.Checkpoint = state.Checkpoint{Sequence: 4, Epoch: 7}
	for name, c := range map[string]struct {
		rec  Record
		want string
	}{
		"full": {full(t), `{"version":1,"token":{"_data":"` + plainHex + `"},"startAfter":true,"clusterTime":{"t":1794000000,"i":3},` +
			`"sequence":18204,"fingerprint":"rs0/shop.orders","extra":{"a":[1, 2],"gap":{"from":1}},"lastSequence":18205,"epoch":7,` +
			`"nonce":"00ff","owner":"host/1","leaseUntil":"2026-11-23T00:46:16.000Z","savedEpoch":6,"savedAt":"2026-11-23T00:46:01.124Z",` +
			`"b":{"x":[1]},"z":null}`},
		"plain":   {plain, `{"version":1,"token":{"_data":"` + plainHex + `"},"sequence":5,"savedAt":"1970-01-01T00:00:01.500Z"}`},
		"never":   {Record{}, `{"version":1,"status":"never"}`},
		"cleared": {Record{Status: Cleared, LastSequence: 9, Epoch: 2}, `{"version":1,"status":"cleared","lastSequence":9,"epoch":2}`},
		"expired": {expired, `{"version":1,"status":"expired","sequence":4,"lastSequence":18205,"epoch":7,"nonce":"00ff","owner":"host/1",` +
			`"leaseUntil":"2026-11-23T00:46:16.000Z","b":{"x":[1]},"z":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := c.rec.AppendJSON([]byte("before "))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(text); got != "before "+c.want {
				t.Errorf("got  %s\nwant before %s", got, c.want)
			}
			sameRecord(t, c.rec, mustParse(t, []byte(" \n"+c.want+"\r\n\t ")))
		})
	}
}

func mustParse(t rapid.TB, text []byte) Record {
	t.Helper()
	rec, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return rec
}

// sameDocs compares documents, but for the white space between their parts.
func sameDocs(a, b map[string]json.RawMessage) bool {
	return state.Checkpoint{Extra: a}.Equal(state.Checkpoint{Extra: b})
}

// sameRecord compares every field, times by the moment.
func sameRecord(t rapid.TB, want, got Record) {
	t.Helper()
	if !want.Checkpoint.Equal(got.Checkpoint) {
		t.Fatalf("the checkpoint changed:\nwas %+v\nis  %+v", want.Checkpoint, got.Checkpoint)
	}
	if !sameDocs(want.Unknown, got.Unknown) {
		t.Fatalf("the unknown fields changed:\nwas %s\nis  %s", want.Unknown, got.Unknown)
	}
	if !want.LeaseUntil.Equal(got.LeaseUntil) {
		t.Fatalf("LeaseUntil was %v, is %v", want.LeaseUntil, got.LeaseUntil)
	}
	want.Checkpoint, want.Unknown, want.LeaseUntil = got.Checkpoint, got.Unknown, got.LeaseUntil
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("was %+v\nis  %+v", want, got)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecord(t)
		text, err := rec.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, []byte(`{"version":1`)) || bytes.ContainsAny(text, "\r\n") || !json.Valid(text) {
			t.Fatalf("not one line of JSON that begins with the version: %q", text)
		}
		back := mustParse(t, text)
		sameRecord(t, rec, back)
		again, err := back.AppendJSON(nil)
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("written again it is another: %v\n%s\n%s", err, text, again)
		}
	})
}

func TestRecordSharesNoMemory(t *testing.T) {
	text, _ := full(t).AppendJSON(nil)
	rec := mustParse(t, text)
	for i := range text {
		text[i] = 'x'
	}
	sameRecord(t, full(t), rec)
}

func TestAppendJSONRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"UTF-8":                            func(r *Record) { r.Checkpoint.Fingerprint = "\xff" },
		"owner is not UTF-8":               func(r *Record) { r.Owner = "\xff" },
		"nonce or owner":                   func(r *Record) { r.Nonce = "\xff" },
		"status is 3":                      func(r *Record) { r.Status = 3 },
		`the status "cleared"`:             func(r *Record) { r.Status = Cleared },
		"a sequence is above":              func(r *Record) { r.Checkpoint.Sequence = state.MaxSequence + 1 },
		"sequence is above the maximum, 9": func(r *Record) { r.LastSequence = state.MaxSequence + 1 },
		"not in the years":                 func(r *Record) { r.Checkpoint.SavedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"years 0 to 9999":                  func(r *Record) { r.LeaseUntil = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		`Extra["gap"] is not`:              func(r *Record) { r.Checkpoint.Extra["gap"] = json.RawMessage(`{`) },
		`Extra["a"] is not`:                func(r *Record) { r.Checkpoint.Extra["a"] = nil },
		"a name in Extra":                  func(r *Record) { r.Checkpoint.Extra["\xff"] = json.RawMessage(`1`) },
		`Unknown["b"] is not`:              func(r *Record) { r.Unknown["b"] = json.RawMessage("\"\xff\"") },
		`Unknown["token"] is the`:          func(r *Record) { r.Unknown["token"] = json.RawMessage(`1`) },
	} {
		t.Run(name, func(t *testing.T) {
			rec := full(t)
			spoil(&rec)
			dst, err := rec.AppendJSON([]byte("as it was"))
			if !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), name) {
				t.Errorf("error %v; want an ErrInvalid with %q", err, name)
			}
			if string(dst) != "as it was" {
				t.Errorf("dst came back as %q", dst)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const tok = `"token":{"_data":"82AB"}`
	for text, want := range map[string]string{
		``:                                   "it is empty",
		" \n ":                               "it is empty",
		`null`:                               "not a JSON object",
		`[{"version":1}]`:                    "not a JSON object",
		`{"version":1,` + tok:                "cut short, after 37 bytes",
		`{"version":1,` + tok + `}}`:         "not JSON at byte 39",
		`{"version":1,` + tok + `}` + "\x00": "not JSON at byte 39",
		`{"version":1,"x":"` + "\xff" + `"}`: "not UTF-8",
		`{` + tok + `}`:                      `"version" is missing`,
		`{"version":"1",` + tok + `}`:        `"version" is not a whole number`,
		`{"version":1.0,` + tok + `}`:        `"version" is not a whole number`,
		`{"version":-1,` + tok + `}`:         `"version" is not a whole number`,
		`{"version":0,` + tok + `}`:          `"version" is 0`,
		`{"version":1,"version":2,"x":1}`:    `"version" occurs twice`,
		`{"version":1}`:                      `"token" is missing`,
		`{"version":1,` + tok + `,"tok\u0065n":{"_data":"82"}}`:              `"token" occurs twice`,
		`{"version":1,` + tok + `,"x":1,"x":1}`:                              `"x" occurs twice`,
		`{"version":1,` + tok + `,"extra":{"x":1,"x":2}}`:                    `"x" occurs twice`,
		`{"version":1,"token":"82AB"}`:                                       `"token" is damaged`,
		`{"version":1,"token":null}`:                                         `"token" is damaged`,
		`{"version":1,"token":{}}`:                                           `"token" is damaged`,
		`{"version":1,` + tok + `,"startAfter":1}`:                           `"startAfter" is not true or false`,
		`{"version":1,` + tok + `,"clusterTime":5}`:                          `"clusterTime" is not an object`,
		`{"version":1,` + tok + `,"clusterTime":{"t":1}}`:                    `"clusterTime" has other fields`,
		`{"version":1,` + tok + `,"clusterTime":{"t":1,"i":1,"x":1}}`:        `"clusterTime" has other fields`,
		`{"version":1,` + tok + `,"clusterTime":{"t":1,"ti":1}}`:             `"clusterTime" has other fields`,
		`{"version":1,` + tok + `,"clusterTime":{"t":1,"i":4294967296}}`:     `"clusterTime" is not a whole number from 0 to 4294967295`,
		`{"version":1,` + tok + `,"sequence":9007199254740992}`:              `"sequence" is not a whole number from 0 to 9007199254740991`,
		`{"version":1,` + tok + `,"sequence":1e3}`:                           `"sequence" is not a whole number`,
		`{"version":1,` + tok + `,"lastSequence":null}`:                      `"lastSequence" is not a whole number`,
		`{"version":1,` + tok + `,"epoch":18446744073709551616}`:             `"epoch" is not a whole number`,
		`{"version":1,` + tok + `,"nonce":1}`:                                `"nonce" is not a string`,
		`{"version":1,` + tok + `,"extra":[]}`:                               `"extra" is not an object`,
		`{"version":1,` + tok + `,"savedAt":12026112300460100000}`:           `"savedAt" is not a time`,
		`{"version":1,` + tok + `,"savedAt":"2026-11-23T00:46:01,5Z"}`:       `"savedAt" is not a time`,
		`{"version":1,` + tok + `,"savedAt":"2026-11-23T1:46:01Z"}`:          `"savedAt" is not a time`,
		`{"version":1,` + tok + `,"leaseUntil":"2026-11-23T00:46:01+01:00"}`: `"leaseUntil" is not a time`,
		`{"version":1,"status":"expired",` + tok + `}`:                       `"token" is there`,
		`{"version":1,"status":"cleared",` + tok + `}`:                       `fields of a checkpoint are there`,
		`{"version":1,"status":"cleared","sequence":1}`:                      `fields of a checkpoint are there`,
		`{"version":1,"status":"never","savedEpoch":1}`:                      `fields of a checkpoint are there`,
		`{"version":1,"status":"Saved",` + tok + `}`:                         `"status" is none of`,
	} {
		rec, err := Parse([]byte(text))
		if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n\terror %v; want an ErrCorrupt with %q", text, err, want)
		}
		if !reflect.DeepEqual(rec, Record{}) {
			t.Errorf("%s: a record beside the error", text)
		}
	}
}

// Of many names each one is still seen to stand there twice.
func TestParseManyFields(t *testing.T) {
	text := `{"version":1,"status":"never"`
	for i := range 100 {
		text += fmt.Sprintf(`,"x%d":%d`, i, i)
	}
	if n := len(mustParse(t, []byte(text+"}")).Unknown); n != 100 {
		t.Errorf("%d unknown fields are kept, want 100", n)
	}
	for i := range 100 {
		_, err := Parse(fmt.Appendf(nil, `%s,"x%d":0}`, text, i))
		if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf(`"x%d" occurs twice`, i)) {
			t.Errorf("x%d occurs twice, and the error is %v", i, err)
		}
	}
}

// A later version may do with every other field what it wants.
func TestParseNewer(t *testing.T) {
	_, err := Parse([]byte(`{"token":"another form","version":12,"sequence":"x"}`))
	if !errors.Is(err, state.ErrNewer) || !strings.Contains(err.Error(), "version 12,") {
		t.Errorf("got %v, want an ErrNewer that names version 12", err)
	}
}

// The message of a damaged record must not tell what is in a token.
func TestParseTellsNoContents(t *testing.T) {
	text, _ := full(t).AppendJSON(nil)
	for i := range text {
		for _, damaged := range [][]byte{text[:i], slices.Concat(text[:i], []byte{'#'}, text[i+1:]), slices.Concat(text[:i], []byte{0xff}, text[i:])} {
			_, err := Parse(damaged)
			if err != nil && strings.Contains(err.Error(), plainHex[20:28]) {
				t.Fatalf("the error quotes the token: %v", err)
			}
		}
	}
}

// A field that AppendJSON writes never lands among the unknown ones.
func TestKnownFieldsAreRead(t *testing.T) {
	for name := range recordFields {
		rec, err := Parse([]byte(`{"version":1,"status":"never","` + name + `":[]}`))
		if err == nil {
			t.Errorf("%q takes an array", name)
		}
		if len(rec.Unknown) > 0 {
			t.Errorf("%q is unknown", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, _ := full(f).AppendJSON(nil)
	f.Add(text)
	f.Add([]byte(`{"version":1,"status":"cleared","lastSequence":9,"x":{"a":[1,2,{}],"b":"\"\\"}}`))
	f.Add([]byte(`{ "version" : 1 , "token" : { "$tokenBSON" : "" } }`))
	f.Add([]byte(`{"version":1,"token":{"_data":{"$binary":{"base64":"gg==","subType":"00"}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := Parse(text)
		if err != nil {
			if !errors.Is(err, state.ErrCorrupt) && !errors.Is(err, state.ErrNewer) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := rec.AppendJSON(nil)
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		sameRecord(t, rec, mustParse(t, again))
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	rec := Record{Status: Saved, Checkpoint: state.Checkpoint{
		Token: token(b), ClusterTime: bson.Timestamp{T: 1794000000, I: 3}, Sequence: 18204, Fingerprint: "rs0/shop.orders",
		SavedAt: time.Now(), Epoch: 7}, LastSequence: 18204, Epoch: 7, Nonce: state.NewNonce(), Owner: "host/1"}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rec.AppendJSON(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text, _ := full(b).AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePlain(b *testing.B) {
	rec := full(b)
	rec.Unknown, rec.Checkpoint.Extra = nil, nil
	text, _ := rec.AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
