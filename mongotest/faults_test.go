package mongotest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A streamClient opens streams and reads them by plain commands.
type streamClient struct {
	*wireClient
	id int64
}

func watchStream(t *testing.T, s *Server, spec bson.D) (*streamClient, bson.Raw) {
	c := &streamClient{wireClient: dial(t, s.URI())}
	reply := c.call("shop", bson.D{{Key: "aggregate", Value: "c"},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: spec}}}}, {Key: "cursor", Value: bson.D{}}})
	c.id, _ = reply.Lookup("cursor", "id").Int64OK()
	return c, reply
}

func (c *streamClient) more(wait int) bson.Raw {
	return c.call("shop", bson.D{{Key: "getMore", Value: c.id}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: wait}})
}

func put(t *testing.T, s *Server, ids ...int) {
	t.Helper()
	c := dial(t, s.URI())
	for _, n := range ids {
		reply := c.call("shop", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{id(n)}}})
		if n, ok := reply.Lookup("n").Int32OK(); !ok || n != 1 {
			t.Fatalf("insert: %s", reply)
		}
	}
}

func wantFailure(t *testing.T, reply bson.Raw, code int, labels ...string) {
	t.Helper()
	got, _ := reply.Lookup("code").AsInt64OK()
	var have []string
	for _, v := range bsondoc.Items(reply.Lookup("errorLabels")) {
		have = append(have, v.StringValue())
	}
	if got != int64(code) || !slices.Equal(have, labels) {
		t.Errorf("%s\nwant %d with %v", reply, code, labels)
	}
}

func TestForgetOplog(t *testing.T) {
	s := Start(t)
	put(t, s, 1)
	old, first := watchStream(t, s, bson.D{})
	token := first.Lookup("cursor", "postBatchResumeToken")
	put(t, s, 2, 3, 4)
	s.ForgetOplog(1)
	wantFailure(t, old.more(10), cmderr.CappedPositionLost)
	wantFailure(t, old.more(10), cmderr.CursorNotFound)
	_, reply := watchStream(t, s, bson.D{{Key: "resumeAfter", Value: token}})
	wantFailure(t, reply, cmderr.ChangeStreamHistoryLost, "NonResumableChangeStreamError")
	if msg := reply.Lookup("errmsg").StringValue(); !strings.HasPrefix(msg, "PlanExecutor error during aggregation :: caused by :: Resume of change stream was not possible") {
		t.Error(msg)
	}
	_, reply = watchStream(t, s, bson.D{{Key: "startAtOperationTime", Value: bson.Timestamp{T: 1, I: 1}}})
	wantFailure(t, reply, cmderr.ChangeStreamHistoryLost, "NonResumableChangeStreamError")
	ts := dial(t, s.URI()).call("local", bson.D{{Key: "find", Value: "oplog.rs"}, {Key: "sort", Value: bson.D{{Key: "$natural", Value: 1}}}, {Key: "limit", Value: 1}}).
		Lookup("cursor", "firstBatch", "0", "ts")
	_, reply = watchStream(t, s, bson.D{{Key: "startAtOperationTime", Value: ts}})
	if n := len(bsondoc.Items(reply.Lookup("cursor", "firstBatch"))); n != 1 {
		t.Errorf("%d events since the oldest entry, want 1: %s", n, reply)
	}
}

func TestCappedOplog(t *testing.T) {
	s, err := Listen(t.Context(), Options{OplogEntries: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, first := watchStream(t, s, bson.D{})
	put(t, s, 1, 2, 3, 4, 5, 6)
	_, reply := watchStream(t, s, bson.D{{Key: "resumeAfter", Value: first.Lookup("cursor", "postBatchResumeToken")}})
	wantFailure(t, reply, cmderr.ChangeStreamHistoryLost, "NonResumableChangeStreamError")
}

// Before the oplog is truncated, any older time is accepted; the same on both
// servers, and with batchSize 0 the failure comes later.
func TestHistoryIsLookedAtLate(t *testing.T) {
	s := Start(t)
	put(t, s, 1, 2)
	s.ForgetOplog(1)
	c := &streamClient{wireClient: dial(t, s.URI())}
	reply := c.call("shop", bson.D{{Key: "aggregate", Value: "c"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream",
		Value: bson.D{{Key: "startAtOperationTime", Value: bson.Timestamp{T: 1, I: 1}}}}}}}, {Key: "cursor", Value: bson.D{{Key: "batchSize", Value: 0}}}})
	c.id = reply.Lookup("cursor", "id").Int64()
	wantFailure(t, c.more(10), cmderr.ChangeStreamHistoryLost, "NonResumableChangeStreamError")
}

func TestKillCursorsWhileWaiting(t *testing.T) {
	s := Start(t)
	c, _ := watchStream(t, s, bson.D{})
	reply := make(chan bson.Raw)
	go func() { reply <- c.more(20_000) }()
	waitFor(t, "a getMore that waits", func() bool {
		s.cursors.mu.Lock()
		defer s.cursors.mu.Unlock()
		return s.cursors.byID[c.id].busy
	})
	second := &streamClient{wireClient: dial(t, s.URI()), id: c.id}
	wantFailure(t, second.more(10), cmderr.CursorInUse)
	if n := s.KillCursors(); n != 1 {
		t.Errorf("%d cursors killed, want 1", n)
	}
	wantFailure(t, <-reply, cmderr.CursorKilled)
	wantFailure(t, c.more(10), cmderr.CursorNotFound)
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

func TestAwaitData(t *testing.T) {
	s := Start(t)
	c, _ := watchStream(t, s, bson.D{})
	begin := time.Now()
	if batch := bsondoc.Items(c.more(60).Lookup("cursor", "nextBatch")); len(batch) != 0 || time.Since(begin) < 60*time.Millisecond {
		t.Errorf("%d events after %v, want none after maxTimeMS", len(batch), time.Since(begin))
	}
	reply := make(chan bson.Raw)
	go func() { reply <- c.more(20_000) }()
	put(t, s, 1)
	if batch := bsondoc.Items((<-reply).Lookup("cursor", "nextBatch")); len(batch) != 1 {
		t.Errorf("%d events, want the one that came", len(batch))
	}
}

func TestOversizeNextEvent(t *testing.T) {
	s := Start(t)
	c, first := watchStream(t, s, bson.D{})
	put(t, s, 1)
	s.OversizeNextEvent()
	put(t, s, 2, 3)
	reply := c.more(10)
	wantFailure(t, reply, cmderr.BSONObjectTooLarge)
	wantFailure(t, c.more(10), cmderr.CursorNotFound)
	_, reply = watchStream(t, s, bson.D{{Key: "resumeAfter", Value: first.Lookup("cursor", "postBatchResumeToken")}})
	wantFailure(t, reply, cmderr.BSONObjectTooLarge)
}

// An update of a document of 10 MB, with updateLookup: the event contains it
// twice.
func TestEventOver16MB(t *testing.T) {
	both(t, func(t *testing.T, db *mongo.Database) {
		c := db.Collection("c")
		insertIDs(t, c, 1)
		reply, err := db.RunCommand(t.Context(), bson.D{{Key: "aggregate", Value: "c"},
			{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{{Key: "fullDocument", Value: "updateLookup"}}}}}}, {Key: "cursor", Value: bson.D{}}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		mark := reply.Lookup("cursor", "postBatchResumeToken")
		if _, err := c.UpdateOne(t.Context(), id(1), bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: strings.Repeat("z", 10<<20)}}}}); err != nil {
			t.Fatal(err)
		}
		err = db.RunCommand(t.Context(), bson.D{{Key: "aggregate", Value: "c"},
			{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{{Key: "fullDocument", Value: "updateLookup"}, {Key: "resumeAfter", Value: mark}}}}}},
			{Key: "cursor", Value: bson.D{}}}).Err()
		var e mongo.CommandError
		if !errors.As(err, &e) || e.Code != cmderr.BSONObjectTooLarge || !strings.Contains(e.Message, "BSONObj size: 20971") || len(e.Labels) != 0 {
			t.Errorf("%v %v, want BSONObjectTooLarge", err, e.Labels)
		}
	})
}

func TestFreeze(t *testing.T) {
	s := Start(t)
	c := connect(t, s.URI()).Database("shop").Collection("c")
	insertIDs(t, c, 1)
	s.Freeze()
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.InsertOne(ctx, id(2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want no answer", err)
	}
	s.Thaw()
	insertIDs(t, c, 3)
}

func TestFreezeAndClose(t *testing.T) {
	s := Start(t)
	c := dial(t, s.URI())
	s.Freeze()
	raw, err := bson.Marshal(bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "admin"}})
	if err != nil {
		t.Fatal(err)
	}
	c.send(raw)
	s.Close()
	if _, err := c.receive(); err == nil {
		t.Error("an answer from a frozen server")
	}
}

// The effects of a step-down, on a real server and here.
func TestStepDown(t *testing.T) {
	t.Run("mongotest", func(t *testing.T) {
		s := Start(t)
		stepsDown(t, s.URI(), s.StepUp)
	})
	t.Run("mongod", func(t *testing.T) {
		stepsDown(t, mongod.OwnForTest(t, mongod.Options{}).URI(), func() {})
	})
}

func stepsDown(t *testing.T, uri string, up func()) {
	c := dial(t, uri)
	watch := bson.D{{Key: "aggregate", Value: "c"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{}}}}}, {Key: "cursor", Value: bson.D{}}}
	insert := func(n int) bson.Raw {
		return c.call("shop", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{id(n)}}})
	}
	insert(1)
	open := c.call("shop", watch)
	insert(2)
	if reply := c.call("admin", bson.D{{Key: "replSetStepDown", Value: 2}, {Key: "force", Value: true}}); reply.Lookup("ok").Double() != 1 {
		t.Fatal(reply)
	}
	hello := c.call("admin", bson.D{{Key: "hello", Value: 1}})
	if hello.Lookup("isWritablePrimary").Boolean() || !hello.Lookup("secondary").Boolean() || hello.Lookup("primary").Type != 0 {
		t.Errorf("hello after a step-down: %s", hello)
	}
	refused := insert(3)
	wantFailure(t, refused, cmderr.NotWritablePrimary)
	if refused.Lookup("topologyVersion").Type == 0 {
		t.Errorf("no topologyVersion: %s", refused)
	}
	wantFailure(t, c.call("shop", watch), cmderr.NotPrimaryNoSecondaryOk, "ResumableChangeStreamError")
	secondary := append(slices.Clone(watch), bson.E{Key: "$readPreference", Value: bson.D{{Key: "mode", Value: "primaryPreferred"}}})
	if reply := c.call("shop", secondary); reply.Lookup("ok").Double() != 1 {
		t.Errorf("with primaryPreferred: %s", reply)
	}
	lsid := newUUID()
	retryable := c.call("shop", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{id(3)}},
		{Key: "lsid", Value: bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: lsid[:]}}}}, {Key: "txnNumber", Value: int64(1)}})
	wantFailure(t, retryable, cmderr.NotWritablePrimary, "RetryableWriteError")
	more := c.call("shop", bson.D{{Key: "getMore", Value: open.Lookup("cursor", "id").Int64()}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: 100}})
	if batch := bsondoc.Items(more.Lookup("cursor", "nextBatch")); len(batch) != 1 {
		t.Errorf("an open cursor after a step-down: %s", more)
	}
	up()
	waitFor(t, "primary again", func() bool {
		return c.call("admin", bson.D{{Key: "hello", Value: 1}}).Lookup("isWritablePrimary").Boolean()
	})
}

// A retryable write that was executed is not executed again.
func TestRetryableWrites(t *testing.T) {
	t.Run("mongotest", func(t *testing.T) { retries(t, Start(t).URI(), "shop") })
	t.Run("mongod", func(t *testing.T) {
		db := mongod.ForTest(t)
		retries(t, db.URI, db.Name)
	})
}

func retries(t *testing.T, uri, db string) {
	c, lsid := dial(t, uri), newUUID()
	session := bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: lsid[:]}}}
	send := func(number int64) bson.Raw {
		return c.call(db, bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: id(1)},
			{Key: "u", Value: bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}}, {Key: "upsert", Value: true}}}}, {Key: "lsid", Value: session}, {Key: "txnNumber", Value: number}})
	}
	first, again := send(5), send(5)
	if first.Lookup("upserted").String() == "" || first.Lookup("upserted").String() != again.Lookup("upserted").String() {
		t.Errorf("%s\n%s\nwant the same twice", first, again)
	}
	send(6)
	wantFailure(t, send(5), cmderr.TransactionTooOld)
	found := c.call(db, bson.D{{Key: "find", Value: "c"}})
	if n := found.Lookup("cursor", "firstBatch", "0", "n"); n.AsInt64() != 2 {
		t.Errorf("%s: want n to be 2", found)
	}
}

// An error that says "not primary" has a topologyVersion, also if a fail point made
// it.
func TestNotPrimaryTellsTheTopology(t *testing.T) {
	both(t, func(t *testing.T, db *mongo.Database) {
		for code, want := range map[int32]bool{189: true, 10107: true, 11602: true, 13435: true, 13436: true, 11601: false, 43: false} {
			admin := db.Client().Database("admin")
			point := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
				{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"distinct"}}, {Key: "errorCode", Value: code}}}}
			if err := admin.RunCommand(t.Context(), point).Err(); err != nil {
				t.Fatal(err)
			}
			err := db.RunCommand(t.Context(), bson.D{{Key: "distinct", Value: "c"}, {Key: "key", Value: "x"}}).Err()
			var e mongo.CommandError
			if !errors.As(err, &e) || e.Code != code || (e.Raw.Lookup("topologyVersion").Type != 0) != want {
				t.Errorf("code %d: %v, with a topologyVersion %v: want %v", code, e.Raw, !want, want)
			}
		}
	})
}
