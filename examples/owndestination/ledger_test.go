package main

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

// TestLedger loses the answer of every third commit: each event has one row all
// the same, and the rows are in order.
func TestLedger(t *testing.T) {
	source := rigatonitest.NewSource()
	const events = 100
	for i := range events {
		source.Append(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: int32(i)}}))
	}
	source.End()
	commits := 0
	db := &Memory{after: func() error {
		if commits++; commits%3 == 0 {
			return errors.New("the connection was lost before the answer came")
		}
		return nil
	}}
	err := rigatoni.Run(t.Context(), rigatoni.Config{
		Name: "test", Source: source, Destination: Ledger{db}, MaxBatchEvents: 4,
		RetryMin: time.Millisecond, RetryMax: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		t.Fatal(err)
	}
	rows := db.Rows()
	if len(rows) != events {
		t.Fatalf("%d rows for %d events", len(rows), events)
	}
	for i, row := range rows {
		if want := fmt.Sprintf(`insert {"_id": {"$numberInt":"%d"}}`, i); row != want {
			t.Errorf("row %d is %s, want %s", i, row, want)
		}
	}
}
