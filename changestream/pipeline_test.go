package changestream

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestParsePipeline(t *testing.T) {
	p := mustParse(t, ` [{"$match": {"fullDocument.at": {"$gte": {"$date": "2026-01-31T00:00:00Z"}}, "n": {"$type": "int"}, "s": {"$regex": "^a"}}}]`)
	text, err := p.MarshalText()
	if want := `[{"$match":{"fullDocument.at":{"$gte":{"$date":"2026-01-31T00:00:00Z"}},"n":{"$type":"int"},"s":{"$regex":"^a"}}}]`; err != nil || string(text) != want {
		t.Errorf("%s, want %s (%v)", text, want, err)
	}
	if p := mustParse(t, "[]"); len(p) != 0 {
		t.Errorf("no stages are %v", p)
	}
	for given, want := range map[string]string{
		``:                           "a JSON array",
		`{"$match":{}}`:              "in brackets",
		`null x`:                     "a JSON array",
		`[{$match:{}}]`:              "a JSON array",
		`[{"$match":{}}] x`:          "after top-level value",
		`[{"$match":{}}], [{"a":1}]`: "after top-level value",
		`[1]`:                        "stage[0] is not valid Extended JSON",
		`[{"$match":{"a":{"$date":"yesterday"}}}]`: "stage[0] is not valid Extended JSON",
		`[{"$match":{}},{"$sort":{"a":1}}]`:        "stage[1]: $sort",
	} {
		if _, err := ParsePipeline(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", given, err)
		}
	}
}

// A pipeline is the same however it is written, and another if it does anything
// else.
func TestPipelineID(t *testing.T) {
	id := func(p Pipeline) string {
		t.Helper()
		f, err := newFilter(p)
		if err != nil {
			t.Fatal(err)
		}
		return f.id
	}
	want := id(mustParse(t, `[{"$match":{"b":{"$in":[1,2]},"a":"x"}}]`))
	for name, p := range map[string]Pipeline{
		"bson.D":      {{{Key: "$match", Value: bson.D{{Key: "a", Value: "x"}, {Key: "b", Value: bson.D{{Key: "$in", Value: bson.A{1, 2}}}}}}}},
		"maps, int64": {{{Key: "$match", Value: bson.M{"a": "x", "b": map[string]any{"$in": []int64{1, 2}}}}}},
		"spaces":      mustParse(t, ` [ { "$match" : { "a" : "x", "b": {"$in": [{"$numberLong":"1"}, 2.0]} } } ]`),
	} {
		if got := id(p); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if !strings.HasPrefix(want, "sha256:") || len(want) != len("sha256:")+16 {
		t.Errorf("the id is %q", want)
	}
	for _, other := range []string{
		`[{"$match":{"b":{"$in":[2,1]},"a":"x"}}]`, `[{"$match":{"b":{"$in":[1,2]},"a":"y"}}]`, `[{"$match":{"a":"x"}},{"$match":{"b":{"$in":[1,2]}}}]`,
	} {
		if id(mustParse(t, other)) == want {
			t.Errorf("%s has the same id", other)
		}
	}
	if id(nil) != "" || id(Pipeline{}) != "" {
		t.Error("no pipeline has an id")
	}
	long, _ := newFilter(mustParse(t, `[{"$match":{"a":"`+strings.Repeat("ü", 200)+`"}}]`))
	if len(long.text) > maxPipelineText+len("…") || !strings.HasSuffix(long.text, "ü…") {
		t.Errorf("abbreviated: %s", long.text)
	}
}

// Whatever the text, parsing ends in an error or in a pipeline that is its own
// text's, and that keeps its id.
func FuzzParsePipeline(f *testing.F) {
	for _, text := range []string{`[]`, `[null]`, `[{"$match":{"a":{"$gt":1.5}}}]`, `[{"$project":{"ns":{"db":1},"a.b":true}}]`, `[{"$replaceWith":{"$mergeObjects":["$$ROOT",{"a":1}]}}]`, `[{"$unset":["a"]}]`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePipeline(text)
		if err != nil {
			return
		}
		first, err := newFilter(p)
		if err != nil {
			t.Fatal(err)
		}
		written, err := p.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePipeline(string(written))
		if err != nil {
			t.Fatalf("%s is written as %s: %v", text, written, err)
		}
		if second, err := newFilter(again); err != nil || second.id != first.id {
			t.Fatalf("%s has the id %s, and written as %s it has %s (%v)", text, first.id, written, second.id, err)
		}
	})
}
