package mongodb_test

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
)

func refused(id int32) rigatoni.Event {
	return rigatonitest.Insert("destinationtest.items", bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(-1)}})
}

// A function in the transaction of the checkpoint keeps the contract, on a real server, with
// a fault at each command that it sends.
func TestTx(t *testing.T) {
	t.Parallel()
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		l := newLab(t)
		must(t, l.client.Database(l.db).CreateCollection(t.Context(), "rows"))
		t.Parallel()
		return destinationtest.Harness{
			Forgets: true, Short: !campaign.Full(t),
			Open: func(context.Context) (rigatoni.Destination, error) { return newKeyed(l.client, l.db, callTimeout) },
			OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				f := &faults{Fault: fault}
				d, err := newKeyed(connect(t, l.uri, f), l.db, faultyTimeout)
				return d, f.reached, err
			},
			Read:    readRows(l.client, l.db),
			Refused: refused,
		}
	})
}
