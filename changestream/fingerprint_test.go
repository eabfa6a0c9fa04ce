package changestream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func TestFingerprintText(t *testing.T) {
	for want, f := range map[string]fingerprint{
		"set=rs0 id=6b05": {deployment{"rs0", "6b05"}, scope{}},
		"set=rs0":         {deployment{"rs0", ""}, scope{}},
		"set=rs0 database=shop collections=orders,users":          {deployment{"rs0", ""}, scope{database: "shop", collections: []string{"orders", "users"}}},
		"set=rs0 database=shop collections=a%20b%2C%3D%25,ü":      {deployment{"rs0", ""}, scope{database: "shop", collections: []string{"a b,=%", "ü"}}},
		"set=my%20set id=6b05 database=shop expandedEvents=on":    {deployment{"my set", "6b05"}, scope{database: "shop", expanded: true}},
		"set=rs0 database=shop collections=line%0Abreak%09%0Dtab": {deployment{"rs0", ""}, scope{database: "shop", collections: []string{"line\nbreak\t\rtab"}}},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := f.compare(want); err != nil {
			t.Errorf("%q differs from itself: %v", want, err)
		}
	}
	// Names that look alike when they are put together.
	a := fingerprint{scope: scope{database: "d", collections: []string{"x,y"}}}
	b := fingerprint{scope: scope{database: "d", collections: []string{"x", "y"}}}
	if a.String() == b.String() {
		t.Error("two scopes have one fingerprint")
	}
}

func TestFingerprintDifferences(t *testing.T) {
	for _, c := range []struct{ before, now, want string }{
		{"set=rs0 id=1 database=shop", "set=rs0 id=1 database=shop", ""},
		{"set=rs0 id=1 database=shop", "set=rs0 id=2 database=shop", "deployment (replica set id): 1 → 2"},
		{"set=old id=1 database=shop", "set=new id=1 database=shop", ""}, // a set that was renamed
		{"set=rs0 database=shop", "set=rs0 id=2 database=shop", ""},      // one side knows the name only
		{"set=rs0 id=1 database=shop", "set=rs0 database=shop", ""},
		{"set=rs0 id=1 database=shop", "set=rs1 database=shop", "deployment (replica set): rs0 → rs1"},
		{"set=rs0 database=shop collections=orders,users", "set=rs0 database=shop collections=orders", "collections: orders,users → orders"},
		{"set=rs0 database=shop collections=orders", "set=rs0 database=shop", "collections: orders → all"},
		{"set=rs0 database=shop", "set=rs0", "database: shop → all"},
		{"set=rs0 expandedEvents=on", "set=rs0", "expanded events: on → off"},
		{"set=rs0 collections=orders", "set=rs0 collections=log_*,orders", "collections: orders → log_*,orders"},
		{"set=rs0 operations=delete,insert", "set=rs0", "operations: delete,insert → all"},
		{"set=rs0", "set=rs0 pipeline=sha256:12", "pipeline: none → sha256:12"},
		{"set=rs0 filter=x1", "set=rs0", "filter: x1 → none"},
		{"something else", "set=rs0", `stream: "something else" → "set=rs0"`},
		{"set=rs0 database=a", "set=rs1 database=b", "deployment (replica set): rs0 → rs1|database: a → b"},
	} {
		if got := strings.Join(differences(c.before, c.now), "|"); got != c.want {
			t.Errorf("%q → %q: %q, want %q", c.before, c.now, got, c.want)
		}
	}
}

// A checkpoint of another stream is refused in both directions; accepted, it goes
// on from its time.
func TestChangedStream(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		one, two := w.source(Options{Collections: []string{"c"}}), w.source(Options{Collections: []string{"c", "d"}})
		w.insert("c", 0)
		st1, st2 := w.open(one, "", rigatoni.Start{}), w.open(two, "", rigatoni.Start{})
		w.insert("d", 1)
		w.insert("c", 2)
		w.insert("d", 3)
		st1.collect(1)
		second := st2.collect(3)[1]
		pos, err := rigatoni.PositionAfter(second)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			to     *Source
			cp     *rigatoni.Start
			change string
			ours   string
			goesOn []string
		}{
			{two, ptr(at(st1.checkpoint())), "collections: c → c,d", st2.Fingerprint(), slices.Concat(inserted("c", 2), inserted("d", 3))},
			{one, ptr(at(checkpointOf(pos, st2.Fingerprint()))), "collections: c,d → c", st1.Fingerprint(), inserted("c", 2)},
		} {
			for _, accept := range []string{"", accept(c.ours, c.cp.Checkpoint.Fingerprint), "nonsense"} { // the second is the way back
				start := *c.cp
				start.AcceptChanged = accept
				_, err := c.to.Open(t.Context(), "", start)
				var changed *rigatoni.ChangedStreamError
				if !errors.As(err, &changed) || fmt.Sprint(changed.Changes) != "["+c.change+"]" {
					t.Fatalf("accepting %q: %v", accept, err)
				}
				c.cp.AcceptChanged = changed.Accept
			}
			st := w.open(c.to, "", *c.cp)
			if st.Fingerprint() != c.ours {
				t.Errorf("fingerprint %q, want %q", st.Fingerprint(), c.ours)
			}
			wantNames(t, st.collect(len(c.goesOn)), c.goesOn...)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// Images may be asked for or not: a token is good for both.
func TestImagesAreNoChange(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		plain := w.source(Options{Collections: []string{"c"}})
		st := w.open(plain, "", rigatoni.Start{})
		w.insert("c", 1, 2)
		events := st.collect(2)
		pos, err := rigatoni.PositionAfter(events[0])
		if err != nil {
			t.Fatal(err)
		}
		images := w.source(Options{Collections: []string{"c"}, FullDocument: "updateLookup", FullDocumentBeforeChange: "whenAvailable"})
		wantNames(t, w.open(images, "", at(checkpointOf(pos, st.Fingerprint()))).collect(1), inserted("c", 2)...)
	})
}

func TestAnotherDeployment(t *testing.T) {
	both(t, func(t *testing.T, here *fixture) {
		there := newFixture(t, testserver.Mongotest(t))
		there.DB = there.Client.Database(here.DB.Name())
		o := Options{Collections: []string{"c"}}
		cp := here.open(here.source(o), "", rigatoni.Start{}).checkpoint()
		_, err := there.source(o).Open(t.Context(), "", at(cp))
		if !errors.Is(err, rigatoni.ErrChangedStream) || !strings.Contains(err.Error(), "replica set id") {
			t.Errorf("%v", err)
		}
	})
}

// What a user without the right to read the configuration gets, one with a wrong
// password, and one who may not read the collection.
func TestAccessControl(t *testing.T) {
	w := ownMongod(t, mongod.Options{Auth: true})
	for user, role := range map[string]string{"reader": "read", "writer": "dbAdmin"} {
		create := bson.D{{Key: "createUser", Value: user}, {Key: "pwd", Value: "s3cr3t"}, {Key: "roles", Value: bson.A{role}}}
		if err := w.DB.RunCommand(t.Context(), create).Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, host, _ := strings.Cut(w.URI, "@")
	as := func(user, password string) *fixture {
		uri := "mongodb://" + user + ":" + password + "@" + host + "&authSource=shop"
		return w.with(t, w.Connect(t, options.Client().ApplyURI(uri)).Database("shop"))
	}
	o := Options{Collections: []string{"c"}}
	strong := w.open(w.source(o), "", rigatoni.Start{})
	if w.log.count("clusterMonitor") != 0 {
		t.Errorf("root may read the id:\n%s", w.log)
	}

	src := as("reader", "s3cr3t").source(o)
	weak := w.open(src, "", at(strong.checkpoint()))
	fresh := w.open(src, "", rigatoni.Start{})
	if w.log.count("clusterMonitor") != 1 {
		t.Errorf("the weaker check is not logged, or not once:\n%s", w.log)
	}
	if !strings.HasPrefix(fresh.Fingerprint(), "set=rs0 database=shop") {
		t.Errorf("fingerprint %q", fresh.Fingerprint())
	}
	// The id that a checkpoint has stays in it, and is compared by who can read it.
	if weak.Fingerprint() != strong.Fingerprint() {
		t.Errorf("fingerprint %q, of a checkpoint with %q", weak.Fingerprint(), strong.Fingerprint())
	}
	there := newFixture(t, testserver.Mongotest(t))
	there.DB = there.Client.Database("shop")
	if _, err := there.source(o).Open(t.Context(), "", at(weak.checkpoint())); !errors.Is(err, rigatoni.ErrChangedStream) {
		t.Errorf("another deployment takes a checkpoint that was saved without the right: %v", err)
	}
	w.insert("c", 1)
	wantNames(t, weak.collect(1), inserted("c", 1)...)
	w.open(w.source(o), "", at(weak.checkpoint()))

	for what, c := range map[string]struct {
		w    *fixture
		code int32
	}{"wrong password": {as("reader", "wr0ng"), codeAuthFailed}, "no right": {as("writer", "s3cr3t"), codeUnauthorized}} {
		_, err := c.w.source(o).Open(t.Context(), "", rigatoni.Start{})
		t.Logf("%s: %v", what, err)
		var ce mongo.CommandError
		if !errors.As(err, &ce) || ce.Code != c.code || errors.Is(err, rigatoni.ErrHistoryLost) {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("the password is in the error: %v", err)
		}
	}

	// A right that is taken away from an open stream ends it with a clear error.
	if err := w.DB.RunCommand(t.Context(), bson.D{{Key: "updateUser", Value: "reader"}, {Key: "roles", Value: bson.A{}}}).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := weak.fail(); judge(err, atGetMore) != refused || !strings.Contains(err.Error(), "privileges") {
		t.Errorf("%v", err)
	}
}

// TestUnknownIdIsAnError: only a refusal means that the id can't be read.
func TestUnknownIdIsAnError(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		for code, want := range map[int]bool{1: false, 8: false, 26: false, 11601: false, 91: false, 13: true, 59: true} {
			w.failPoint("failCommand", times(1), failCommand("replSetGetConfig", code))
			id, err := w.source(Options{}).identify(t.Context())
			if (err == nil) != want || id.deployment.id != "" {
				t.Errorf("code %d: %+v, %v", code, id, err)
			}
			w.failPoint("failCommand", "off", bson.D{})
		}
	})
}

// TestOverlap: which streams have events in common.
func TestOverlap(t *testing.T) {
	of := func(set, id string, o Options) fingerprint {
		t.Helper()
		src, err := newSource(&o)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprint{deployment{set, id}, src.scopes[src.names[0]]}
	}
	for _, c := range []struct {
		name string
		a, b fingerprint
		want rigatoni.Overlap
	}{
		{"the same", of("rs0", "1", Options{Database: "shop"}), of("rs0", "1", Options{Database: "shop"}), rigatoni.SameButCollections},
		{"the set was renamed", of("rs1", "1", Options{Database: "shop"}), of("rs0", "1", Options{Database: "shop"}), rigatoni.SameButCollections},
		{"another deployment", of("rs0", "1", Options{Database: "shop"}), of("rs0", "2", Options{Database: "shop"}), rigatoni.NoOverlap},
		{"an id that is unknown", of("rs0", "1", Options{Database: "shop"}), of("rs0", "", Options{Database: "shop"}), rigatoni.SameButCollections},
		{"another set", of("rs0", "1", Options{Database: "shop"}), of("rs1", "", Options{Database: "shop"}), rigatoni.NoOverlap},
		{"another database", of("rs0", "1", Options{Database: "shop"}), of("rs0", "1", Options{Database: "shop2"}), rigatoni.NoOverlap},
		{"a pattern", of("rs0", "1", Options{Database: "shop*"}), of("rs0", "1", Options{Database: "shop2"}), rigatoni.SomeOverlap},
		{"the deployment", of("rs0", "1", Options{}), of("rs0", "1", Options{Database: "shop2"}), rigatoni.SomeOverlap},
		{"one of the collections", of("rs0", "1", Options{Database: "shop", Collections: []string{"a", "b"}}), of("rs0", "1", Options{Database: "shop", Collections: []string{"b"}}), rigatoni.SameButCollections},
		{"other collections", of("rs0", "1", Options{Database: "shop", Collections: []string{"a", "b"}}), of("rs0", "1", Options{Database: "shop", Collections: []string{"c", "bb"}}), rigatoni.NoOverlap},
		{"patterns that meet", of("rs0", "1", Options{Database: "shop", Collections: []string{"log_*"}}), of("rs0", "1", Options{Database: "shop", Collections: []string{"*_eu"}}), rigatoni.SameButCollections},
		{"patterns that don't", of("rs0", "1", Options{Database: "shop", Collections: []string{"log_*"}}), of("rs0", "1", Options{Database: "shop", Collections: []string{"x_*"}}), rigatoni.NoOverlap},
		{"odd names", of("r s,0", "", Options{Database: "shop", Collections: []string{"a=b, %"}}), of("r s,0", "", Options{Database: "shop", Collections: []string{"a=b, %", "b"}}), rigatoni.SameButCollections},
		{"other operations", of("rs0", "1", Options{Database: "shop", Operations: []string{"insert"}}), of("rs0", "1", Options{Database: "shop", Operations: []string{"delete"}}), rigatoni.NoOverlap},
		{"some operations", of("rs0", "1", Options{Database: "shop", Operations: []string{"insert"}}), of("rs0", "1", Options{Database: "shop"}), rigatoni.SomeOverlap},
	} {
		if got := c.a.overlap(c.b.String()); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := c.b.overlap(c.a.String()); got != c.want {
			t.Errorf("%s, the other way: %v, want %v", c.name, got, c.want)
		}
	}
	ours := of("rs0", "1", Options{Database: "shop", Collections: []string{"users", "log_*"}})
	for name, want := range map[string]bool{
		"users": true, "orders": false, "log_1": true, "__db:shop": true, "__db:other": false, "__deployment__": true,
		"resume_token:shop:users": true, "resume_token:other:users": false, "resume_token:shop:orders": false,
		"resume_token:database:shop": true, "resume_token:database:other": false, "resume_token:deployment": true,
	} {
		if got := ours.overlap("rigatoni:resume_token:" + name); (got != rigatoni.NoOverlap) != want {
			t.Errorf("the Rust crate's %s: %v", name, got)
		}
	}
	if got := of("rs0", "1", Options{}).overlap("not one of ours"); got != rigatoni.NoOverlap {
		t.Errorf("a text that is no fingerprint: %v", got)
	}
}

func TestServerThatIsNoReplicaSet(t *testing.T) {
	// The same error as a standalone server's, which our test servers are not.
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		w.failPoint("failCommand", times(1), failCommand("aggregate", codeOnlyReplicaSets))
		_, err := w.source(Options{}).Open(t.Context(), "", rigatoni.Start{})
		if err == nil || !strings.Contains(err.Error(), "--replSet") {
			t.Errorf("%v", err)
		}
	})
}
