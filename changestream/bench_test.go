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
)

const benchEvents = 200_000

// BenchmarkRead compares the source with its floor, the bare driver loop, on the
// same events; both as often as b.N says. The server is the limit, so look at
// cpu-µs/event of this process too.
func BenchmarkRead(b *testing.B) {
	s := mongod.OwnForTest(b, mongod.Options{OplogMB: 1000})
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	coll := client.Database("shop").Collection("c")
	src, err := New(client, Options{Database: "shop", Collections: []string{"c"}})
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
	b.Run("driver", func(b *testing.B) {
		measure(b, func() {
			cs, err := coll.Watch(b.Context(), []bson.D{}, options.ChangeStream().SetBatchSize(1000).SetStartAfter(begin.Token.Raw()))
			if err != nil {
				b.Fatal(err)
			}
			defer cs.Close(b.Context())
			for n := 0; n < benchEvents && cs.Next(b.Context()); n++ {
			}
		})
	})
	b.Run("source", func(b *testing.B) {
		measure(b, func() {
			st, err := src.Open(b.Context(), "", at(begin))
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
		})
	})
}

func measure(b *testing.B, read func()) {
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		read()
	}
	n := float64(b.N) * benchEvents
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/n, "cpu-µs/event")
	b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
