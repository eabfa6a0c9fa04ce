package changestream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

func TestOneCollection(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"orders"}}), "", rigatoni.Start{})
		w.insert("users", 1)
		w.insert("orders", 2)
		wantNames(t, st.collect(1), inserted("orders", 2)...)
	})
}

func TestSeveralCollectionsInOneStream(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"users", "orders"}})
		if got := src.Streams(); len(got) != 1 || got[0] != "" {
			t.Fatalf("streams %q", got)
		}
		st := w.open(src, "", rigatoni.Start{})
		w.insert("orders", 1)
		w.insert("other", 2)
		w.insert("users", 3)
		w.insert("system_like", 4)
		w.rename("orders", "archive")
		w.rename("other", "users2")
		w.rename("users2", "orders")
		w.insert("orders", 5)
		want := slices.Concat(inserted("orders", 1), inserted("users", 3), []string{"rename orders", "rename users2"}, inserted("orders", 5))
		wantNames(t, st.collect(len(want)), want...)
	})
}

func (w *fixture) rename(from, to string) {
	w.t.Helper()
	db := w.DB.Name() + "."
	w.admin(bson.D{{Key: "renameCollection", Value: db + from}, {Key: "to", Value: db + to}})
}

func TestOneStreamForEachCollection(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"users", "orders"}, OneEach: true})
		if got := fmt.Sprint(src.Streams()); got != "[users orders]" {
			t.Fatalf("streams %s", got)
		}
		users, orders := w.open(src, "users", rigatoni.Start{}), w.open(src, "orders", rigatoni.Start{})
		w.insert("orders", 1)
		w.insert("users", 2)
		wantNames(t, users.collect(1), inserted("users", 2)...)
		wantNames(t, orders.collect(1), inserted("orders", 1)...)
		if _, err := src.Open(t.Context(), "nosuch", rigatoni.Start{}); err == nil {
			t.Error("a stream that the source doesn't have was opened")
		}
	})
}

func TestWholeDatabase(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{}), "", rigatoni.Start{})
		other := w.Client.Database(w.DB.Name() + "_other")
		if _, err := other.Collection("c").InsertOne(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		w.insert("a", 1)
		w.insert("b", 2)
		wantNames(t, st.collect(2), append(inserted("a", 1), inserted("b", 2)...)...)
	})
}

func TestDeployment(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.anySource(Options{}), "", rigatoni.Start{})
		w.insert("a", 1)
		other := w.Client.Database(w.DB.Name() + "_other")
		if _, err := other.Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int32(2)}}); err != nil {
			t.Fatal(err)
		}
		var mine []rigatoni.Event
		st.until("events of both databases", func(events []rigatoni.Event) bool {
			for _, ev := range events {
				if ev.Namespace().DB == w.DB.Name() || ev.Namespace().DB == other.Name() {
					mine = append(mine, ev)
				}
			}
			return len(mine) == 2
		})
		wantNames(t, mine, append(inserted("a", 1), inserted("c", 2)...)...)
	})
}

func TestImagesAndExpandedEvents(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		create := bson.D{{Key: "create", Value: "c"}, {Key: "changeStreamPreAndPostImages", Value: bson.D{{Key: "enabled", Value: true}}}}
		st := w.open(w.source(Options{
			Collections: []string{"c", "d"}, FullDocument: "required", FullDocumentBeforeChange: "whenAvailable", ExpandedEvents: true,
		}), "", rigatoni.Start{})
		if err := w.DB.RunCommand(t.Context(), create).Err(); err != nil {
			t.Fatal(err)
		}
		w.insert("c", 1)
		if _, err := w.DB.Collection("c").UpdateByID(t.Context(), int32(1), bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: 1}}}}); err != nil {
			t.Fatal(err)
		}
		events := st.collect(3)
		if events[0].OperationType() != "create" {
			t.Errorf("no create event: %v", names(events))
		}
		if events[2].FullDocument() == nil || events[2].FullDocumentBeforeChange() == nil {
			t.Errorf("the update has no images: %v", events[2].Raw)
		}
	})
}

// Keeping an event is allowed: its memory must not be used for another.
func TestEventsKeepTheirMemory(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, BatchSize: 7}), "", rigatoni.Start{})
		const n = 500
		docs := make([]any, n)
		for i := range docs {
			docs[i] = bson.D{{Key: "_id", Value: i}}
		}
		if _, err := w.DB.Collection("c").InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
		var kept []rigatoni.Event
		var copies []string
		st.until("all events", func(events []rigatoni.Event) bool {
			for _, ev := range events {
				kept, copies = append(kept, ev), append(copies, string(ev.Raw))
			}
			if len(events) > 7 {
				t.Fatalf("%d events in a batch of at most 7", len(events))
			}
			return len(kept) == n
		})
		for i, ev := range kept {
			if string(ev.Raw) != copies[i] {
				t.Fatalf("event %d is another one by now", i)
			}
		}
	})
}

func TestOpenOfAView(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		if err := w.DB.CreateView(t.Context(), "v", "c", bson.A{}); err != nil {
			t.Fatal(err)
		}
		_, err := w.source(Options{Collections: []string{"v"}}).Open(context.Background(), "", rigatoni.Start{})
		if err == nil || !strings.Contains(err.Error(), ".v is a view, not a collection") {
			t.Fatalf("opening a view: %v", err)
		}
	})
}
