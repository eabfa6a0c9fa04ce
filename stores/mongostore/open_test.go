package mongostore_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

const secret = "s3cretW0rd"

func TestInvalidURLs(t *testing.T) {
	for u, says := range map[string]string{
		"":                                    "must begin with mongodb://",
		"http://h/db.c":                       "must begin with mongodb://",
		"mongodb://h":                         "doesn't name the collection; write mongodb://HOST/DATABASE.COLLECTION",
		"mongodb://h/":                        "doesn't name the collection",
		"mongodb://h/db":                      "doesn't name the collection",
		"mongodb://h/.c":                      "doesn't name the collection",
		"mongodb://u:" + secret + "/x@h/db.c": "percent-encoded",
		"mongodb://u:" + secret + "@x@h/db.c": "percent-encoded",
		"mongodb://h:99999/db.c":              "not a valid connection string",
		"mongodb://h/db.c?retryWrites=false":  "retryWrites=false",
		"mongodb://h/db.c?call-timeout=never": "call-timeout",
	} {
		_, err := mongostore.Open(t.Context(), u, nil)
		want(t, err, state.ErrInvalid, u)
		want(t, mongostore.CheckURL(u, nil), state.ErrInvalid, "CheckURL: "+u)
		if text := fmt.Sprint(err); !strings.Contains(text, says) || strings.Contains(text, secret) {
			t.Errorf("%s: %s, want one with %q", u, text, says)
		}
	}
	want(t, mongostore.CheckURL("mongodb://u:p@a,b:27018/db.coll.with.dots?replicaSet=rs0&authSource=x&call-timeout=3s", nil), nil, "CheckURL")
	_, err := mongostore.Open(t.Context(), "mongodb://h/db.c", &mongostore.Options{CallTimeout: -1})
	want(t, err, state.ErrInvalid, "a negative timeout")
}

// What can't keep checkpoints is refused in one sentence.
func TestRefusals(t *testing.T) {
	db := mongod.ForTest(t)
	c, ctx := client(t, db.URI).Database(db.Name), t.Context()
	want(t, c.CreateCollection(ctx, "capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(1<<20)), nil, "CreateCollection")
	want(t, c.CreateCollection(ctx, "folded", options.CreateCollection().SetCollation(&options.Collation{Locale: "en", Strength: 1})), nil, "CreateCollection")
	want(t, c.CreateView(ctx, "view", "capped", bson.A{}), nil, "CreateView")
	for name, says := range map[string]string{
		"capped": "is a capped collection; the store needs an ordinary collection",
		"view":   "is a view; the store needs an ordinary collection",
		"folded": "has a collation, which may take two keys for one",
	} {
		_, err := mongostore.Open(ctx, at(db.URI, db.Name+"."+name), nil)
		want(t, err, state.ErrRefused, name)
		if !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v, want one with %q", name, err, says)
		}
	}
}

// A wrong password, and a right that is missing, are refused at opening; no error has
// the user or the password.
func TestRights(t *testing.T) {
	server := mongod.OwnForTest(t, mongod.Options{Auth: true})
	ctx := t.Context()
	admin := client(t, server.URI()).Database("admin")
	for name, actions := range map[string]bson.A{
		"all": {"find", "insert", "update", "remove"}, "nofind": {"insert", "update", "remove"},
		"noinsert": {"find", "update", "remove"}, "noupdate": {"find", "insert", "remove"}, "noremove": {"find", "insert", "update"},
	} {
		for _, cmd := range []bson.D{
			{{Key: "createRole", Value: name}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{
				bson.D{{Key: "resource", Value: bson.D{{Key: "db", Value: "rigatoni"}, {Key: "collection", Value: "c"}}}, {Key: "actions", Value: actions}},
				bson.D{{Key: "resource", Value: bson.D{{Key: "db", Value: "rigatoni"}, {Key: "collection", Value: ""}}}, {Key: "actions", Value: bson.A{"listCollections"}}},
			}}},
			{{Key: "createUser", Value: name}, {Key: "pwd", Value: secret}, {Key: "roles", Value: bson.A{name}}},
		} {
			want(t, admin.RunCommand(ctx, cmd).Err(), nil, cmd[0].Key)
		}
	}
	host := server.Nodes()[0].Addr()
	uri := func(user, password string) string {
		return "mongodb://" + user + ":" + password + "@" + host + "/rigatoni.c?directConnection=true"
	}
	s := open(t, uri("all", secret), nil)
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	for _, u := range []string{uri("nofind", secret), uri("noinsert", secret), uri("noupdate", secret), uri("noremove", secret), uri("all", "wrongW0rd"), uri("nobody", secret)} {
		from := time.Now()
		_, err := mongostore.Open(ctx, u, &mongostore.Options{CallTimeout: time.Minute})
		want(t, err, state.ErrRefused, u)
		if user, _, _ := strings.Cut(strings.TrimPrefix(u, "mongodb://"), ":"); strings.HasPrefix(user, "no") && user != "nobody" && !strings.Contains(fmt.Sprint(err), "lacks privileges: "+user[2:]+` on "rigatoni.c";`) {
			t.Errorf("%s: the error doesn't name what is missing: %v", user, err)
		}
		if text := fmt.Sprint(err); strings.Contains(text, secret) || strings.Contains(text, "wrongW0rd") {
			t.Errorf("%s: %s", u, text)
		}
		if d := time.Since(from); d > 30*time.Second {
			t.Errorf("refusing %s took %v", u, d)
		}
	}
	want(t, admin.RunCommand(ctx, bson.D{{Key: "updateRole", Value: "all"}, {Key: "privileges", Value: bson.A{}}}).Err(), nil, "updateRole")
	err := s.Save(ctx, "k", checkpoint(t, "82AB", 2))
	if want(t, err, state.ErrRefused, "Save"); !strings.Contains(fmt.Sprint(err), "the user all of admin lacks privileges: find, insert, update, remove on") {
		t.Errorf("a save without rights: %v", err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprint(slog.AnyValue(s).Resolve())} {
		if strings.Contains(text, secret) || !strings.Contains(text, "rigatoni.c") {
			t.Errorf("the store prints as %s", text)
		}
	}
}

func TestUnreachable(t *testing.T) {
	from := time.Now()
	_, err := mongostore.Open(t.Context(), "mongodb://127.0.0.1:1/db.c", &mongostore.Options{CallTimeout: 300 * time.Millisecond})
	want(t, err, state.ErrUnavailable, "Open")
	if d := time.Since(from); d > 20*time.Second || !strings.Contains(fmt.Sprint(err), "127.0.0.1:1/db.c in time") || !strings.Contains(fmt.Sprint(err), "connection refused") {
		t.Errorf("after %v: %v", d, err)
	}
}

func TestFromClient(t *testing.T) {
	server := mongotest.Start(t)
	c, ctx := client(t, server.URI()), t.Context()
	s, err := mongostore.FromClient(ctx, c, "db", "coll", nil)
	want(t, err, nil, "FromClient")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	want(t, s.Close(), nil, "Close")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), state.ErrClosed, "Save after Close")
	want(t, c.Ping(ctx, nil), nil, "Ping of the client after Close")
	_, err = mongostore.FromClient(ctx, nil, "db", "coll", nil)
	want(t, err, state.ErrInvalid, "without a client")
}

// The document is what the package documentation shows.
func TestDocument(t *testing.T) {
	server := mongotest.Start(t)
	ctx := t.Context()
	s := open(t, at(server.URI(), "rigatoni.checkpoints"), nil)
	g, err := s.Acquire(ctx, "shop", state.LeaseRequest{Owner: "host-1", Nonce: "n", TTL: time.Hour})
	want(t, err, nil, "Acquire")
	want(t, s.SaveFenced(ctx, "shop", g.Fence, checkpoint(t, "8264BEB9F3000000012B0229296E04", 38)), nil, "SaveFenced")
	var doc bson.M
	err = client(t, server.URI()).Database("rigatoni").Collection("checkpoints").FindOne(ctx, bson.D{{Key: "_id", Value: "shop"}}).Decode(&doc)
	want(t, err, nil, "FindOne")
	for _, name := range []string{"version", "rev", "lastSequence", "checkpoint", "epoch", "nonce", "owner", "leaseUntil"} {
		if doc[name] == nil {
			t.Errorf("the document has no %s: %v", name, doc)
		}
	}
	cp, _ := doc["checkpoint"].(bson.D)
	if text := fmt.Sprint(cp); !strings.Contains(text, "8264BEB9F3000000012B0229296E04") || !strings.Contains(text, "clusterTime") || !strings.Contains(text, "savedAt") {
		t.Errorf("the checkpoint is %v", cp)
	}
}
