package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The position stays, the state of the copy is added, and all else beside the token is
// kept. The next start begins with the copy.
func TestSetSnapshot(t *testing.T) {
	testserver.Both(t, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		f.insert("orders", 1, 30)
		old := f.now()
		old.Extra = map[string]json.RawMessage{destinationDoc: json.RawMessage(`{"file":"x"}`)}
		old, err := rigatoni.WithGap(old, rigatoni.Gap{To: old.ClusterTime, Reason: "test", Policy: "now"})
		if err != nil {
			t.Fatal(err)
		}
		f.save(old)
		c, err := f.mover.Snapshot(t.Context(), f.key, []string{"orders", "orders"})
		if err != nil {
			t.Fatal(err)
		}
		if c.Effect != effectCopies || c.Gap != nil || c.Snapshot == nil || c.Snapshot.CollectionsTotal != 1 || c.Snapshot.DocumentsEstimated == nil || *c.Snapshot.DocumentsEstimated != 30 {
			t.Errorf("the plan is %+v", c)
		}
		var text bytes.Buffer
		c.Text(&text)
		if !strings.Contains(text.String(), "dry run") || !strings.Contains(text.String(), "the next start copies 1 collection, about 30 documents") || !strings.Contains(text.String(), "the position stays") {
			t.Errorf("it says\n%s", &text)
		}
		if now := f.load(); now.Extra[rigatoni.ExtraSnapshot] != nil {
			t.Error("the dry run has changed the checkpoint")
		}
		if err := f.mover.Execute(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		now := f.load()
		gaps, err := rigatoni.Gaps(now)
		if now.Token != old.Token || string(now.Extra[destinationDoc]) != `{"file":"x"}` || len(gaps) != 1 || err != nil {
			t.Errorf("the checkpoint is now %+v, %v", now, err)
		}
		if s, copying, err := changestream.SnapshotProgress(now); !copying || err != nil || s.CollectionsTotal != 1 || s.Collections[0].Namespace.Coll != "orders" {
			t.Errorf("its copy is %+v, %v, %v", s, copying, err)
		}
		f.showsTheCopy(now)
		f.opensWithTheCopy(now)
	})
}

// showsTheCopy checks list and show, which copy nothing although they open the stream.
func (f *fixture) showsTheCopy(cp state.Checkpoint) {
	f.t.Helper()
	r, err := Show(f.t.Context(), f.store, f.server, []Key{f.key})
	if err != nil {
		f.t.Fatal(err)
	}
	v := r.Checkpoints[0]
	if v.Snapshot == nil || v.Snapshot.Documents != 0 || v.Extra[rigatoni.ExtraSnapshot] != nil || v.Verdict == nil || !v.Verdict.Opens {
		f.t.Errorf("the view is %+v", v)
	}
	var sheet, table bytes.Buffer
	r.Sheets(&sheet)
	r.Table(&table)
	if !strings.Contains(sheet.String(), "snapshot    0 of 1 collection done") || !strings.Contains(sheet.String(), ".orders: waits") || !strings.Contains(table.String(), "SNAPSHOT") {
		f.t.Errorf("they show\n%s%s", &sheet, &table)
	}
	if now := f.load(); !bytes.Equal(now.Extra[rigatoni.ExtraSnapshot], cp.Extra[rigatoni.ExtraSnapshot]) {
		f.t.Error("to look has changed the state")
	}
}

// opensWithTheCopy reads the stream from the checkpoint until the copy has ended.
func (f *fixture) opensWithTheCopy(cp state.Checkpoint) {
	f.t.Helper()
	st, err := f.server.Stream(f.key, cp.Fingerprint)
	if err != nil {
		f.t.Fatal(err)
	}
	reads := 0
	if err := st.read(f.t.Context(), rigatoni.Start{Checkpoint: &cp}, func(evs []rigatoni.Event, at rigatoni.Position) bool {
		for _, ev := range evs {
			if ev.IsSnapshot() {
				reads++
			}
		}
		return at.Snapshot != ""
	}); err != nil || reads != 30 {
		f.t.Errorf("%d documents were copied, %v", reads, err)
	}
}

func TestSetSnapshotRefuses(t *testing.T) {
	testserver.Both(t, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		refused := func(want string, names ...string) {
			t.Helper()
			_, err := f.mover.Snapshot(t.Context(), f.key, names)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %s", names, err, want)
			}
		}
		refused("there is no checkpoint for the copy to begin at", "orders")
		f.insert("orders", 1, 1)
		if err := db.DB.CreateView(t.Context(), "view", "orders", mongo.Pipeline{}); err != nil {
			t.Fatal(err)
		}
		f.save(f.now())
		refused("users does not belong to", "users")
		refused(`--snapshot is ""; it must be the name of a collection`, "")
		if err := db.DB.Collection("orders").Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused("orders does not exist", "orders")
		whole := newFixtureOf(t, db, &changestream.Options{Database: db.DB.Name()})
		whole.save(whole.now())
		f = whole
		refused("view is a view", "view")
		refused("system.views does not belong to", "system.views")
		all := newFixtureOf(t, db, &changestream.Options{})
		all.save(all.now())
		f = all
		refused("it must be DATABASE.COLLECTION", "orders")
	})
}

// A change that moves the stream says that a copy goes on, and keeps it.
func TestSetKeepsTheSnapshot(t *testing.T) {
	db := testserver.Mongotest(t)
	f := newFixture(t, db)
	f.insert("orders", 1, 1)
	cp, err := changestream.RequestSnapshot(f.now(), rigatoni.Namespace{DB: db.DB.Name(), Coll: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	f.save(cp)
	if _, err := db.DB.Collection("orders").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	f.again()
	c := f.set(Target{Now: true})
	if notes := strings.Join(c.Notes, "\n"); !strings.Contains(notes, "a snapshot is under way (0 of 1 collection done") || c.Events == nil || *c.Events < 1 {
		t.Errorf("it says %q, and counts %v", notes, c.Events)
	}
	if _, copying, err := changestream.SnapshotProgress(f.load()); !copying || err != nil {
		t.Errorf("the copy is gone: %v", err)
	}
}

// A state that can't be read is said, and doesn't hide the rest.
func TestShowAStateThatCantBeRead(t *testing.T) {
	db := testserver.Mongotest(t)
	f := newFixture(t, db)
	cp := f.now()
	cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(`{"version":99}`)}
	f.save(cp)
	r, err := Show(t.Context(), f.store, f.server, []Key{f.key})
	if err != nil {
		t.Fatal(err)
	}
	var sheet bytes.Buffer
	r.Sheets(&sheet)
	if v := r.Checkpoints[0]; v.SnapshotError == "" || !strings.Contains(sheet.String(), "snapshot    unknown: ") || !strings.Contains(sheet.String(), "version 99") || v.Position == nil {
		t.Errorf("it shows\n%s", &sheet)
	}
}
