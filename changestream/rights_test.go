package changestream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// What Rights says is what the server does, for users with more and with fewer rights.
func TestRights(t *testing.T) {
	server := mongod.OwnForTest(t, mongod.Options{Auth: true})
	root, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Disconnect(t.Context())
	admin := root.Database("admin")
	run := func(cmd bson.D) {
		t.Helper()
		if err := admin.RunCommand(t.Context(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	role := func(name string, privileges bson.A) string {
		run(bson.D{{Key: "createRole", Value: name}, {Key: "privileges", Value: privileges}, {Key: "roles", Value: bson.A{}}})
		return name
	}
	on := func(db, coll string, actions ...string) bson.D {
		return bson.D{{Key: "resource", Value: bson.D{{Key: "db", Value: db}, {Key: "collection", Value: coll}}}, {Key: "actions", Value: actions}}
	}
	users := map[string]bson.A{
		"exact":    {role("exact", bson.A{on("shop", "orders", "find", "changeStream")})},
		"lister":   {role("lister", bson.A{on("shop", "orders", "find", "changeStream"), on("shop", "", "listCollections")})},
		"half":     {role("half", bson.A{on("shop", "orders", "find")})},
		"anywhere": {role("anywhere", bson.A{on("", "orders", "find", "changeStream")})},
		"db":       {bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: "shop"}}},
		"all":      {"readAnyDatabase", "clusterMonitor"},
		"oplog":    {"readAnyDatabase", role("oplog", bson.A{on("local", "oplog.rs", "find")})},
		"nothing":  {role("nothing", bson.A{})},
		"any":      {role("any", bson.A{bson.D{{Key: "resource", Value: bson.D{{Key: "anyResource", Value: true}}}, {Key: "actions", Value: bson.A{"anyAction"}}}})},
		"anyof":    {role("anyof", bson.A{on("shop", "", "anyAction")})},
	}
	at := server.URI()[strings.LastIndexByte(server.URI(), '@')+1:]
	for user, roles := range users {
		run(bson.D{{Key: "createUser", Value: user}, {Key: "pwd", Value: "pw"}, {Key: "roles", Value: roles}})
	}
	for user := range users {
		uri := fmt.Sprintf("mongodb://%s:pw@%s", url.QueryEscape(user), at)
		for _, o := range []Options{{Database: "shop", Collections: []string{"orders"}}, {Database: "shop"}, {}, {Database: "shop", Collections: []string{"orders", "users"}, OneEach: true}} {
			src, err := Open(uri, &o)
			if err != nil {
				t.Fatal(err)
			}
			who, rights, err := src.Rights(t.Context())
			if err != nil || who != user+" of admin" {
				t.Fatalf("%s: %q, %v", user, who, err)
			}
			opens := true
			for _, name := range src.Streams() {
				stream, err := src.Open(t.Context(), name, rigatoni.Start{})
				if err == nil {
					_ = stream.Close(t.Context())
				}
				opens = opens && err == nil
			}
			_, err = src.History(t.Context())
			granted, required := true, 0
			for _, r := range rights {
				if r.Required {
					granted = granted && r.Granted
					required++
				}
				if r.Name == "find on local.oplog.rs" && r.Granted != (err == nil) {
					t.Errorf("%s, %+v: %s: %v, and reading it: %v", user, o, r.Name, r.Granted, err)
				}
			}
			if granted != opens || required != len(src.Streams()) {
				t.Errorf("%s, %+v: granted %v, and the streams open: %v; %+v", user, o, granted, opens, rights)
			}
			snapshotRights(t, user, src, opens)
			_ = src.Close(t.Context())
		}
	}
}

// snapshotRights compares what a copy needs besides with what the server lets it begin.
func snapshotRights(t *testing.T, user string, src *Source, opens bool) {
	t.Helper()
	rights, err := src.SnapshotRights(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	granted, begins := opens, true
	for _, r := range rights {
		granted = granted && (r.Granted || !r.Required)
	}
	for _, name := range src.Streams() {
		stream, err := src.Open(t.Context(), name, rigatoni.Start{Snapshot: true})
		if err == nil {
			_ = stream.Close(t.Context())
		} else if opens && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "listCollections")) {
			t.Errorf("%s: a copy is refused in other words: %v", user, err)
		}
		begins = begins && err == nil
	}
	if granted != begins {
		t.Errorf("%s, %q: granted %v, and a copy begins: %v; %+v", user, src.Streams(), granted, begins, rights)
	}
}
