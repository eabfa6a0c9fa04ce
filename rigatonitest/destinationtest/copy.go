package destinationtest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A sweep is the end of the copy of a collection.
type sweep struct {
	end     rigatoni.SnapshotEnd
	removed []int32 // the _ids that are there before and not after it
}

// copiedStream returns a stream that begins with a copy: documents in chunks, each of which
// is read at one position, between changes of those that were read already. n changes
// follow the copy.
func (t *trial) copiedStream(n int) *stream {
	s := t.stream(0)
	s.copy(t.rand, 1, 2, 3, 4)
	s.copied = len(s.events)
	s.grow(t.rand, n)
	return s
}

// sweptStream returns a stream of some events, after which a copy that finds a part of the
// documents begins again, and ends with a sweep. Events follow.
func (t *trial) sweptStream() *stream {
	s := t.stream(12)
	before, begins := s.documents(), len(s.events)
	began := rigatonitest.Read(namespace, bson.D{{Key: "_id", Value: 0}})
	token, err := began.Token()
	if err != nil {
		t.fatalf("%v", err)
	}
	var found []int32
	for id := range before {
		if len(found) == 0 || t.rand.IntN(2) == 0 {
			found = append(found, id)
		}
	}
	if len(found) == 0 { // all were deleted
		found = append(found, 1)
	}
	slices.Sort(found)
	// The first documents are read where the copy began.
	s.add(Record{ID: found[0], N: int32(len(s.records) + 1)}, at(began, read(found[0], len(s.records)+1)))
	s.copy(t.rand, found[1:]...)
	w := sweep{end: rigatoni.SnapshotEnd{Namespace: began.Namespace(), Began: token}}
	after := s.documents()
	for id := range after {
		if !slices.Contains(found, id) {
			w.removed = append(w.removed, id)
		}
	}
	if s.sweeps == nil {
		s.sweeps = map[int]sweep{}
	}
	s.sweeps[len(s.events)] = w
	s.add(Record{}, w.end.Event(nil))
	s.plain, s.copied = begins+1, len(s.events)
	for _, id := range w.removed { // they can come back
		if t.rand.IntN(2) == 0 {
			r := Record{ID: id, N: int32(len(s.records) + 1)}
			s.add(r, rigatonitest.Insert(namespace, document(r)))
		}
	}
	for _, id := range found {
		r := Record{ID: id, N: int32(len(s.records) + 1)}
		s.add(r, rigatonitest.Replace(namespace, document(r)))
	}
	return s
}

func document(r Record) bson.D {
	return bson.D{{Key: "_id", Value: r.ID}, {Key: "n", Value: r.N}}
}

func read(id int32, n int) rigatoni.Event {
	return rigatonitest.Read(namespace, document(Record{ID: id, N: int32(n)}))
}

// at is an event of a copy at the position of another one.
func at(other, ev rigatoni.Event) rigatoni.Event {
	ev = rigatonitest.With(ev, "_id", other.Raw.Lookup("_id"))
	return rigatonitest.With(ev, "clusterTime", other.ClusterTime())
}

// copy adds the events of a copy of documents, with changes of those that it has read.
func (s *stream) copy(rng *rand.Rand, ids ...int32) {
	ids = slices.Clone(ids)
	rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	var known []int32
	for len(ids) > 0 {
		var position rigatoni.Event
		for i, id := range ids[:1+rng.IntN(len(ids))] {
			ev := read(id, len(s.records)+1)
			if i == 0 {
				position = ev
			}
			s.add(Record{ID: id, N: int32(len(s.records) + 1)}, at(position, ev))
			known, ids = append(known, id), ids[1:]
		}
		for range rng.IntN(3) {
			s.change(rng, known)
		}
	}
}

// documents are those that a mirror of all events has, by _id.
func (s *stream) documents() map[int32]int32 {
	docs := map[int32]int32{}
	for _, r := range s.wanted(len(s.records)) {
		if docs[r.ID] = r.N; r.N == 0 {
			delete(docs, r.ID)
		}
	}
	return docs
}

// wanted are the records of the first n events. A sweep deletes documents.
func (s *stream) wanted(n int) (want []Record) {
	for i, r := range s.records[:n] {
		w, ok := s.sweeps[i]
		if !ok {
			want = append(want, r)
		}
		for _, id := range w.removed {
			want = append(want, Record{ID: id})
		}
	}
	return want
}

// copiedTo is how many events a checkpoint covers, if it has the state of a copy.
func (s *stream) copiedTo(cp state.Checkpoint) (n int, ok bool) {
	doc := cp.Extra[rigatoni.ExtraSnapshot]
	if len(doc) == 0 {
		if s.copied > 0 && cp.Token == position(s.lastOf(s.copied)).Token {
			return s.copied, true // documents before it may have the same token
		}
		for n := s.plain; n < s.copied; n++ {
			if cp.Token == position(s.lastOf(n)).Token {
				s.t.fatalf("the checkpoint in the destination's store has lost Extra[%q]", rigatoni.ExtraSnapshot)
			}
		}
		return 0, false
	}
	var st struct{ Events int }
	if err := json.Unmarshal(doc, &st); err != nil {
		s.t.fatalf("Extra[%q] of the checkpoint in the destination's store: %v", rigatoni.ExtraSnapshot, err)
	}
	return st.Events, true
}

// sweep has the sink sweep, and saves the checkpoint after it where the destination keeps it.
func (o *owner) sweep(w sweep) error {
	if err := o.sweepTo(w.end); err != nil {
		return fmt.Errorf("in Sweep: %w", err)
	}
	if o.store != nil {
		cp := o.checkpointAt(o.delivered + 1)
		if err := o.s.t.call("SaveFenced", func(ctx context.Context) error { return o.store.SaveFenced(ctx, o.s.key, o.fence, cp) }); err != nil {
			return fmt.Errorf("saving after a sweep: %w", err)
		}
		o.sequence = cp.Sequence
		o.from.covered = o.delivered + 1
	}
	o.delivered++
	return nil
}

func (o *owner) sweepTo(end rigatoni.SnapshotEnd) error {
	s, ok := rigatoni.As[rigatoni.Sweeper](o.sink)
	if !ok {
		o.s.t.skipf("%T is no rigatoni.Sweeper", o.sink)
	}
	return o.s.t.call("Sweep", func(ctx context.Context) error { return s.Sweep(ctx, end) })
}
