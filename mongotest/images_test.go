package mongotest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// Whatever happens to documents: the pre-image of an event is what the last
// event of the same document left.
func TestImagesChain(t *testing.T) {
	seed := campaign.Seed(t)
	n := campaign.Size(t, "RIGATONI_IMAGES", 10_000, 300)
	t.Run("mongotest", func(t *testing.T) { chainImages(t, Start(t).URI(), "chain", seed, n) })
	t.Run("mongod", func(t *testing.T) {
		db := mongod.ForTest(t)
		chainImages(t, db.URI, db.Name, seed, n)
	})
}

func chainImages(t *testing.T, uri, db string, seed uint64, n int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &script{t: t, client: dial(t, uri), db: db, values: map[string]bson.RawValue{}, cursors: map[string]int64{}}
	s.run(`{"create": "c", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.watch("w", `"c"`, `[{"$changeStream": {`+imageModes("required", "required")+`}}]`)
	in := s.session()
	for i := range n {
		id, v := rng.IntN(5), rng.IntN(4)
		commands := []string{
			fmt.Sprintf(`{"update": "c", "updates": [{"q": {"_id": %d}, "u": {"$set": {"a": %d, "b.%d": %d}}, "upsert": true}]}`, id, v, v, i),
			fmt.Sprintf(`{"update": "c", "updates": [{"q": {"_id": %d}, "u": {"$push": {"l": {"$each": [%d, 7], "$slice": -4}}, "$unset": {"b.%d": 1}}}]}`, id, i, v),
			fmt.Sprintf(`{"update": "c", "updates": [{"q": {"_id": %d}, "u": {"r": %d}, "upsert": true}]}`, id, i),
			fmt.Sprintf(`{"delete": "c", "deletes": [{"q": {"_id": %d}, "limit": 1}]}`, id),
			fmt.Sprintf(`{"findAndModify": "c", "query": {"_id": %d}, "update": {"$inc": {"n": 1}}}`, id),
		}
		one, two := commands[rng.IntN(len(commands))], commands[rng.IntN(len(commands))]
		if rng.IntN(5) > 0 {
			s.run(one)
			continue
		}
		in(i+1, true, one)
		in(i+1, false, two)
		in(i+1, false, `admin {"commitTransaction": 1}`)
	}
	s.run(`{"insert": "c", "documents": [{"_id": "last"}]}`)
	last, events := map[string]bson.RawValue{}, 0
	for {
		for _, v := range bsondoc.Items(s.more("w", "c").Lookup("cursor", "nextBatch")) {
			ev := v.Document()
			if ev.Lookup("documentKey", "_id").Type == bson.TypeString {
				if events < n/4 {
					t.Errorf("only %d events of %d writes", events, n)
				}
				return
			}
			id := bsondoc.Canonical(ev.Lookup("documentKey", "_id"))
			if was := last[id]; !bsondoc.Identical(ev.Lookup("fullDocumentBeforeChange"), was) {
				t.Fatalf("before\n%v\nthere was %v", ev, was)
			}
			last[id] = ev.Lookup("fullDocument")
			events++
		}
	}
}
