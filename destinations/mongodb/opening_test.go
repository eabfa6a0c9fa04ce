package mongodb_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// opening is what a pipeline passes to Open for a source.
func opening(t *testing.T, uri string, o changestream.Options) rigatoni.Opening {
	o.Logger = slog.New(slog.DiscardHandler)
	s, err := changestream.New(connect(t, uri, nil), &o)
	must(t, err)
	stream := s.Streams()[0]
	scope := s.Scope(stream)
	return rigatoni.Opening{Key: "k", Stream: stream, Scope: &scope, Overlaps: func(ctx context.Context, fingerprint string) (rigatoni.Overlap, error) {
		compare, err := s.Overlaps(ctx, stream)
		if err != nil {
			return rigatoni.NoOverlap, err
		}
		return compare(fingerprint), nil
	}}
}

// A stream is refused at opening if it reads what is written because of it, also under another
// address of the same deployment; if two of its collections would become one; and if its updates
// have no documents.
func TestOpeningRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sameByIP := strings.Replace(l.uri, "localhost", "127.0.0.1", 1)
	lookup := "updateLookup"
	for name, c := range map[string]struct {
		source changestream.Options
		target string
		points string // the checkpoints; by default in another database
		want   string // "" if it opens
	}{
		"another database":           {changestream.Options{Database: l.db, FullDocument: lookup}, "copy_{database}.{collection}", "", ""},
		"onto itself":                {changestream.Options{Database: l.db, FullDocument: lookup}, "{database}.{collection}", "", "the source watches what the mirror writes"},
		"onto itself by another way": {changestream.Options{Database: l.db, FullDocument: lookup}, l.db + ".{collection}", "", "the source watches what the mirror writes"},
		"the whole deployment":       {changestream.Options{FullDocument: lookup}, "copy_{database}.{collection}", "", "each save would be an event"},
		"copies of copies":           {changestream.Options{Database: l.db, FullDocument: lookup}, "{database}.copy_{collection}", "", "the source watches what the mirror writes"},
		"named collections":          {changestream.Options{Database: l.db, Collections: []string{"orders", "users"}, FullDocument: lookup}, "{database}.copy_{collection}", "", ""},
		"a pattern that has its own": {changestream.Options{Database: l.db, Collections: []string{"log_*"}, FullDocument: lookup}, "{database}.{collection}_old", "", "the source watches what the mirror writes"},
		"databases by a pattern":     {changestream.Options{Database: l.db + "*", FullDocument: lookup}, l.db + "_{database}.{collection}", "", "the source watches what the mirror writes"},
		"its checkpoints":            {changestream.Options{Database: l.db, FullDocument: lookup}, "copy.{collection}", l.db + ".checkpoints", "each save would be an event"},
		"its checkpoints, not there": {changestream.Options{Database: l.db, Collections: []string{"orders"}, FullDocument: lookup}, "copy.{collection}", l.db + ".checkpoints", ""},
		"several databases into one": {changestream.Options{Database: l.db + "_x*", FullDocument: lookup}, "copy.{collection}", "", "has no {database}"},
		"several collections to one": {changestream.Options{Database: l.db, FullDocument: lookup}, "copy.all", "", "has no {collection}"},
		"two collections to one":     {changestream.Options{Database: l.db, Collections: []string{"a", "b"}, FullDocument: lookup}, "copy.all", "", "has no {collection}"},
		"one collection to one":      {changestream.Options{Database: l.db, Collections: []string{"a"}, FullDocument: lookup}, "copy.all", "", ""},
		"no updates":                 {changestream.Options{Database: l.db, Operations: []string{"insert", "delete", "drop", "rename"}}, "copy.{collection}", "", ""},
		"no drops":                   {changestream.Options{Database: l.db, Operations: []string{"insert", "rename"}}, "copy.{collection}", "", "the source hides drop"},
		"updates without documents":  {changestream.Options{Database: l.db}, "copy.{collection}", "", "full-document: updateLookup"},
	} {
		o := mongodb.Options{Target: c.target, Checkpoints: "points_of_" + l.db + ".checkpoints"}
		if c.points != "" {
			o.Checkpoints = c.points
		}
		tx, err := mongodb.OpenTx(l.client, nil, &mongodb.TxOptions{Checkpoints: o.Checkpoints})
		must(t, err)
		d, err := mongodb.New(connect(t, sameByIP, nil), &o)
		must(t, err)
		at := opening(t, l.uri, c.source)
		for _, err := range []error{d.CheckOpening(t.Context(), at), openAndClose(t, d, at)} {
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: got %v, want %q", name, err, c.want)
			}
		}
		if err := openAndClose(t, tx, at); (err != nil) != (c.want == "each save would be an event") {
			t.Errorf("%s: Tx: %v", name, err)
		}
	}
	// Another deployment with the same name of its set, and the same names of everything.
	other := mongotest.Start(t)
	d, err := mongodb.New(l.client, &mongodb.Options{Checkpoints: l.db + ".checkpoints"})
	must(t, err)
	must(t, openAndClose(t, d, opening(t, other.URI(), changestream.Options{Database: l.db, FullDocument: lookup})))
}

func openAndClose(t *testing.T, d rigatoni.Destination, at rigatoni.Opening) error {
	sink, err := d.Open(t.Context(), at)
	if err == nil {
		must(t, sink.(interface{ Close() error }).Close())
	}
	return err
}

// A collection belongs to one source and one pipeline; documents that are there already are not
// touched unless they are adopted; and only an ordinary collection can be a mirror.
func TestTargetsAreClaimed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := l.options()
	o.Target = l.db + "_m.{database}{collection}"
	r := newRig(t, l, o)
	ev := func(ns string) rigatoni.Event { return rigatonitest.Insert(ns, bson.D{{Key: "_id", Value: int32(1)}}) }
	wantStop := func(err error, what string) {
		t.Helper()
		if !errors.Is(err, state.ErrInvalid) || errors.As(err, new(*rigatoni.PermanentError)) || err != nil && !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want one that stops the pipeline and says %q", err, what)
		}
	}
	r.deliver(ev("ab.c"))
	wantStop(r.try("", ev("a.bc")), "is the mirror of ab.c")
	db := l.client.Database(l.db + "_m")
	must(t, db.CreateCollection(t.Context(), "acapped", options.CreateCollection().SetCapped(true).SetSizeInBytes(4096)))
	must(t, db.CreateCollection(t.Context(), "acoll", options.CreateCollection().SetCollation(&options.Collation{Locale: "en"})))
	must(t, db.CreateView(t.Context(), "aview", "abc", bson.A{}))
	must(t, db.CreateCollection(t.Context(), "ats", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t"))))
	wantStop(r.try("", ev("a.capped")), "is a capped collection")
	wantStop(r.try("", ev("a.coll")), "has a collation")
	wantStop(r.try("", ev("a.view")), "is a view")
	wantStop(r.try("", ev("a.ts")), "is a timeseries")
	_, err := db.Collection("aold").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int32(7)}})
	must(t, err)
	wantStop(r.try("", ev("a.old")), "existing: adopt")
	wantDocuments(t, db.Collection("aold"), "refused", bson.D{{Key: "_id", Value: int32(7)}})

	adopting := *o
	adopting.Existing = mongodb.Adopt
	r = newRig(t, l, &adopting)
	r.deliver(ev("a.old"))
	wantDocuments(t, db.Collection("aold"), "adopted", bson.D{{Key: "_id", Value: int32(7)}}, bson.D{{Key: "_id", Value: int32(1)}})

	// Another target for the same source, and a first start beside output.
	moved := *o
	moved.Target = l.db + "_n.{database}{collection}"
	d, err := mongodb.New(l.client, &moved)
	must(t, err)
	_, err = d.Open(t.Context(), rigatoni.Opening{Key: rigKey})
	wantStop(err, "set target back")
	var output *rigatoni.OutputError
	if err := r.open(rigatoni.Opening{FirstStart: true}); !errors.As(err, &output) || !errors.Is(err, rigatoni.ErrOutputExists) || !strings.Contains(output.Facts, "ab.c") {
		t.Errorf("a first start beside output: %v", err)
	}
	must(t, r.open(rigatoni.Opening{FirstStart: true, AcceptAnyOutput: true}))
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"mongodb://h/": "",
		"mongodb://h":  "",
		"mongodb+srv://u:hunter2@nowhere.invalid/copy":        "can't be looked up",
		"mongodb://u:hunter2@h/copy?authSource=x":             "",
		"mongodb://u:hunter2@h/copy?target=a.b":               "target is set",
		"mongodb://u:hunter2@h/a.b":                           "set target",
		"mongodb://u:hunter2@h/local":                         "set target",
		"mongodb://u:hunt@er2@h/":                             "percent-encoded",
		"mongodb://u:hunt/er2@h/":                             "percent-encoded",
		"mongodb://u:hunter2@h/?target=a":                     "is not DATABASE.COLLECTION",
		"mongodb://u:hunter2@h/?target=a.{x}":                 "has {x}",
		"mongodb://u:hunter2@h/?target=a.{collection":         "brace",
		"mongodb://u:hunter2@h/?target=admin.{collection}":    "are the server's",
		"mongodb://u:hunter2@h/?target=a$b.{collection}":      "for a database",
		"mongodb://u:hunter2@h/?target=a.system.{collection}": "for a collection",
		"mongodb://u:hunter2@h/?target=a.b%":                  "begins no escape",
		"mongodb://u:hunter2@h/?checkpoints=a":                "DATABASE.COLLECTION",
		"mongodb://u:hunter2@h/?on-drop=truncate":             "stop, ignore or apply",
		"mongodb://u:hunter2@h/?existing=maybe":               "refuse or adopt",
		"mongodb://u:hunter2@h/?transaction-timeout=2m":       "1m",
		"mongodb://u:hunter2@h/?retryWrites=false":            "retryWrites=false",
		"mongodb://u:hunter2@h/?replicaSet=rs0&w=1":           "",
		"postgres://u:hunter2@h/":                             "must begin with mongodb://",
	} {
		err := mongodb.CheckURL(url, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, state.ErrInvalid) && !errors.Is(err, state.ErrUnavailable)) {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "er2") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
	if _, err := mongodb.New(nil, nil); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("without a client: %v", err)
	}
}
