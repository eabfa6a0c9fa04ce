package mongotest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// TestSnapshotsOfRandomWrites reads a collection at random times, between random
// bounds, and compares with what it was then. On a real server it checks the
// test.
func TestSnapshotsOfRandomWrites(t *testing.T) {
	t.Run("mongotest", func(t *testing.T) { readRandomSnapshots(t, Start(t).URI(), "snapshots") })
	t.Run("mongod", func(t *testing.T) {
		db := mongod.ForTest(t)
		readRandomSnapshots(t, db.URI, db.Name)
	})
}

// A moment is what a collection was at a time.
type moment struct {
	at   bson.RawValue
	docs map[int32]int32 // v by _id
}

func readRandomSnapshots(t *testing.T, uri, db string) {
	client := dial(t, uri)
	random := rand.New(rand.NewPCG(campaign.Seed(t), 0))
	moments := writeAtRandom(t, client, db, random)
	read := func(m moment, low, high int32, bounded bool, limit int) []bson.RawValue {
		command := bson.D{{Key: "find", Value: "c"}, {Key: "hint", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "limit", Value: limit},
			{Key: "readConcern", Value: bson.D{{Key: "level", Value: "snapshot"}, {Key: "atClusterTime", Value: m.at}}}, {Key: "batchSize", Value: 1000}}
		if bounded {
			command = append(command, bson.E{Key: "min", Value: bson.D{{Key: "_id", Value: low}}}, bson.E{Key: "max", Value: bson.D{{Key: "_id", Value: high}}})
		}
		reply := client.call(db, command)
		if !bsondoc.Equal(reply.Lookup("cursor", "atClusterTime"), m.at) {
			t.Fatalf("%v: %v", command, reply)
		}
		return bsondoc.Items(reply.Lookup("cursor", "firstBatch"))
	}
	for range 300 {
		m := moments[random.IntN(len(moments))]
		low, limit, bounded := random.Int32N(60), random.IntN(8), random.IntN(4) > 0
		high := low + 1 + random.Int32N(20)
		var want []string
		for _, id := range slices.Sorted(maps.Keys(m.docs)) {
			if (!bounded || id >= low && id < high) && (limit == 0 || len(want) < limit) {
				want = append(want, fmt.Sprint(id, "=", m.docs[id]))
			}
		}
		var got []string
		for _, v := range read(m, low, high, bounded, limit) {
			got = append(got, fmt.Sprint(v.Document().Lookup("_id").Int32(), "=", v.Document().Lookup("v").Int32()))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("at %v, from %d to %d (%v), limit %d:\n got %v\nwant %v", m.at, low, high, bounded, limit, got, want)
		}
	}
}

// writeAtRandom inserts, updates, replaces and deletes, in transactions too, and
// returns every state that the collection had.
func writeAtRandom(t *testing.T, client *wireClient, db string, random *rand.Rand) (moments []moment) {
	docs := map[int32]int32{}
	call := func(command bson.D) bson.Raw {
		t.Helper()
		reply := client.call(db, command)
		if ok, _ := bsondoc.Int(reply.Lookup("ok")); ok != 1 || reply.Lookup("writeErrors").Type != 0 {
			t.Fatalf("%v: %v", command, reply)
		}
		return reply
	}
	majority := bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}}
	call(bson.D{{Key: "create", Value: "c"}, majority})
	u := newUUID()
	lsid := bson.D{{Key: "id", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: u[:]}}}
	for n := range int32(200) {
		writes := 1
		if random.IntN(4) == 0 {
			writes += 1 + random.IntN(4)
		}
		var reply bson.Raw
		for i := range writes {
			command := randomWrite(random, docs, n*10+int32(i))
			if writes == 1 {
				reply = call(append(command, majority))
				break
			}
			command = append(command, bson.E{Key: "lsid", Value: lsid}, bson.E{Key: "txnNumber", Value: int64(n)}, bson.E{Key: "autocommit", Value: false})
			if i == 0 {
				command = append(command, bson.E{Key: "startTransaction", Value: true})
			}
			call(command)
		}
		if writes > 1 {
			reply = client.call("admin", bson.D{{Key: "commitTransaction", Value: 1}, {Key: "lsid", Value: lsid}, {Key: "txnNumber", Value: int64(n)}, {Key: "autocommit", Value: false}, majority})
			if ok, _ := bsondoc.Int(reply.Lookup("ok")); ok != 1 {
				t.Fatalf("commit: %v", reply)
			}
		}
		moments = append(moments, moment{at: reply.Lookup("operationTime"), docs: maps.Clone(docs)})
	}
	return moments
}

func randomWrite(random *rand.Rand, docs map[int32]int32, v int32) bson.D {
	id := random.Int32N(60)
	_, exists := docs[id]
	key := bson.D{{Key: "_id", Value: id}}
	switch {
	case !exists:
		docs[id] = v
		return bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}, {Key: "v", Value: v}}}}}
	case random.IntN(3) == 0:
		delete(docs, id)
		return bson.D{{Key: "delete", Value: "c"}, {Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: key}, {Key: "limit", Value: 1}}}}}
	}
	docs[id] = v
	change := bson.D{{Key: "v", Value: v}}
	if random.IntN(2) == 0 {
		change = bson.D{{Key: "$set", Value: change}}
	}
	return bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: key}, {Key: "u", Value: change}}}}}
}

// A time from before the oplog begins can't be read: 239.
func TestSnapshotTooOld(t *testing.T) {
	s := Start(t)
	client := dial(t, s.URI())
	insert := func(id int) bson.RawValue {
		return client.call("shop", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}}}}}).Lookup("operationTime")
	}
	before, last := insert(1), insert(2)
	s.ForgetOplog(1)
	code := func(at bson.RawValue) int64 {
		n, _ := bsondoc.Int(client.call("shop", bson.D{{Key: "find", Value: "c"}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "snapshot"}, {Key: "atClusterTime", Value: at}}}}).Lookup("code"))
		return n
	}
	if got := code(before); got != cmderr.SnapshotTooOld {
		t.Errorf("a read from before the oplog: code %d", got)
	}
	if got := code(last); got != 0 {
		t.Errorf("a read at the oldest entry: code %d", got)
	}
}
