package changestream

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// The read events of documents of any size are those that somebody would make of each by
// hand, and none can be extended into the next.
func TestReadEvents(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ids := everyType()
	var docs []bson.Raw
	for i := range 500 {
		size := []int{0, 10, 300, 20_000, wrapMemory / 4, wrapMemory, 2 * wrapMemory}[r.IntN(7)]
		if size > 300 && i%20 > 0 {
			size = 300
		}
		doc := bson.D{{Key: "_id", Value: ids[r.IntN(len(ids))]}, {Key: "pad", Value: strings.Repeat("x", size)}}
		if i%50 == 7 {
			doc[0], doc[1] = doc[1], doc[0] // as the server never stores it
		}
		docs = append(docs, mustMarshal(t, doc))
	}
	at, token, ns := ts(10, 1), highWaterMark(t, ts(10, 2)), rigatoni.Namespace{DB: "d", Coll: "a"}
	events, err := (&snapshotChunk{found: docs}).wrap(ns, token, at, fixedPosition{stream: rigatoni.Position{StartAfter: true}})
	if err != nil || len(events) != len(docs) {
		t.Fatalf("%d events: %v", len(events), err)
	}
	for i, ev := range events {
		want := mustMarshal(t, bson.D{
			{Key: "_id", Value: token.Raw()}, {Key: "operationType", Value: "read"}, {Key: "clusterTime", Value: at},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: "a"}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: docs[i].Lookup("_id")}}}, {Key: "fullDocument", Value: docs[i]},
		})
		if string(ev.Raw) != string(want) || cap(ev.Raw) != len(ev.Raw) {
			t.Fatalf("event %d is %v, want %v", i, ev.Raw, want)
		}
		if pos, err := rigatoni.PositionAfter(ev); err != nil || !pos.StartAfter {
			t.Fatalf("event %d has not the positioner: %v", i, err)
		}
	}
	if _, err := (&snapshotChunk{found: []bson.Raw{mustMarshal(t, bson.D{{Key: "x", Value: 1}})}}).wrap(ns, token, at, nil); err == nil {
		t.Error("a document without _id was accepted")
	}
}

func mustMarshal(t *testing.T, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
