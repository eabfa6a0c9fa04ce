package changestream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/rigatoni-etl/rigatoni"
)

var _ rigatoni.HistoryReporter = (*Source)(nil)

// History implements [rigatoni.HistoryReporter], by the oplog of the member that
// streams are read from by default, the primary. It needs the right to read
// local.oplog.rs, and for its size that of collStats on it: the role clusterMonitor
// has both. A mongos has no oplog: the error is [errors.ErrUnsupported].
func (s *Source) History(ctx context.Context) (rigatoni.History, error) {
	oplog := s.client.Database("local").Collection("oplog.rs", options.Collection().SetReadPreference(readpref.PrimaryPreferred()))
	first, err := entry(ctx, oplog, 1)
	if err != nil {
		return rigatoni.History{}, err
	}
	last, err := entry(ctx, oplog, -1)
	if err != nil {
		return rigatoni.History{}, err
	}
	h := rigatoni.History{Oldest: first.TS, Newest: last.TS}
	h.Reach = reach(h, oplogRoom(ctx, oplog, first))
	return h, nil
}

// longest bounds a reach that is estimated from little: a day's entries in an oplog
// that has room for centuries.
const longest = 10 * 365 * 24 * time.Hour

// reach is how long entries stay in an oplog that has room for that many times as
// many as it has now; 0 if room is 0, which is unknown.
func reach(h rigatoni.History, room float64) time.Duration {
	window := float64(max(1, int64(h.Newest.T)-int64(h.Oldest.T))) * float64(time.Second)
	return time.Duration(min(window*room, float64(longest)))
}

// oplogRoom is how many times as many entries an oplog has room for as it has: 1 if
// it is full. Where the user may not read its size, one that still has its very
// first entry has room left, nobody knows how much (0), and any other is taken for
// full: a member that was added has only what was written since.
func oplogRoom(ctx context.Context, oplog *mongo.Collection, first oplogEntry) float64 {
	cursor, err := oplog.Aggregate(ctx, bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "storageStats", Value: bson.D{}}}}}})
	var stats []struct {
		Storage struct {
			Size    float64 `bson:"size"`
			MaxSize float64 `bson:"maxSize"`
		} `bson:"storageStats"`
	}
	if err == nil {
		err = cursor.All(ctx, &stats)
	}
	switch {
	case err == nil && len(stats) == 1 && stats[0].Storage.Size > 0 && stats[0].Storage.MaxSize > 0:
		return max(1, stats[0].Storage.MaxSize/stats[0].Storage.Size)
	case first.O.Msg == "initiating set":
		return 0
	}
	return 1
}

// An oplogEntry is what matters here of an entry.
type oplogEntry struct {
	TS bson.Timestamp `bson:"ts"`
	O  struct {
		Msg string `bson:"msg"`
	} `bson:"o"`
}

// entry returns the first or last entry.
func entry(ctx context.Context, oplog *mongo.Collection, direction int) (e oplogEntry, err error) {
	o := options.FindOne().SetSort(bson.D{{Key: "$natural", Value: direction}}).SetProjection(bson.D{{Key: "ts", Value: 1}, {Key: "o.msg", Value: 1}})
	err = oplog.FindOne(ctx, bson.D{}, o).Decode(&e)
	for attempt := 1; code(err) == codeCappedPositionLost && attempt < 10; attempt++ { // the server was deleting that entry
		err = oplog.FindOne(ctx, bson.D{}, o).Decode(&e)
	}
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return e, fmt.Errorf("changestream: the server has no oplog: %w", errors.ErrUnsupported)
	case code(err) == codeUnauthorized:
		return e, &streamError{text: "the oplog can't be read: " + messageOf(err) + "; a user with the role clusterMonitor can", causes: []error{ErrRefused, err}}
	case err != nil:
		return e, fmt.Errorf("changestream: the oplog can't be read: %s", messageOf(err))
	}
	return e, nil
}
