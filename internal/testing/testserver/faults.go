package testserver

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// Admin runs a command on the database admin.
func (s *Server) Admin(t testing.TB, cmd bson.D) bson.Raw {
	t.Helper()
	raw, err := s.Client.Database("admin").RunCommand(context.Background(), cmd).Raw()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return raw
}

// The fail points that both servers have.
const (
	FailCommand  = "failCommand"
	FailCheckout = "failGetMoreAfterCursorCheckout" // it closes the cursor
)

// FailPoint sets a fail point, and switches it off at the end of the test.
func (s *Server) FailPoint(t testing.TB, name string, mode any, data bson.D) {
	t.Helper()
	s.Admin(t, bson.D{{Key: "configureFailPoint", Value: name}, {Key: "mode", Value: mode}, {Key: "data", Value: data}})
	t.Cleanup(func() {
		limit := time.Minute // left on, it fails the tests that share the server
		if s.Fake != nil || s.Real != nil {
			limit = time.Second // the server is this test's, and may have been closed
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_ = s.off(ctx, name)
	})
}

// FailPointOff switches a fail point off.
func (s *Server) FailPointOff(t testing.TB, name string) {
	t.Helper()
	if err := s.off(context.Background(), name); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) off(ctx context.Context, name string) error {
	return s.Client.Database("admin").RunCommand(ctx, bson.D{{Key: "configureFailPoint", Value: name}, {Key: "mode", Value: "off"}}).Err()
}

// Times is the mode of a fail point that applies n times.
func Times(n int) bson.D { return bson.D{{Key: "times", Value: n}} }

// Code returns the failCommand that fails a command with an error code. Without
// labels the error has those that the server adds to that code.
func Code(command string, code int, labels ...string) bson.D {
	d := bson.D{{Key: "failCommands", Value: bson.A{command}}, {Key: "errorCode", Value: code}}
	if labels != nil {
		d = append(d, bson.E{Key: "errorLabels", Value: labels})
	}
	return d
}

// A Cursor is an open one on a server.
type Cursor struct {
	ID         int64
	Collection string // as in killCursors
	DB         string
}

// Cursors returns the open cursors of change streams on a real server, waiting
// or not.
func (s *Server) Cursors(t testing.TB) (open []Cursor) {
	t.Helper()
	ctx := context.Background()
	cur, err := s.Client.Database("admin").Aggregate(ctx, mongo.Pipeline{
		{{Key: "$currentOp", Value: bson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}},
		{{Key: "$match", Value: bson.D{{Key: "cursor.originatingCommand.pipeline.0.$changeStream", Value: bson.D{{Key: "$exists", Value: true}}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ops []struct {
		NS     string `bson:"ns"`
		Cursor struct {
			ID int64 `bson:"cursorId"`
		} `bson:"cursor"`
	}
	if err := cur.All(ctx, &ops); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		db, coll, _ := strings.Cut(op.NS, ".")
		open = append(open, Cursor{ID: op.Cursor.ID, DB: db, Collection: coll})
	}
	return open
}

// KillCursors kills the cursors of all change streams, as an operator can, and
// returns their number.
func (s *Server) KillCursors(t testing.TB) int {
	t.Helper()
	return s.CursorKiller(t)()
}

// CursorKiller finds the cursors of all change streams, and returns the
// function that kills them: finding them takes an aggregate, which may be about
// to fail.
func (s *Server) CursorKiller(t testing.TB) (kill func() int) {
	t.Helper()
	if s.Fake != nil {
		return s.Fake.KillCursors
	}
	open := s.Cursors(t)
	return func() int {
		t.Helper()
		for _, c := range open {
			cmd := bson.D{{Key: "killCursors", Value: c.Collection}, {Key: "cursors", Value: bson.A{c.ID}}}
			if err := s.Client.Database(c.DB).RunCommand(context.Background(), cmd).Err(); err != nil {
				t.Fatal(err)
			}
		}
		return len(open)
	}
}

// StepDown makes the primary step down and returns when there is a primary
// again.
func (s *Server) StepDown(ctx context.Context) error {
	if s.Fake != nil {
		s.Fake.StepDown(0)
		s.Fake.StepUp()
		return nil
	}
	return s.Real.StepDown(ctx)
}

// SmallOplog is for servers that lose oplog entries in a test.
var SmallOplog = mongod.Options{OplogMB: 1, SyncDelay: 1}

// LoseOplog makes the oplog lose the entries at and before a time. A real
// server should have SmallOplog; it takes seconds, and is skipped with -short.
func (s *Server) LoseOplog(t testing.TB, ts bson.Timestamp) {
	t.Helper()
	if s.Fake == nil && testing.Short() {
		t.Skip("a real server cuts its oplog after 140 MB of writes: not with -short")
	}
	fill := bson.D{{Key: "fill", Value: "x"}}
	n := 1
	if s.Fake == nil {
		fill, n = bson.D{{Key: "fill", Value: strings.Repeat("x", 100_000)}}, 100
	}
	docs := make([]any, n)
	for i := range docs {
		docs[i] = fill
	}
	for deadline := time.Now().Add(2 * time.Minute); s.OplogTime(t, 1).Compare(ts) <= 0; {
		if time.Now().After(deadline) {
			t.Fatal("the oplog was not cut")
		}
		if _, err := s.DB.Collection("fill").InsertMany(context.Background(), docs); err != nil {
			t.Fatal(err)
		}
		if s.Fake != nil {
			s.Fake.ForgetOplog(1)
		}
	}
	if s.Fake == nil {
		s.awaitCut(t)
	}
}

// awaitCut waits until a real server has cut its oplog back to its size, which it does
// in steps, each after a checkpoint of its storage (one a second, in these tests): what
// is the oldest event meanwhile is gone a moment later.
func (s *Server) awaitCut(t testing.TB) {
	const still = 1500 * time.Millisecond
	oldest, since := s.OplogTime(t, 1), time.Now()
	for deadline := time.Now().Add(30 * time.Second); time.Since(since) < still; time.Sleep(50 * time.Millisecond) {
		if now := s.OplogTime(t, 1); now != oldest {
			oldest, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatal("the oplog is still being cut")
		}
	}
}

// StartOver turns the server into another, empty deployment at the same
// address. It must be the test's own.
func (s *Server) StartOver(t testing.TB) {
	t.Helper()
	if s.Real != nil {
		if err := s.Real.StartOver(context.Background()); err != nil {
			t.Fatal(err)
		}
		return
	}
	s.Fake.Close()
	u, err := url.Parse(s.URI)
	if err != nil {
		t.Fatal(err)
	}
	if s.Fake, err = mongotest.Listen(context.Background(), mongotest.Options{Address: u.Host}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Fake.Close)
}

// OplogTime returns the time of the first entry of the oplog (1) or of the last
// (-1).
func (s *Server) OplogTime(t testing.TB, direction int) bson.Timestamp {
	t.Helper()
	oplog := s.Client.Database("local").Collection("oplog.rs")
	for {
		var e struct {
			TS bson.Timestamp `bson:"ts"`
		}
		err := oplog.FindOne(context.Background(), bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: direction}})).Decode(&e)
		var ce mongo.CommandError
		switch {
		case err == nil:
			return e.TS
		case errors.As(err, &ce) && ce.HasErrorCode(cappedPositionLost): // it was being truncated
		default:
			t.Fatal(err)
		}
	}
}

const cappedPositionLost = 136
