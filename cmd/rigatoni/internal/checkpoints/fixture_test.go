package checkpoints

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

var quiet = slog.New(slog.DiscardHandler)

// A fixture is a server with a pipeline's stream, and a store.
type fixture struct {
	t      *testing.T
	db     *testserver.Server
	store  state.Store
	server *Server
	mover  *Mover
	key    Key
}

const keyName = "shop"

func newFixture(t *testing.T, db *testserver.Server) *fixture {
	t.Helper()
	return newFixtureOf(t, db, &changestream.Options{Database: db.DB.Name(), Collections: []string{"orders"}})
}

func newFixtureOf(t *testing.T, db *testserver.Server, watch *changestream.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, db: db, store: memstore.New(), key: Key{Name: keyName, Configured: watch != nil}}
	f.server = connectTo(t, db, watch)
	f.mover = &Mover{Store: f.store, Server: f.server, Log: quiet, Policy: "checkpoint set --test"}
	return f
}

func connectTo(t *testing.T, db *testserver.Server, watch *changestream.Options) *Server {
	t.Helper()
	s, err := Connect(t.Context(), db.URI, watch, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// again asks the server once more: its clock has moved on.
func (f *fixture) again() {
	f.t.Helper()
	f.server = connectTo(f.t, f.db, f.server.watch)
	f.mover.Server = f.server
}

func (f *fixture) insert(coll string, from, to int) {
	f.t.Helper()
	for id := from; id <= to; id++ {
		if _, err := f.db.DB.Collection(coll).InsertOne(f.t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// now is a checkpoint of the stream as it is now.
func (f *fixture) now() state.Checkpoint {
	f.t.Helper()
	st, err := f.server.Stream(f.key, "")
	if err != nil {
		f.t.Fatal(err)
	}
	f.again()
	pos, err := st.At(f.t.Context(), f.server.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return state.Checkpoint{Token: pos.Token, ClusterTime: pos.ClusterTime, Fingerprint: st.Fingerprint}
}

// after returns the checkpoints after each of the next n events after cp.
func (f *fixture) after(cp state.Checkpoint, n int) []state.Checkpoint {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	st, err := f.server.Stream(f.key, cp.Fingerprint)
	if err != nil {
		f.t.Fatal(err)
	}
	fp := cp.Fingerprint
	cp.Fingerprint = ""
	var all []state.Checkpoint
	err = st.read(ctx, rigatoni.Start{Checkpoint: &cp}, func(evs []rigatoni.Event, _ rigatoni.Position) bool {
		for _, ev := range evs {
			pos, err := rigatoni.PositionAfter(ev)
			if err != nil {
				f.t.Fatal(err)
			}
			all = append(all, state.Checkpoint{Token: pos.Token, StartAfter: pos.StartAfter, ClusterTime: pos.ClusterTime, Fingerprint: fp})
		}
		return len(all) < n
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all[:n]
}

func (f *fixture) save(cp state.Checkpoint) {
	f.t.Helper()
	if err := f.store.Save(f.t.Context(), keyName, cp); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) load() state.Checkpoint {
	f.t.Helper()
	cp, err := f.store.Load(f.t.Context(), keyName)
	if err != nil {
		f.t.Fatal(err)
	}
	return cp
}

// set plans and executes.
func (f *fixture) set(to Target) *Change {
	f.t.Helper()
	c, err := f.mover.Set(f.t.Context(), f.key, "set", to)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.mover.Execute(f.t.Context(), c); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// refuses checks that a target is refused and that nothing was changed.
func (f *fixture) refuses(to Target, want error) error {
	f.t.Helper()
	before, errBefore := f.store.Load(f.t.Context(), keyName)
	c, err := f.mover.Set(f.t.Context(), f.key, "set", to)
	if err == nil {
		err = f.mover.Execute(f.t.Context(), c)
	}
	if !errors.Is(err, want) {
		f.t.Errorf("%v, want %v", err, want)
	}
	if after, errAfter := f.store.Load(f.t.Context(), keyName); !after.Equal(before) || (errAfter == nil) != (errBefore == nil) {
		f.t.Errorf("the checkpoint was changed: %+v, %v", after, errAfter)
	}
	return err
}

// damage makes the file of the only key unreadable.
func damage(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, keyName+".*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(text, []byte(`"`), []byte("#")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
