package changestream

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

func TestXBench(t *testing.T) {
	if os.Getenv("XBENCH") == "" {
		t.Skip()
	}
	w := newFixture(t, testserver.Mongod(t))
	n := 300_000
	for i := 0; i < n; i += 10000 {
		var docs []any
		for j := i; j < i+10000; j++ {
			docs = append(docs, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "n", Value: int32(j)}, {Key: "pad", Value: strings.Repeat("x", 290)}})
		}
		if _, err := w.DB.Collection("a").InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	bare := func() {
		b := time.Now()
		c, err := w.DB.Collection("a").Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		k := 0
		for c.Next(t.Context()) {
			k++
		}
		c.Close(context.Background())
		fmt.Println("bare", k, float64(k)/time.Since(b).Seconds())
	}
	copyIt := func(p int) {
		s := w.source(Options{SnapshotParallelism: p})
		st := w.open(s, "", rigatoni.Start{Snapshot: true})
		b := time.Now()
		k := 0
		var most uint64
		var ms runtime.MemStats
		st.copyAll(func(ev rigatoni.Event) {
			k++
			if k%10000 == 0 {
				runtime.ReadMemStats(&ms)
				most = max(most, ms.HeapSys)
			}
		})
		fmt.Println("copy", p, k, float64(k)/time.Since(b).Seconds(), "heap MiB", most>>20)
		st.Close(context.Background())
	}
	for range 3 {
		bare()
		copyIt(1)
		copyIt(4)
	}
}
