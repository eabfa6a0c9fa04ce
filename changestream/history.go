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

// History implements [rigatoni.HistoryReporter]: the time between the first and the
// last entry of the oplog. It needs the right to read local.oplog.rs, which the
// roles clusterMonitor and backup have. A mongos has no oplog: the error is
// [errors.ErrUnsupported].
func (s *Source) History(ctx context.Context) (time.Duration, error) {
	oplog := s.client.Database("local").Collection("oplog.rs", options.Collection().SetReadPreference(readpref.Nearest()))
	first, err := entry(ctx, oplog, 1)
	if err != nil {
		return 0, err
	}
	last, err := entry(ctx, oplog, -1)
	if err != nil {
		return 0, err
	}
	return time.Duration(int64(last.T)-int64(first.T)) * time.Second, nil
}

// entry returns the time of the first or last entry.
func entry(ctx context.Context, oplog *mongo.Collection, direction int) (bson.Timestamp, error) {
	var e struct {
		TS bson.Timestamp `bson:"ts"`
	}
	o := options.FindOne().SetSort(bson.D{{Key: "$natural", Value: direction}}).SetProjection(bson.D{{Key: "ts", Value: 1}})
	err := oplog.FindOne(ctx, bson.D{}, o).Decode(&e)
	for attempt := 1; code(err) == codeCappedPositionLost && attempt < 10; attempt++ { // the server was deleting that entry
		err = oplog.FindOne(ctx, bson.D{}, o).Decode(&e)
	}
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return bson.Timestamp{}, fmt.Errorf("changestream: the server has no oplog: %w", errors.ErrUnsupported)
	case err != nil:
		return bson.Timestamp{}, fmt.Errorf("changestream: the oplog can't be read: %s", messageOf(err))
	}
	return e.TS, nil
}
