package changestream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// real is for what a copy needs of a server.
func real(t *testing.T, o Options) (*fixture, *Source) {
	w := newFixture(t, testserver.Mongod(t))
	return w, w.source(o)
}

// snapshotAt is the checkpoint of a position of a copy.
func snapshotAt(p rigatoni.Position, fingerprint string) *state.Checkpoint {
	cp := checkpointOf(p, fingerprint)
	if p.Snapshot != "" {
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(p.Snapshot)}
	}
	return cp
}

// A mirror is what a destination has after events, by the rules of a mirror. It checks
// that each document's versions only go forward.
type mirror struct {
	t        *testing.T
	docs     map[string]bson.Raw
	versions map[string]resumetoken.Token
	reads    int
	ends     []string

	unordered bool            // events may come before their document
	outside   string          // a collection that the stream doesn't have
	unknown   map[string]bool // collections that came from there when the copy was over
}

func newMirror(t *testing.T) *mirror {
	return &mirror{t: t, docs: map[string]bson.Raw{}, versions: map[string]resumetoken.Token{}, unknown: map[string]bool{}}
}

func (m *mirror) clone() *mirror {
	c := newMirror(m.t)
	for k, v := range m.docs {
		c.docs[k] = v
	}
	for k, v := range m.versions {
		c.versions[k] = v
	}
	c.reads, c.ends = m.reads, append([]string(nil), m.ends...)
	c.unordered, c.outside, c.unknown = m.unordered, m.outside, maps.Clone(m.unknown)
	return c
}

func keyName(ns rigatoni.Namespace, id bson.RawValue) string {
	key, err := resumetoken.KeyString(id)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s/%x", ns, key)
}

func (m *mirror) apply(ev rigatoni.Event) {
	m.t.Helper()
	ns := ev.Namespace()
	if strings.HasPrefix(ns.Coll, "marker") {
		return // see settle
	}
	switch op := ev.OperationType(); op {
	case "snapshotEnd":
		m.ends = append(m.ends, ns.String())
	case "drop":
		delete(m.unknown, ns.String())
		m.rename(ns.String(), "")
	case "rename":
		to := ev.Raw.Lookup("to", "db").StringValue() + "." + ev.Raw.Lookup("to", "coll").StringValue()
		m.rename(to, "")
		if pos, err := rigatoni.PositionAfter(ev); err != nil {
			m.t.Fatal(err)
		} else if delete(m.unknown, to); m.unknown[ns.String()] || ns.Coll == m.outside && pos.Snapshot == "" {
			m.unknown[to] = true
		}
		delete(m.unknown, ns.String())
		if m.outside != "" && strings.HasSuffix(to, "."+m.outside) {
			to = ""
		}
		m.rename(ns.String(), to)
	case "dropDatabase", "invalidate":
	case "read", "insert", "replace", "update", "delete":
		if m.unknown[ns.String()] {
			return
		}
		key := keyName(ns, ev.DocumentKey().Lookup("_id"))
		token, err := ev.Token()
		if err != nil {
			m.t.Fatal(err)
		}
		if before, ok := m.versions[key]; ok {
			if order, ok := resumetoken.Compare(before, token); !ok || order > 0 || order == 0 && op != "read" {
				m.t.Fatalf("%s of %s is not after the version before it", op, key)
			}
		}
		m.versions[key] = token
		if op == "read" {
			m.reads++
		}
		if op == "update" && m.docs[key] == nil && !m.unordered {
			m.t.Fatalf("update of %s before the document", key)
		}
		switch {
		case op == "delete":
			delete(m.docs, key)
		case op == "update" && ev.FullDocument() == nil:
			m.docs[key] = updated(m.t, m.docs[key], ev.UpdateDescription().Lookup("updatedFields").Document())
		default:
			m.docs[key] = ev.FullDocument()
		}
	default:
		m.t.Fatalf("an event of the type %q", op)
	}
}

// updated is a document after an update of fields at its top.
func updated(t *testing.T, doc, fields bson.Raw) bson.Raw {
	t.Helper()
	var d, set bson.D
	if err := errors.Join(bson.Unmarshal(doc, &d), bson.Unmarshal(fields, &set)); err != nil {
		t.Fatal(err)
	}
	for _, e := range set {
		if i := slices.IndexFunc(d, func(x bson.E) bool { return x.Key == e.Key }); i >= 0 {
			d[i] = e
		} else {
			d = append(d, e)
		}
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// rename moves all of a collection, or forgets it.
func (m *mirror) rename(from, to string) {
	for key, doc := range m.docs {
		if rest, ok := strings.CutPrefix(key, from+"/"); ok {
			delete(m.docs, key)
			if to != "" {
				m.docs[to+"/"+rest] = doc
				m.versions[to+"/"+rest] = m.versions[key]
			}
			delete(m.versions, key)
		}
	}
}

// matches fails unless the mirror has what the collections have.
func (m *mirror) matches(db *mongo.Database, colls ...string) {
	m.t.Helper()
	want, wrong := 0, 0
	for name := range m.unknown {
		m.rename(name, "")
	}
	for _, coll := range colls {
		if m.unknown[db.Name()+"."+coll] {
			continue
		}
		cursor, err := db.Collection(coll).Find(m.t.Context(), bson.D{})
		if err != nil {
			m.t.Fatal(err)
		}
		for cursor.Next(m.t.Context()) {
			want++
			key := keyName(rigatoni.Namespace{DB: db.Name(), Coll: coll}, cursor.Current.Lookup("_id"))
			if got := m.docs[key]; string(got) != string(cursor.Current) && wrong < 10 {
				wrong++
				m.t.Errorf("%s: %v, want %v", key, got, cursor.Current)
			}
		}
		if err := cursor.Err(); err != nil {
			m.t.Fatal(err)
		}
	}
	if len(m.docs) != want {
		m.t.Errorf("%d documents, want %d", len(m.docs), want)
	}
}

// copyAll reads until the copy is complete.
func (s *watcher) copyAll(each func(rigatoni.Event)) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for s.Position().Snapshot != "" {
		events, pos, err := s.Next(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if pos != s.Position() {
			s.t.Fatal("Next gave another position than Position does")
		}
		for _, ev := range events {
			each(ev)
		}
		if time.Now().After(deadline) {
			st, _ := s.Stream.(rigatoni.SnapshotReporter).Snapshot()
			s.t.Fatalf("the copy is not complete after %v: %+v", patience, st)
		}
	}
}

// everyType are _ids of all types that a document can have.
func everyType() []any {
	dec := func(s string) bson.Decimal128 {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			panic(err)
		}
		return d
	}
	return []any{
		bson.MinKey{}, bson.Null{}, math.NaN(), math.Inf(-1), int64(math.MinInt64), int32(-1), 0.0, dec("0.1"), int32(1), 1.5, int64(1) << 60, math.Inf(1),
		"", "a", "a\x00b", "ä", bson.Symbol("sym"), bson.D{}, bson.D{{Key: "a", Value: int32(1)}}, bson.D{{Key: "a", Value: "x"}, {Key: "b", Value: bson.A{int32(1)}}},
		bson.Binary{Data: []byte{}}, bson.Binary{Data: []byte{1, 2}}, bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.Binary{Subtype: 2, Data: []byte{7}},
		bson.ObjectID{}, bson.NewObjectID(), false, true, bson.DateTime(-1), bson.DateTime(1700000000000), bson.Timestamp{T: 1, I: 2},
		bson.DBPointer{DB: "x", Pointer: bson.ObjectID{}}, bson.JavaScript("f()"), bson.CodeWithScope{Code: "f()", Scope: bson.D{{Key: "x", Value: int32(1)}}}, bson.MaxKey{},
	}
}

// A plain copy has the documents of all collections, whatever the type of their _id, in
// chunks of one document and of many.
func TestSnapshotCopiesEveryIDType(t *testing.T) {
	for _, chunk := range []int{1024, 4 << 20} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			w, s := real(t, Options{SnapshotChunkBytes: chunk, SnapshotParallelism: 2})
			pad := strings.Repeat("x", 400)
			for _, coll := range []string{"a", "b"} {
				var docs []any
				for _, id := range everyType() {
					docs = append(docs, bson.D{{Key: "_id", Value: id}, {Key: "pad", Value: pad}})
				}
				if _, err := w.DB.Collection(coll).InsertMany(t.Context(), docs); err != nil {
					t.Fatal(err)
				}
			}
			st := w.open(s, "", rigatoni.Start{Snapshot: true})
			m := newMirror(t)
			st.copyAll(m.apply)
			m.matches(w.DB, "a", "b")
			if want := 2 * len(everyType()); m.reads != want {
				t.Errorf("%d reads, want %d", m.reads, want)
			}
			w.insert("a", 77)
			st.until("an event after the copy", func(events []rigatoni.Event) bool {
				for _, ev := range events {
					m.apply(ev)
				}
				return len(events) > 0
			})
			m.matches(w.DB, "a", "b")
		})
	}
}

func (w *fixture) docs(coll string, from, to int, pad int) {
	w.t.Helper()
	var docs []any
	for i := from; i < to; i++ {
		docs = append(docs, bson.D{{Key: "_id", Value: int32(i)}, {Key: "n", Value: int32(0)}, {Key: "pad", Value: strings.Repeat("x", pad)}})
	}
	if _, err := w.DB.Collection(coll).InsertMany(w.t.Context(), docs, options.InsertMany().SetOrdered(false)); err != nil {
		w.t.Fatal(err)
	}
}

// A crash after any event resumes at that event's position: what follows completes what
// was delivered up to it.
func TestSnapshotResumesAfterEachEvent(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 2, FullDocument: "updateLookup"})
	w.docs("a", 0, 60, 100)
	w.docs("b", 0, 40, 100)
	type point struct {
		at rigatoni.Position
		m  *mirror
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	points := []point{{st.Position(), m.clone()}}
	n := 0
	st.copyAll(func(ev rigatoni.Event) {
		m.apply(ev)
		pos, err := rigatoni.PositionAfter(ev)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, point{pos, m.clone()})
		if n++; n%7 == 0 {
			k := int32(n * 13 % 60)
			ctx := context.Background()
			if _, err := w.DB.Collection("a").UpdateOne(ctx, bson.D{{Key: "_id", Value: k}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}, upsert()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.DB.Collection("b").DeleteOne(ctx, bson.D{{Key: "_id", Value: k}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for i, p := range points {
		if i%5 != 0 && i < len(points)-3 {
			continue
		}
		again := w.open(s, "", at(snapshotAt(p.at, st.Fingerprint())))
		again.copyAll(p.m.apply)
		w.settle(again, p.m)
		p.m.matches(w.DB, "a", "b")
		if t.Failed() {
			t.Fatalf("resumed after %d events", i)
		}
		if err := again.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// settle applies events until one that is written now.
func (w *fixture) settle(st *watcher, m *mirror) {
	w.t.Helper()
	marker := fmt.Sprintf("marker%d", time.Now().UnixNano())
	w.insert(marker, 1)
	st.until("the marker", func(events []rigatoni.Event) bool {
		for _, ev := range events {
			if ev.Namespace().Coll == marker {
				return true
			}
			m.apply(ev)
		}
		return false
	})
}
