package changestream

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// While a stream is open the server's data is discarded, and another deployment
// begins at its address (restored from somewhere, or set up again). It takes a
// high-water mark of the old one for a position before its first event, and would
// give all its events as if they came next. Whether the driver opens the cursor
// again by itself or we do, nothing of that is delivered.
func TestAnotherDeploymentInTheMiddle(t *testing.T) {
	for who, timeout := range map[string]time.Duration{
		"the driver reopens": 30 * time.Second,
		"we reopen":          50 * time.Millisecond,
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
				t.Parallel()
				client := w.Connect(t, options.Client().SetServerSelectionTimeout(timeout))
				src := w.with(t, client.Database(w.DB.Name())).source(Options{Collections: []string{"c"}, MaxAwait: 50 * time.Millisecond})
				st := w.open(src, "", rigatoni.Start{})
				w.insert("c", 1)
				wantNames(t, st.collect(1), inserted("c", 1)...)
				event := st.Position()
				w.insert("other", 1)
				st.until("a high-water mark", func([]rigatoni.Event) bool { return st.Position() != event && isHighWaterMark(t, st) })
				before := st.Position()

				w.StartOver(t)
				w.with(t, w.Connect(t).Database(w.DB.Name())).insert("c", 2) // by a client that knows nothing of the old one
				events, err := st.fail()
				if !errors.Is(err, rigatoni.ErrChangedStream) {
					t.Errorf("%v, want %v", err, rigatoni.ErrChangedStream)
				}
				if len(events) > 0 || st.Position() != before {
					t.Errorf("the stream was resumed: %v, from %v to %v", names(events), before, st.Position())
				}
			})
		})
	}
}

func isHighWaterMark(t *testing.T, st *watcher) bool {
	t.Helper()
	d, err := st.Position().Token.Decode()
	if err != nil {
		t.Fatal(err)
	}
	return d.HighWaterMark
}
