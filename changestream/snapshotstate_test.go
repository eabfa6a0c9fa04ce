package changestream

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

func key(t *testing.T, v any) *sortKey {
	t.Helper()
	typ, raw, err := bson.MarshalValue(v)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newSortKey(bson.RawValue{Type: typ, Value: raw})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func namespaces(db string, colls ...string) (names []rigatoni.Namespace) {
	for _, c := range colls {
		names = append(names, rigatoni.Namespace{DB: db, Coll: c})
	}
	return names
}

func copyOfAB(t *testing.T, again bool) *copyState {
	s := newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), again, namespaces("d", "a", "b"), time.UnixMilli(1))
	return s.begin(&collectionCopy{ns: rigatoni.Namespace{DB: "d", Coll: "a"}, ranges: []*keyRange{
		{Upper: key(t, 100), Cursor: key(t, 10)}, {Lower: key(t, 100)},
	}})
}

func changeEvent(t *testing.T, op, coll string, at bson.Timestamp, more ...bson.E) rigatoni.Event {
	t.Helper()
	raw, err := bson.Marshal(append(bson.D{
		{Key: "_id", Value: eventToken(t, at, 0).Raw()}, {Key: "operationType", Value: op}, {Key: "clusterTime", Value: at},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: coll}}},
	}, more...))
	if err != nil {
		t.Fatal(err)
	}
	return rigatoni.Event{Raw: raw}
}

func ofDocument(id any) bson.E {
	return bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}}
}

func renamedTo(coll string) bson.E {
	return bson.E{Key: "to", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: coll}}}
}

// What a checkpoint has of a copy is what the copy had, to the byte.
func TestCopyStateIsReadAsItWasWritten(t *testing.T) {
	s := copyOfAB(t, true)
	for _, id := range everyType() {
		if _, isMin := id.(bson.MinKey); !isMin {
			s = s.advance(rigatoni.Namespace{DB: "d", Coll: "a"}, s.runs[0].active[0].ranges[1], key(t, id), false, 1, 100)
		}
		text, err := s.encoded()
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseCopyState([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.encoded()
		if err != nil || again != text {
			t.Fatalf("%v\n%s\nwant\n%s", err, again, text)
		}
	}
}

func TestCopyStateOfAnotherVersion(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":2}`: "version 2", `[]`: "can't be read", `{"version":1,"runs":[{"began":{}}]}`: "can't be read",
		`{"version":1,"runs":[{"began":{"_data":"82"},"active":[{"db":"d","coll":"c","ranges":[null]}]}]}`:           "null",
		`{"version":1,"runs":[{"began":{"_data":"82"},"active":[{"db":"d","coll":"c","ranges":[{"cursor":"!"}]}]}]}`: "base64",
	} {
		if s, err := parseCopyState([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v, want an error with %q", text, s, err, want)
		}
	}
	for _, text := range []string{"", "null"} {
		if s, err := parseCopyState([]byte(text)); s != nil || err != nil {
			t.Errorf("%q: %v %v, want none", text, s, err)
		}
	}
}

// Of 10,000 collections those that wait cost their names, and those that are done
// nothing.
func TestCopyStateIsBounded(t *testing.T) {
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprintf("collection_%05d", i))
	}
	s := newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), false, namespaces("d", names...), time.Now())
	text, err := s.encoded()
	if err != nil || len(text) > 10_000*20+1000 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, ns := range namespaces("d", names[:9_990]...) {
		s = s.begin(&collectionCopy{ns: ns}).forget(ns)
	}
	if text, err = s.encoded(); err != nil || len(text) > 1000 {
		t.Errorf("%d bytes at the end, %v", len(text), err)
	}
	for i := range names {
		names[i] = strings.Repeat("x", 500) + names[i]
	}
	_, err = newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), false, namespaces("d", names...), time.Now()).encoded()
	if err == nil || !strings.Contains(err.Error(), "10000 collections") {
		t.Errorf("5 MB of names: %v", err)
	}
}

func TestEventsOfKeysThatAreNotCopiedAreLeftOut(t *testing.T) {
	s := copyOfAB(t, false)
	for _, c := range []struct {
		op, coll string
		id       any
		resumed  bool
		want     bool
	}{
		{"update", "a", 5, false, true},
		{"update", "a", 10, false, true},
		{"update", "a", 10.0, false, true},
		{"update", "a", 11, false, false},
		{"delete", "a", 11, false, false},
		{"delete", "a", 11, true, true},
		{"insert", "a", 11, true, false},
		{"update", "a", 100, false, false},
		{"update", "a", "text", false, false},
		{"update", "a", bson.MinKey{}, false, true},
		{"update", "b", 1, false, false},
		{"delete", "b", 1, true, true},
		{"update", "c", 1, false, true},
	} {
		if got := s.delivers(changeEvent(t, c.op, c.coll, ts(11, 0), ofDocument(c.id)), c.resumed); got != c.want {
			t.Errorf("%s of %v in %s (resumed: %t): %t", c.op, c.id, c.coll, c.resumed, got)
		}
	}
	if !copyOfAB(t, true).delivers(changeEvent(t, "update", "b", ts(11, 0), ofDocument(1)), false) {
		t.Error("a repeated copy leaves out an event")
	}
	if !s.delivers(changeEvent(t, "drop", "a", ts(11, 0)), false) {
		t.Error("a drop is left out")
	}
}

// summary is a state in short: what is begun, and what waits.
func (s *copyState) summary() string {
	if s == nil {
		return ""
	}
	var parts []string
	for _, run := range s.runs {
		for _, c := range run.active {
			parts = append(parts, c.ns.String()+"*")
		}
		for ns := range run.pending.all {
			parts = append(parts, ns.String())
		}
	}
	return strings.Join(parts, " ")
}

func TestDropsAndRenamesDuringACopy(t *testing.T) {
	d := scope{database: "d", collections: []string{"a", "b", "c"}}
	for _, c := range []struct {
		what   string
		events []rigatoni.Event
		want   string
	}{
		{"a drop", []rigatoni.Event{changeEvent(t, "drop", "a", ts(11, 0))}, "d.b"},
		{"a drop before the list", []rigatoni.Event{changeEvent(t, "drop", "a", ts(10, 0))}, "d.a* d.b"},
		{"a drop of what waits", []rigatoni.Event{changeEvent(t, "drop", "b", ts(11, 0))}, "d.a*"},
		{"a drop of both", []rigatoni.Event{changeEvent(t, "drop", "b", ts(11, 0)), changeEvent(t, "drop", "a", ts(11, 0))}, ""},
		{"a drop of the database", []rigatoni.Event{changeEvent(t, "dropDatabase", "", ts(11, 0))}, ""},
		{"a rename", []rigatoni.Event{changeEvent(t, "rename", "a", ts(11, 0), renamedTo("c"))}, "d.c* d.b"},
		{"a rename of what waits", []rigatoni.Event{changeEvent(t, "rename", "b", ts(11, 0), renamedTo("c"))}, "d.a* d.c"},
		{"a rename onto another", []rigatoni.Event{changeEvent(t, "rename", "a", ts(11, 0), renamedTo("b"))}, "d.b*"},
		{"a rename out of the scope", []rigatoni.Event{changeEvent(t, "rename", "a", ts(11, 0), renamedTo("x"))}, "d.b"},
		{"a rename of a copied one onto one that waits", []rigatoni.Event{changeEvent(t, "rename", "c", ts(11, 0), renamedTo("b"))}, "d.a*"},
		{"a rename from outside", []rigatoni.Event{changeEvent(t, "rename", "x", ts(11, 0), renamedTo("a"))}, "d.b d.a"},
		{"a rename from outside onto a new name", []rigatoni.Event{changeEvent(t, "rename", "x", ts(11, 0), renamedTo("c"))}, "d.a* d.b d.c"},
		{"a rename before the list", []rigatoni.Event{changeEvent(t, "rename", "c", ts(10, 0), renamedTo("b"))}, "d.a* d.b"},
		{"a swap before the list", []rigatoni.Event{
			changeEvent(t, "rename", "a", ts(9, 10), renamedTo("tmp")), changeEvent(t, "rename", "b", ts(9, 11), renamedTo("a")), changeEvent(t, "rename", "tmp", ts(9, 12), renamedTo("b")),
		}, "d.a* d.b"},
		{"a rename and a drop", []rigatoni.Event{changeEvent(t, "rename", "a", ts(11, 0), renamedTo("c")), changeEvent(t, "drop", "c", ts(12, 0))}, "d.b"},
		{"what is not a drop", []rigatoni.Event{changeEvent(t, "create", "a", ts(11, 0)), changeEvent(t, "invalidate", "a", ts(11, 0))}, "d.a* d.b"},
	} {
		s := copyOfAB(t, false)
		for _, ev := range c.events {
			s = s.after(ev, d)
		}
		if got := s.summary(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	s := copyOfAB(t, false).after(changeEvent(t, "rename", "a", ts(11, 0), renamedTo("c")), d)
	if got := s.runs[0].active[0].ranges[0].Cursor.index; got != key(t, 10).index {
		t.Error("a rename loses the cursor")
	}
}

func TestRequestSnapshot(t *testing.T) {
	cp := state.Checkpoint{Token: highWaterMark(t, ts(20, 1)), Fingerprint: fingerprint{deployment: deployment{set: "rs0"}, scope: scope{database: "d"}}.String()}
	asked, err := RequestSnapshot(cp, namespaces("d", "x", "x")...)
	if err != nil {
		t.Fatal(err)
	}
	if asked, err = RequestSnapshot(asked, namespaces("d", "y")...); err != nil {
		t.Fatal(err)
	}
	st, ok, err := SnapshotProgress(asked)
	if err != nil || !ok || st.CollectionsTotal != 2 || st.CollectionsDone != 0 || len(st.Collections) != 2 {
		t.Errorf("%+v %t %v", st, ok, err)
	}
	if _, ok, err := SnapshotProgress(cp); ok || err != nil || cp.Extra != nil {
		t.Errorf("the checkpoint was changed itself: %v %v", ok, err)
	}
	for _, ns := range []rigatoni.Namespace{{}, {DB: "d"}, {DB: "other", Coll: "x"}} {
		if _, err := RequestSnapshot(cp, ns); err == nil {
			t.Errorf("%v was accepted", ns)
		}
	}
	if same, err := RequestSnapshot(cp); err != nil || !same.Equal(cp) {
		t.Errorf("no collections: %v %v", same, err)
	}
	cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(`{"version":7}`)}
	if _, err := RequestSnapshot(cp, namespaces("d", "x")...); err == nil {
		t.Error("a state of another version was accepted")
	}
}

// Bounds divide the keys, differ, and leave none out.
func TestRangesOfASample(t *testing.T) {
	for _, n := range []int{1, 2, 4, 7} {
		for size := range 20 {
			var keys []*sortKey
			for i := range size {
				keys = append(keys, key(t, i/3))
			}
			ranges := new(keyRange).divide(keys, n)
			if len(ranges) > n || len(ranges) == 0 || ranges[0].Lower != nil || ranges[len(ranges)-1].Upper != nil {
				t.Fatalf("%d ranges of %d keys: %d", n, size, len(ranges))
			}
			for i := 1; i < len(ranges); i++ {
				if ranges[i].Lower != ranges[i-1].Upper || ranges[i].Upper != nil && ranges[i].Lower.index >= ranges[i].Upper.index {
					t.Fatalf("%d ranges of %d keys: bounds don't rise", n, size)
				}
			}
		}
	}
}
