//go:build unix

package changestream

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

const benchEvents = 200_000

// BenchmarkRead compares the source with its baseline, the bare driver loop, on the
// same events in the same run. The server is the limit, so look at the CPU time
// of this process too.
func BenchmarkRead(b *testing.B) {
	s := mongod.OwnForTest(b, mongod.Options{OplogMB: 1000})
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	coll := client.Database("shop").Collection("c")
	src, err := New(client, &Options{Database: "shop", Collections: []string{"c"}})
	if err != nil {
		b.Fatal(err)
	}
	st, err := src.Open(b.Context(), "", rigatoni.Start{})
	if err != nil {
		b.Fatal(err)
	}
	begin := checkpointOf(st.Position(), "")
	st.Close(b.Context())
	fill := strings.Repeat("x", 400)
	for i := 0; i < benchEvents; i += 1000 {
		docs := make([]any, 1000)
		for j := range docs {
			docs[j] = bson.D{{Key: "_id", Value: i + j}, {Key: "fill", Value: fill}}
		}
		if _, err := coll.InsertMany(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
	// In turns, so that what else the machine does hits both.
	var driverTime, sourceTime, driverCPU, sourceCPU time.Duration
	for b.Loop() {
		t, c := time.Now(), cpu()
		readWithDriver(b, coll, begin)
		driverTime, driverCPU = driverTime+time.Since(t), driverCPU+cpu()-c
		t, c = time.Now(), cpu()
		readWithSource(b, src, begin)
		sourceTime, sourceCPU = sourceTime+time.Since(t), sourceCPU+cpu()-c
	}
	n := float64(b.N) * benchEvents
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/driverTime.Seconds(), "driver-events/s")
	b.ReportMetric(n/sourceTime.Seconds(), "source-events/s")
	b.ReportMetric(driverCPU.Seconds()*1e6/n, "driver-cpu-µs/event")
	b.ReportMetric(sourceCPU.Seconds()*1e6/n, "source-cpu-µs/event")
	b.ReportMetric(driverTime.Seconds()/sourceTime.Seconds(), "of-the-floor")
}

func readWithDriver(b *testing.B, coll *mongo.Collection, from *state.Checkpoint) {
	cs, err := coll.Watch(b.Context(), []bson.D{}, options.ChangeStream().SetBatchSize(4000).SetStartAfter(from.Token.Raw()))
	if err != nil {
		b.Fatal(err)
	}
	defer cs.Close(b.Context())
	for n := 0; n < benchEvents; n++ {
		if !cs.Next(b.Context()) {
			b.Fatal(cs.Err())
		}
	}
}

func readWithSource(b *testing.B, src *Source, from *state.Checkpoint) {
	st, err := src.Open(b.Context(), "", at(from))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close(b.Context())
	for n := 0; n < benchEvents; {
		events, _, err := st.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		n += len(events)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
