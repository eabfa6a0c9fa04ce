package changestream

import (
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
		for end := time.Now().Add(20 * time.Second); entryTime(-1) < first+2; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the oplog stands still")
			}
			w.insert("c", int(time.Now().UnixNano()%1e9))
		}
		last := entryTime(-1)
		got, err := src.History(t.Context())
		if least := time.Duration(last-first) * time.Second; err != nil || got < least || got > least+20*time.Second {
			t.Errorf("History: %v, %v, want %v", got, err, least)
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
	if got, err := reader.History(t.Context()); err == nil {
		t.Errorf("a user who may not read the oplog gets %v", got)
	}
}
