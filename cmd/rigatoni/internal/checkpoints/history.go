package checkpoints

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/changestream"
)

type history struct{ Oldest, Newest bson.Timestamp }

func readHistory(ctx context.Context, src *changestream.Source, now bson.Timestamp) (history, error) {
	d, err := src.History(ctx)
	if err != nil {
		return history{}, err
	}
	return history{Oldest: bson.Timestamp{T: now.T - uint32(d/time.Second)}, Newest: now}, nil
}

func (h history) Runway(checkpoint bson.Timestamp) (time.Duration, bool) {
	if h.Oldest.IsZero() || checkpoint.IsZero() {
		return 0, false
	}
	return max(0, time.Duration(int64(checkpoint.T)-int64(h.Oldest.T))*time.Second), true
}
