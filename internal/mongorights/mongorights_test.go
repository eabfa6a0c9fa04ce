package mongorights

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// decoded is a login as connectionStatus shows it.
func decoded(t *testing.T, privileges string) (l Login) {
	t.Helper()
	text := `{"authenticatedUsers": [{"user": "app", "db": "admin"}], "authenticatedUserPrivileges": ` + privileges + `}`
	if err := bson.UnmarshalExtJSON([]byte(text), false, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// What a privilege covers is what MongoDB's documentation of resources says.
func TestMay(t *testing.T) {
	for _, c := range []struct {
		privileges, db, coll string
		may                  bool
	}{
		{`[]`, "shop", "orders", false},
		{`[{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find", "insert"]}]`, "shop", "orders", true},
		{`[{"resource": {"db": "shop", "collection": "orders"}, "actions": ["insert"]}]`, "shop", "orders", false},
		{`[{"resource": {"db": "shop", "collection": "orders"}, "actions": ["anyAction"]}]`, "shop", "orders", true},
		{`[{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}]`, "shop", "", false},
		{`[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}]`, "shop", "orders", true},
		{`[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}]`, "shop", "", true},
		{`[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}]`, "shop", "system.views", false},
		{`[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}]`, "other", "orders", false},
		{`[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}]`, "", "", false},
		{`[{"resource": {"db": "", "collection": "orders"}, "actions": ["find"]}]`, "any", "orders", true},
		{`[{"resource": {"db": "", "collection": ""}, "actions": ["find"]}]`, "", "", true},
		{`[{"resource": {"cluster": true}, "actions": ["find"]}]`, "shop", "orders", false},
		{`[{"resource": {"cluster": true}, "actions": ["find"]}]`, Cluster, "", true},
		{`[{"resource": {"db": "", "collection": ""}, "actions": ["find"]}]`, Cluster, "", false},
		{`[{"resource": {"anyResource": true}, "actions": ["find"]}]`, Cluster, "", true},
		{`[{"resource": {"anyResource": true}, "actions": ["find"]}]`, "shop", "system.views", true},
		{`[{"resource": {"system_buckets": "", "db": ""}, "actions": ["find"]}]`, "shop", "orders", false},
	} {
		if got := decoded(t, c.privileges).May(c.db, c.coll, "find"); got != c.may {
			t.Errorf("%s: find on %s is %v", c.privileges, Resource(c.db, c.coll), got)
		}
	}
	if got := decoded(t, `[{"resource": {"db": "shop", "collection": ""}, "actions": ["find", "remove"]}]`).Missing("shop", "a", Write...); strings.Join(got, " ") != "insert update" {
		t.Errorf("missing are %v", got)
	}
}

// A server that doesn't say which privileges a user has is not taken for one that says none.
func TestAnswerWithoutPrivileges(t *testing.T) {
	if err := decoded(t, `[]`).complete(); err != nil {
		t.Error(err)
	}
	if err := decoded(t, `null`).complete(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := (Login{}).complete(); err != nil {
		t.Errorf("nobody has logged in: %v", err)
	}
}

// Names are quoted, and what is needed on one resource is one privilege.
func TestGrant(t *testing.T) {
	l := decoded(t, `[]`)
	l.Users[0].User = `o"neil`
	got := Grant(l, []Need{
		{DB: "copy", Coll: `a"b`, Actions: []string{"find"}},
		{DB: "copy", Coll: `a"b`, Actions: []string{"find", "insert"}},
		{DB: "", Actions: []string{"listCollections"}, Optional: true},
		{DB: Cluster, Actions: []string{"replSetGetConfig"}, Optional: true},
	})
	const want = `db.getSiblingDB("admin").createRole({role: "rigatoni", privileges: [{resource: {db: "copy", collection: "a\"b"}, actions: ["find", "insert"]}, ` +
		`{resource: {db: "", collection: ""}, actions: ["listCollections"]}], roles: []}); db.getSiblingDB("admin").grantRolesToUser("o\"neil", [{role: "rigatoni", db: "admin"}])`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
