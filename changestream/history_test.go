package changestream

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// The history is what lies between the first entry of the oplog and the last.
func TestHistory(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{})
		entryTime := func(direction int) uint32 { return w.OplogTime(t, direction).T }
		first := entryTime(1)
		// Cluster time has a resolution of a second.
		for end := time.Now().Add(time.Minute); entryTime(-1) < first+2; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the oplog stands still")
			}
			w.insert("c", int(time.Now().UnixNano()%1e9))
		}
		last := entryTime(-1)
		got, err := src.History(t.Context())
		if err != nil || got.Oldest.T != first || got.Newest.T < last || got.Newest.T > last+20 {
			t.Errorf("History: %+v, %v, want %d to %d", got, err, first, last)
		}
		// A new oplog is nearly empty: how long its entries will stay is an estimate, or
		// unknown (0). To take it for full would warn of each new server.
		if got.Reach > 0 && got.Reach < time.Hour {
			t.Errorf("the new oplog reaches back %v", got.Reach)
		}
		if w.Real != nil && got.Reach == 0 {
			t.Error("how far the new oplog will reach is unknown to a user who may read its size")
		}
	})
}

// An oplog that is full reaches back to its first entry.
func TestHistoryOfAFullOplog(t *testing.T) {
	bothOwn(t, testserver.SmallOplog, func(t *testing.T, w *fixture) {
		w.insert("c", 1)
		w.LoseOplog(t, bson.Timestamp{T: w.OplogTime(t, 1).T, I: w.OplogTime(t, 1).I})
		got, err := w.source(Options{}).History(t.Context())
		window := time.Duration(int64(got.Newest.T)-int64(got.Oldest.T)) * time.Second
		if err != nil || got.Reach > 2*window+2*time.Second || got.Reach < window {
			t.Errorf("History: %+v, %v, though the oplog is full and spans %v", got, err, window)
		}
	})
}

// The server may delete the oldest entry at the moment that it is read.
func TestHistoryWhileTheOplogIsCut(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		w.insert("c", 1)
		w.failPoint(testserver.FailCommand, times(3), failCommand("find", codeCappedPositionLost))
		if _, err := w.source(Options{}).History(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A user who may not read the oplog gets an error that says so.
func TestHistoryTakesARight(t *testing.T) {
	w := ownMongod(t, mongod.Options{Auth: true})
	if err := w.DB.RunCommand(t.Context(), bson.D{{Key: "createUser", Value: "reader"}, {Key: "pwd", Value: "s3cr3t"},
		{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: "shop"}}}}}).Err(); err != nil {
		t.Fatal(err)
	}
	client := w.Connect(t, options.Client().SetAuth(options.Credential{Username: "reader", Password: "s3cr3t", AuthSource: "shop"}))
	reader, err := New(client, &Options{Database: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := reader.History(t.Context()); err == nil || !strings.Contains(err.Error(), "clusterMonitor") {
		t.Errorf("a user who may not read the oplog gets %v, %v", got, err)
	}
}

// A user who may read the oplog and not its size learns how far it reaches only where
// it has discarded something.
func TestHistoryWithoutTheSize(t *testing.T) {
	w := ownMongod(t, mongod.Options{Auth: true})
	admin := w.Client.Database("admin")
	for _, cmd := range []bson.D{
		{{Key: "createRole", Value: "oplogReader"}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{bson.D{
			{Key: "resource", Value: bson.D{{Key: "db", Value: "local"}, {Key: "collection", Value: "oplog.rs"}}}, {Key: "actions", Value: bson.A{"find"}}}}}},
		{{Key: "createUser", Value: "reader"}, {Key: "pwd", Value: "s3cr3t"}, {Key: "roles", Value: bson.A{"oplogReader"}}},
	} {
		if err := admin.RunCommand(t.Context(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := New(w.Connect(t, options.Client().SetAuth(options.Credential{Username: "reader", Password: "s3cr3t", AuthSource: "admin"})), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := reader.History(t.Context()); err != nil || got.Oldest.T == 0 || got.Reach != 0 {
		t.Errorf("History: %+v, %v", got, err)
	}
}
