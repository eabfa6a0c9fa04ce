package changestream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// What has no change streams is refused by name, also in a list of several, where the
// server would not say so.
func TestViewsAreRefused(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t)) // mongotest has no views
	w.insert("orders", 1)
	for _, cmd := range []bson.D{
		{{Key: "create", Value: "v"}, {Key: "viewOn", Value: "orders"}},
		{{Key: "create", Value: "ts"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}}}},
	} {
		if err := w.DB.RunCommand(t.Context(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		collections []string
		oneEach     bool
		stream      string
		want        string
	}{
		{[]string{"orders", "v"}, false, "", ".v is a view"},
		{[]string{"ts", "orders"}, false, "", ".ts is a time-series collection"},
		{[]string{"v"}, false, "", ".v is a view, not a collection"}, // the server's words
		{[]string{"v", "log_*"}, false, "", ".v is a view"},
		{[]string{"orders", "v"}, true, "v", ".v is a view, not a collection"},
		{[]string{"orders", "v*"}, false, "", ""},
		{[]string{"orders", "later"}, false, "", ""},
	} {
		st, err := w.source(Options{Collections: c.collections, OneEach: c.oneEach}).Open(t.Context(), c.stream, rigatoni.Start{})
		if err == nil {
			st.Close(t.Context())
		}
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrRefused)) {
			t.Errorf("%v: %v", c.collections, err)
		}
	}
	if w.log.count("similar") > 0 {
		t.Errorf("hints without a reason:\n%s", w.log)
	}
}

// Names that nothing has, and a name nearly like them.
func TestSimilarNames(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		w.insert("orders", 1)
		db := w.DB.Name()
		for _, c := range []struct {
			o    Options
			want string
		}{
			{Options{Collections: []string{"Orders"}}, "similar=orders"},
			{Options{Collections: []string{"users", "ORDERS"}}, "similar=orders"},
			{Options{Collections: []string{db + ".orders"}}, "similar=orders"},
			{Options{Database: strings.ToUpper(db), Collections: []string{"orders"}}, "similar=" + db},
			{Options{Database: strings.ToUpper(db)}, "similar=" + db},
			{Options{Collections: []string{"orders", "later"}}, ""},
			{Options{Database: "nowhere"}, ""},
		} {
			w := w.with(t, w.DB)
			w.log = &logBuffer{}
			w.open(w.source(c.o), "", rigatoni.Start{})
			if n := w.log.count("similar"); c.want == "" && n > 0 || c.want != "" && w.log.count(c.want) != 1 {
				t.Errorf("%+v: the log:\n%s", c.o, w.log)
			}
		}
	})
}

// A user with rights on exactly the collections of the list gets a stream of each, and
// is refused with the privilege that one stream of all needs.
func TestRightsOnExactlyTheCollections(t *testing.T) {
	w := ownMongod(t, mongod.Options{Auth: true})
	w.insert("a", 1)
	w.insert("b", 1)
	privilege := func(coll string) bson.D {
		return bson.D{{Key: "resource", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "collection", Value: coll}}}, {Key: "actions", Value: bson.A{"find", "changeStream"}}}
	}
	for _, cmd := range []bson.D{
		{{Key: "createRole", Value: "each"}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{privilege("a"), privilege("b")}}},
		{{Key: "createRole", Value: "all"}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{privilege("")}}},
		{{Key: "createUser", Value: "each"}, {Key: "pwd", Value: "s3cr3t"}, {Key: "roles", Value: bson.A{"each"}}},
		{{Key: "createUser", Value: "all"}, {Key: "pwd", Value: "s3cr3t"}, {Key: "roles", Value: bson.A{"all"}}},
	} {
		w.admin(cmd)
	}
	as := func(user string, o Options) *Source {
		client := w.Connect(t, options.Client().SetAuth(options.Credential{Username: user, Password: "s3cr3t", AuthSource: "admin"}))
		o.Database, o.Collections, o.Logger = "shop", []string{"a", "b"}, slog.New(slog.NewTextHandler(w.log, nil))
		src, err := New(client, &o)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	_, err := as("each", Options{}).Open(t.Context(), "", rigatoni.Start{})
	const resource = `{resource: {db: "shop", collection: ""}, actions: ["find", "changeStream"]}`
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), resource) || !strings.Contains(err.Error(), "a stream of each (OneEach)") {
		t.Errorf("%v", err)
	}
	w.open(as("all", Options{}), "", rigatoni.Start{}) // what the message says is enough
	each := as("each", Options{OneEach: true})
	w.open(each, "a", rigatoni.Start{})
	w.open(each, "b", rigatoni.Start{})
}

// The replica set of the connection string is another one.
func TestWrongReplicaSetName(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		host := strings.Split(strings.TrimPrefix(w.URI, "mongodb://"), "/")[0]
		src, err := Open("mongodb://"+host+"/?replicaSet=other&serverSelectionTimeoutMS=1000", &Options{Logger: slog.New(slog.NewTextHandler(w.log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close(context.Background())
		_, err = src.Open(t.Context(), "", rigatoni.Start{})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `replica set named "other"`) {
			t.Errorf("%v", err)
		}
	})
}

// Each stream has a connection.
func TestPoolOfManyStreams(t *testing.T) {
	var names []string
	for i := range 150 {
		names = append(names, fmt.Sprint("c", i))
	}
	o := Options{Database: "shop", Collections: names, OneEach: true, Logger: slog.New(slog.DiscardHandler)}
	s, err := newSource(&o)
	if err != nil {
		t.Fatal(err)
	}
	co, err := s.clientOptions("mongodb://h")
	if err != nil || co.MaxPoolSize == nil || *co.MaxPoolSize != 610 {
		t.Errorf("%v, %v", co.MaxPoolSize, err)
	}
	for uri, want := range map[string]string{
		"mongodb://h/?maxPoolSize=100": "maxPoolSize in the connection string is 100, too little for 150 streams", "mongodb://h/?maxPoolSize=160": "", "mongodb://h/?maxPoolSize=0": "",
	} {
		if _, err := s.clientOptions(uri); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	w := newFixture(t, testserver.Mongotest(t))
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	if _, err := New(w.Client, &o); err != nil || w.log.count("maxPoolSize") != 1 {
		t.Errorf("%v; the log:\n%s", err, w.log)
	}
}

// A name of a collection can't write to a terminal, or forge a line.
func TestMessagesQuoteNames(t *testing.T) {
	w := newFixture(t, testserver.Mongotest(t))
	src := w.source(Options{Collections: []string{"a\x1b[2J\nb"}})
	for _, code := range []int{13, 18, 166, 7777, 286} {
		w.failPoint("failCommand", times(1), failCommand("aggregate", code))
		_, err := src.Open(t.Context(), "", rigatoni.Start{})
		if err == nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(err.Error(), `"a\x1b[2J\nb"`) {
			t.Errorf("%q", err)
		}
	}
}
