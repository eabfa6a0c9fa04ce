package mongotest

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// BenchmarkCatchUp reads 100,000 existing events through the driver, from both
// servers.
func BenchmarkCatchUp(b *testing.B) {
	const events = 100_000
	for name, start := range map[string]func(b *testing.B) (uri, db string){
		"mongotest": func(b *testing.B) (string, string) { return Start(b).URI(), "shop" },
		"mongod": func(b *testing.B) (string, string) {
			db := mongod.ForTest(b)
			return db.URI, db.Name
		},
	} {
		b.Run(name, func(b *testing.B) {
			uri, db := start(b)
			c := connect(b, uri).Database(db).Collection("c")
			if err := c.Database().CreateCollection(b.Context(), "c"); err != nil {
				b.Fatal(err)
			}
			opened := must[*mongo.ChangeStream](b)(c.Watch(b.Context(), mongo.Pipeline{}))
			token := opened.ResumeToken()
			if err := opened.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			for first := 0; first < events; first += 1000 {
				docs := make([]any, 1000)
				for i := range docs {
					docs[i] = bson.D{{Key: "_id", Value: int32(first + i)}, {Key: "name", Value: fmt.Sprint("order ", i)}, {Key: "total", Value: 12.5}}
				}
				if _, err := c.InsertMany(b.Context(), docs); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for b.Loop() {
				cs := must[*mongo.ChangeStream](b)(c.Watch(b.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token)))
				for range events {
					if !cs.Next(b.Context()) {
						b.Fatal(cs.Err())
					}
				}
				if err := cs.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
