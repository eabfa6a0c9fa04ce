package redisstore_test

import (
	"errors"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// Redis is flushed under a running pipeline: it stops, and the next start, a
// supervisor's, is refused with the time that was known, and accepted once.
func TestFlushedUnderAPipeline(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL(), redisstore.Options{})
	src := rigatonitest.NewSource()
	dest := &rigatonitest.Destination{}
	end := run(t, src, dest, s, rigatoni.Config{})
	src.Append(rigatonitest.Insert("shop.orders", map[string]int{"_id": 1}))
	eventually(t, "the delivery", func() bool { return len(dest.Events()) == 1 })
	if err := client(t, server).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	src.Append(rigatonitest.Insert("shop.orders", map[string]int{"_id": 2}))
	eventually(t, "the end", func() bool { return len(dest.Events()) == 2 })
	want(t, end(), rigatoni.ErrCheckpointLost, "Run")

	var refused *rigatoni.FirstStartError
	if err := run(t, src, dest, s, rigatoni.Config{})(); !errors.As(err, &refused) || !errors.Is(err, rigatoni.ErrCheckpointLost) || refused.Since().IsZero() {
		t.Fatalf("the next start: %v", err)
	}
	accepted := rigatoni.FirstStart{Time: refused.Since(), Accept: refused.Accept}
	again := &rigatonitest.Destination{}
	end = run(t, src, again, s, rigatoni.Config{FirstStart: accepted})
	eventually(t, "what was not covered", func() bool {
		events := again.Events()
		return len(events) > 0 && events[len(events)-1].DocumentKey().Lookup("_id").AsInt64() == 2
	})
	want(t, end(), nil, "the accepted start")
}
