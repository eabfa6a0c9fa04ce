package changestream

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func keysOf(t *testing.T, raw bson.Raw) (keys []string) {
	t.Helper()
	elements, err := raw.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		keys = append(keys, e.Key())
	}
	return keys
}

// fill makes an update whose event has n bytes three times: before, after and in the
// description of the update.
func (w *fixture) fill(id, n int, with string) {
	w.t.Helper()
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: strings.Repeat(with, n)}}}}
	if _, err := w.DB.Collection("c").UpdateByID(w.t.Context(), int32(id), set); err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) fillInTransaction(id int, values ...string) {
	w.t.Helper()
	session, err := w.Client.StartSession()
	if err != nil {
		w.t.Fatal(err)
	}
	defer session.EndSession(w.t.Context())
	_, err = session.WithTransaction(w.t.Context(), func(ctx context.Context) (any, error) {
		for _, v := range values {
			if _, err := w.DB.Collection("c").UpdateByID(ctx, int32(id), bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: v}}}}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// An event over 16 MB comes whole: with the token and the order of fields that a
// server that could send it would give it, and the values of the document. It is
// resumed from like any other, also by a stream without the stage.
func TestLargeEvents(t *testing.T) {
	t.Run("mongod", func(t *testing.T) { // mongotest can't be asked for the shape of an event
		w := ownMongod(t, mongod.Options{})
		w.insert("c", 1)
		w.enableImages("c")
		o := Options{Collections: []string{"c"}, FullDocument: "required", FullDocumentBeforeChange: "required"}
		src := w.source(o)
		st := w.open(src, "", rigatoni.Start{})
		plain := w.open(w.source(Options{Collections: []string{"c"}}), "", rigatoni.Start{}) // fits without images
		w.update("c", 1, 0)
		w.fill(1, 5<<20, "a") // fits
		w.fill(1, 8<<20, "b") // 5 + 8 + 8
		w.fill(1, 10<<20, "c")
		w.insert("c", 2)
		w.fillInTransaction(1, "x")
		w.fillInTransaction(1, "y", strings.Repeat("d", 9<<20)) // one document, at one time
		w.insert("c", 3)
		events := st.collect(9)
		without := plain.collect(9)
		for i, ev := range events {
			if err := ev.Raw.Validate(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ev.Raw.Lookup("_id").Value, without[i].Raw.Lookup("_id").Value) {
				t.Errorf("event %d has the token %v, want %v", i, ev.Raw.Lookup("_id"), without[i].Raw.Lookup("_id"))
			}
			for _, field := range keysOf(t, without[i].Raw) {
				if field != "wallTime" && !ev.Raw.Lookup(field).Equal(without[i].Raw.Lookup(field)) && field != "updateDescription" {
					t.Errorf("event %d: %s differs", i, field)
				}
			}
		}
		for i, c := range map[int]struct {
			letter string
			size   int
			like   int // an event that fits
		}{2: {"b", 8 << 20, 1}, 3: {"c", 10 << 20, 1}, 7: {"d", 9 << 20, 5}} {
			ev, want := events[i], keysOf(t, events[c.like].Raw)
			if len(ev.Raw) < 16<<20 {
				t.Fatalf("event %d has only %d bytes", i, len(ev.Raw))
			}
			if got := keysOf(t, ev.Raw); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("the fields are\n%v, want\n%v", got, want)
			}
			value := strings.Repeat(c.letter, c.size)
			if ev.FullDocument().Lookup("v").StringValue() != value || ev.Raw.Lookup("updateDescription", "updatedFields", "v").StringValue() != value {
				t.Errorf("event %d has other values", i)
			}
			before := events[i-1].FullDocument().Lookup("v")
			if !before.Equal(ev.Raw.Lookup("fullDocumentBeforeChange", "v")) {
				t.Errorf("event %d has another document as it was before", i)
			}
			pos, err := rigatoni.PositionAfter(ev)
			if err != nil {
				t.Fatal(err)
			}
			rest := w.open(src, "", at(checkpointOf(pos, st.Fingerprint()))).collect(8 - i)
			if len(rest) == 0 || !bytes.Equal(rest[0].Raw, events[i+1].Raw) {
				t.Errorf("after event %d another one comes", i)
			}
		}
		if w.log.count("level=WARN") > 0 {
			t.Errorf("the log:\n%s", w.log)
		}
	})
}

// No checkpoint is possible between the parts of an event: interrupted there, it comes
// whole, once.
func TestLargeEventIsInterrupted(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	w.insert("c", 1)
	w.enableImages("c")
	w.fill(1, 9<<20, "a")
	st := w.open(w.source(Options{Collections: []string{"c"}, FullDocument: "required", FullDocumentBeforeChange: "required"}), "", rigatoni.Start{})
	id := 10
	for i := range 4 {
		for _, command := range []string{"getMore", "aggregate"} {
			letter := string(rune('a' + id - 9)) // each is a change
			w.failPoint("failCommand", times(1+i), failCommand(command, 43))
			w.fill(1, 9<<20, letter)
			id++
			w.insert("c", id)
			events := st.collect(2)
			if got := events[0].FullDocument().Lookup("v").StringValue(); len(got) != 9<<20 || got[:1] != letter {
				t.Errorf("%d bytes of %q", len(got), got[:1])
			}
			w.Server.FailPointOff(t, "failCommand")
		}
	}
}

// What can't be split, since a field is too large or the server doesn't know how, is
// named, and can be skipped.
func TestUnreadableIsSkipped(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		w.insert("c", 1, 2)
		src := w.source(Options{Collections: []string{"c"}, FullDocument: "updateLookup"})
		src.noSplit.Store(true) // as an older server, see TestWhatCantBeSplit
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 3)
		w.fill(1, 10<<20, "z")
		w.insert("c", 4)
		w.fill(2, 10<<20, "z")
		for _, want := range []string{"insert 3", "update 1", "insert 4", "update 2"} {
			id := want[len(want)-1]
			if strings.HasPrefix(want, "insert") {
				wantNames(t, st.collect(1), inserted("c", int(id-'0'))...)
				continue
			}
			_, err := st.fail()
			var u *rigatoni.UnreadableError
			if !errors.As(err, &u) || !errors.Is(err, ErrUnreadable) {
				t.Fatalf("%v", err)
			}
			if got := names([]rigatoni.Event{u.Event})[0]; got != `update c {"$numberInt":"`+string(id)+`"}` || u.Event.ClusterTime().IsZero() {
				t.Errorf("skips %s, %v", got, u.Event.Raw)
			}
			if err := st.Stream.(rigatoni.Skipper).Skip(u); err != nil {
				t.Fatal(err)
			}
			if pos, _ := rigatoni.PositionAfter(u.Event); st.Position() != pos {
				t.Error("the position is not after the event")
			}
		}
	})
}

// A server that doesn't know the stage is asked once, and an event with a field that is
// too large for a part is named.
func TestWhatCantBeSplit(t *testing.T) {
	known := splitStage
	t.Cleanup(func() { splitStage = known })
	w := ownMongod(t, mongod.Options{})
	w.insert("c", 1)
	w.enableImages("c")
	w.fill(1, 9<<20, "y")
	both := Pipeline{{{Key: "$addFields", Value: bson.D{{Key: "both", Value: bson.D{{Key: "a", Value: "$fullDocument"}, {Key: "b", Value: "$fullDocumentBeforeChange"}}}}}}}
	for _, c := range []struct {
		stage, want string
		pipeline    Pipeline
	}{
		{"$noSuchStage", "of version 6.0.9, 7.0 or later would send it in parts", nil},
		{known, "has a field that is larger than the 16 MB", both},
	} {
		splitStage = c.stage
		src := w.source(Options{Collections: []string{"c"}, FullDocument: "required", FullDocumentBeforeChange: "required", Pipeline: c.pipeline})
		st := w.open(src, "", rigatoni.Start{})
		w.update("c", 1, 1)
		w.fill(1, 9<<20, "y")
		w.fill(1, 9<<20, "z")
		events, err := st.fail()
		if !errors.Is(err, ErrUnreadable) || !errors.As(err, new(*rigatoni.UnreadableError)) || !strings.Contains(err.Error(), c.want) || len(events) != 1 && len(events) != 2 {
			t.Errorf("%v, %v", names(events), err)
		}
		if src.noSplit.Load() != (c.stage != known) {
			t.Errorf("%s: noSplit %v", c.stage, src.noSplit.Load())
		}
	}
}
