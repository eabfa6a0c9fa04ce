package mongotest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// largeEvent is an event of random fields, some of them large.
func largeEvent(rng *rand.Rand, token bson.Raw) bson.Raw {
	d := bsondoc.New().Doc("_id", token)
	for i := range 1 + rng.IntN(12) {
		size := rng.IntN(50)
		if rng.IntN(3) == 0 {
			size = rng.IntN(maxEventSize - 1000)
		}
		d.Str(fmt.Sprintf("f%d", i), strings.Repeat("x", size))
	}
	return d.Done()
}

// Whatever an event consists of: each of its fields is in one fragment,
// unchanged; no fragment is too large; their numbers and tokens are in order;
// and a stream that is resumed from one of them returns the rest.
func TestFragments(t *testing.T) {
	seed := campaign.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range campaign.Size(t, "RIGATONI_FRAGMENTS", 300, 8) {
		s := &stream{split: true, format: resumetoken.FormatV2}
		ev := &event{kind: opInsert, entry: &entry{kind: opInsert, ts: bson.Timestamp{T: 5, I: 1}, uuid: newUUID(), key: bsondoc.New().Int32("_id", 1).Done(), oversize: rng.IntN(4) == 0}}
		token, _, err := encode(s.tokenOf(ev, s.format))
		if err != nil {
			t.Fatal(err)
		}
		doc := largeEvent(rng, token)
		parts, err := s.fragments(ev, doc, token)
		if err != nil {
			t.Fatal(err)
		}
		if large := len(doc) > maxEventSize || ev.entry.oversize; large != (parts != nil) {
			t.Fatalf("an event of %d bytes (oversize: %v) in %d fragments", len(doc), ev.entry.oversize, len(parts))
		}
		checkFragments(t, doc, parts)
		for n := range parts {
			s.after = &resumePoint{fragment: n}
			rest, err := s.find(0, parts)
			if err != nil || len(rest) != len(parts)-n-1 || s.after != nil {
				t.Errorf("after fragment %d of %d come %d, %v", n, len(parts), len(rest), err)
			}
		}
	}
}

func checkFragments(t *testing.T, doc bson.Raw, parts []output) {
	t.Helper()
	var got []string
	before := -1
	for i, p := range parts {
		all := bsondoc.Fields(p.doc)
		if len(p.doc) > maxEventSize || len(all) < 3 {
			t.Errorf("a fragment of %d bytes and %d fields", len(p.doc), len(all))
		}
		d, err := readToken(p.doc.Lookup("_id").Document())
		if err != nil || !d.IsFragment || d.Fragment != i || d.Fragment <= before {
			t.Errorf("the token of fragment %d says %d, %v", i, d.Fragment, err)
		}
		before = d.Fragment
		want := bsondoc.New().Int32("fragment", i+1).Int32("of", len(parts)).Done()
		if !slices.Equal(p.doc.Lookup("splitEvent").Document(), want) {
			t.Errorf("fragment %d of %d has %v", i+1, len(parts), p.doc.Lookup("splitEvent"))
		}
		for _, e := range all[2:] {
			got = append(got, string(e))
		}
	}
	if parts == nil {
		return
	}
	var want []string
	for _, e := range bsondoc.Fields(doc)[1:] {
		want = append(want, string(e))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d fields in the fragments, not those of the event, which are %d", len(got), len(want))
	}
}

// An event that only counts as large is split, too, and by the same rules.
func TestOversizeEventIsSplit(t *testing.T) {
	s := Start(t)
	sc := &script{t: t, client: dial(t, s.URI()), server: s, db: "t_split", values: map[string]bson.RawValue{}, cursors: map[string]int64{}}
	sc.run(`{"create": "c"}`)
	sc.watch("w", `"c"`, `[{"$changeStream": {}}, `+split+`]`)
	s.OversizeNextEvent()
	sc.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}`)
	sc.run(`{"create": "v", "viewOn": "c"}`)
	sc.run(`{"drop": "v"}`)
	sc.run(`{"insert": "c", "documents": [{"_id": 1, "text": "` + strings.Repeat("x", 300) + `"}]}`)
	batch := bsondoc.Items(sc.more("w", "c").Lookup("cursor", "nextBatch"))
	if len(batch) != 2 {
		t.Fatalf("%d fragments, want 2", len(batch))
	}
	first, second := batch[0].Document(), batch[1].Document()
	if first.Lookup("operationType").Type == 0 || first.Lookup("fullDocument").Type != 0 || second.Lookup("fullDocument").Type == 0 {
		t.Errorf("not split before the largest field:\n%v\n%v", first, second)
	}
	sc.watchFrom("x", "w.0", `"c"`, "", ", "+split)
	if got, want := sc.values["x.0"], sc.values["w.1"]; !bsondoc.Identical(got, want) {
		t.Errorf("after the first fragment comes %v, want %v", got, want)
	}
	sc.watchFrom("y", "x.mark", `"c"`, "", "")
	if _, ok := sc.values["y.mark"]; ok {
		t.Error("a fragment's token opens a stream that does not split")
	}
}
