package mongodb_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A guarded lab is one of a server with access control, and a user who may do nothing.
type guarded struct {
	lab
	server *mongod.Server
	admin  *mongo.Database
}

func newGuarded(t *testing.T) guarded {
	t.Helper()
	server := mongod.OwnForTest(t, mongod.Options{Auth: true})
	g := guarded{server: server, admin: connect(t, server.URI(), nil).Database("admin")}
	g.db = "own"
	g.run(t, bson.D{{Key: "createUser", Value: "mirror"}, {Key: "pwd", Value: "pw"}, {Key: "roles", Value: bson.A{}}})
	g.uri = "mongodb://mirror:pw@" + server.URI()[strings.LastIndexByte(server.URI(), '@')+1:]
	g.client = connect(t, g.uri, nil)
	return g
}

func (g guarded) run(t *testing.T, cmd any) {
	t.Helper()
	must(t, g.admin.RunCommand(t.Context(), cmd).Err())
}

var (
	statements = regexp.MustCompile(`^db\.getSiblingDB\("admin"\)\.createRole\((.*)\); db\.getSiblingDB\("(.*)"\)\.grantRolesToUser\("(.*)", (\[.*\])\)$`)
	bareKey    = regexp.MustCompile(`([{ ])(\w+): `)
)

// A role is what createRole gets.
type role struct {
	Role       string      `bson:"role"`
	Privileges []privilege `bson:"privileges"`
	Roles      bson.A      `bson:"roles"`
}

type privilege struct {
	Resource bson.D   `bson:"resource"`
	Actions  []string `bson:"actions"`
}

// grant does what the statements for mongosh do, and returns the role.
func (g guarded) grant(t *testing.T, text string) (r role) {
	t.Helper()
	m := statements.FindStringSubmatch(text)
	if m == nil || m[2] != "admin" {
		t.Fatalf("not the statements that make and grant a role: %q", text)
	}
	must(t, bson.UnmarshalExtJSON([]byte(bareKey.ReplaceAllString(m[1], `$1"$2": `)), false, &r))
	var granted struct{ Roles bson.A }
	must(t, bson.UnmarshalExtJSON([]byte(`{"Roles": `+bareKey.ReplaceAllString(m[4], `$1"$2": `)+`}`), false, &granted))
	g.run(t, bson.D{{Key: "createRole", Value: r.Role}, {Key: "privileges", Value: r.Privileges}, {Key: "roles", Value: r.Roles}})
	g.run(t, bson.D{{Key: "grantRolesToUser", Value: m[3]}, {Key: "roles", Value: granted.Roles}})
	return r
}

func (g guarded) update(t *testing.T, r role) {
	t.Helper()
	g.run(t, bson.D{{Key: "updateRole", Value: r.Role}, {Key: "privileges", Value: r.Privileges}})
}

// without is the role without one action on one resource.
func (r role) without(i int, action string) role {
	r.Privileges = slices.Clone(r.Privileges)
	p := &r.Privileges[i]
	p.Actions = slices.DeleteFunc(slices.Clone(p.Actions), func(a string) bool { return a == action })
	if len(p.Actions) == 0 {
		r.Privileges = slices.Delete(r.Privileges, i, i+1)
	}
	return r
}

// live does everything that a mirror does: events, a copy over what is there, its sweep, a
// rename, a drop, and two owners. The error is of a session's opening, or of an event.
func (g guarded) live(t *testing.T, d *mongodb.Destination, scope *rigatoni.Scope) error {
	t.Helper()
	r := &rig{t: t, d: d}
	at := rigatoni.Opening{Scope: scope}
	if err := r.open(at); err != nil {
		return err
	}
	insert := func(coll string, id any) rigatoni.Event {
		return rigatonitest.Insert("shop."+coll, numbered(id, 1))
	}
	if err := r.try("", insert("orders", 1), insert("orders", 2), insert("users", 1), rigatonitest.Delete("shop.orders", 2), rigatonitest.Replace("shop.orders", numbered(1, 2))); err != nil {
		return err
	}
	began := position(t)
	at.FirstStart, at.AcceptAnyOutput = true, true
	if err := r.open(at); err != nil { // another session of the same process
		return err
	}
	if err := r.try("{}", read(numbered(3, 1))); err != nil {
		return err
	}
	if err := r.sweep(began); err != nil {
		return err
	}
	if err := r.try("{}", read(numbered(4, 1)), rigatonitest.Drop("shop.users"), rigatonitest.Rename("shop.orders", "shop.users")); err != nil {
		return err
	}
	at.FirstStart = false
	if err := r.open(at); err != nil {
		return err
	}
	if err := r.try("", insert("orders", 5)); err != nil {
		return err
	}
	must(t, r.sink.(interface{ Close() error }).Close())
	return nil
}

// Inspect names each privilege that a mirror takes, and prints a role that has all of them: with
// exactly that, everything works, and without any one of its privileges Inspect says which is
// missing, and a session is refused in the same words.
func TestRights(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	o := g.options()
	o.OnDrop, o.Target = "apply", "copy.{collection}"
	d, err := mongodb.New(g.client, o)
	must(t, err)
	scope := &rigatoni.Scope{Database: "shop", Collections: []string{"orders", "users"}, FullDocument: "updateLookup"}
	inspect := func() mongodb.Report {
		t.Helper()
		r, err := d.Inspect(t.Context(), scope)
		must(t, err)
		if r.User != "mirror of admin" {
			t.Errorf("the user is %q", r.User)
		}
		return r
	}
	r := inspect()
	for _, right := range r.Rights {
		if right.Granted || right.Required != (right.Name != "replSetGetConfig on the cluster") {
			t.Errorf("of a user who may do nothing: %+v", right)
		}
	}
	all := g.grant(t, r.Grant)
	if r = inspect(); r.Grant != "" || len(r.Rights) != 8 {
		t.Errorf("with the role there is something to grant (%q), or the list is another one: %+v", r.Grant, r.Rights)
	}
	for _, right := range r.Rights {
		if right.Granted != right.Required {
			t.Errorf("with the role: %+v", right)
		}
	}
	must(t, g.live(t, d, scope))

	count := 0
	for i, p := range all.Privileges {
		for _, action := range p.Actions {
			count++
			g.update(t, all.without(i, action))
			missing := missingOf(inspect())
			db, coll := p.Resource[0].Value.(string), p.Resource[1].Value.(string)
			want := fmt.Sprintf("%s on %q", action, db+"."+coll)
			if coll == "" {
				want = fmt.Sprintf("%s on the database %q", action, db)
			}
			if !slices.Equal(missing, []string{want}) {
				t.Errorf("without %s: missing are %q", want, missing)
			}
			err := d.CheckOpening(t.Context(), rigatoni.Opening{Key: rigKey, Scope: scope})
			if !errors.Is(err, state.ErrRefused) || !strings.Contains(err.Error(), "lacks privileges: "+want) {
				t.Errorf("without %s a session is refused so: %v", want, err)
			}
		}
	}
	if count != 22 {
		t.Errorf("%d privileges were taken away; the mirror takes 22", count)
	}
}

// A right that is taken away, or that nobody could ask for before an event came, is named by the
// error of the delivery, which goes through when it is granted; the same for a sweep.
func TestRightsWhileRunning(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	o := g.options()
	o.Target = "copy.{collection}"
	d, err := mongodb.New(g.client, o)
	must(t, err)
	scope := &rigatoni.Scope{Database: "shop", FullDocument: "updateLookup"}
	report, err := d.Inspect(t.Context(), scope)
	must(t, err)
	all := g.grant(t, report.Grant)
	last := len(all.Privileges) - 1
	if db := all.Privileges[last].Resource[0].Value; db != "copy" {
		t.Fatalf("the last privilege is on %v", db)
	}
	listing := all
	listing.Privileges = append(slices.Clone(all.Privileges[:last]), privilege{all.Privileges[last].Resource, []string{"listCollections"}})
	g.update(t, listing)
	r := &rig{t: t, d: d}
	must(t, r.open(rigatoni.Opening{Scope: scope}))
	refused := func(err error, want string) {
		t.Helper()
		if !errors.Is(err, state.ErrRefused) || errors.As(err, new(*rigatoni.PermanentError)) || !strings.Contains(err.Error(), "lacks privileges: "+want+"; to grant") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	event := rigatonitest.Insert("shop.orders", numbered(1, 1))
	refused(r.try("", event), `find, insert, update, remove on "copy.orders"`)
	g.update(t, all)
	must(t, r.try("", event))
	g.update(t, all.without(last, "update"))
	event = rigatonitest.Replace("shop.orders", numbered(1, 2))
	refused(r.try("", event), `update on "copy.orders"`)
	g.update(t, all)
	must(t, r.try("", event))
	began := position(t)
	must(t, r.open(rigatoni.Opening{Scope: scope}))
	g.update(t, all.without(last, "remove"))
	refused(r.sweep(began), `remove on "copy.orders"`)
	g.update(t, all)
	must(t, r.sweep(began))
}

// Of a user who may not write the checkpoints Open says so, and Look opens, so that all that is
// missing can be named. The destination that runs a function is refused in the same words.
func TestRightsAtOpening(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	o := &mongodb.Options{Target: "copy.{collection}", Checkpoints: "own.checkpoints", OnDrop: "apply"}
	const want = `the user mirror of admin lacks privileges: find, insert, update, remove on "own.checkpoints"; listCollections on the database "own"; the role readWrite on the database "own" has all`
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, state.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := mongodb.Open(t.Context(), g.uri, o)
	refused("Open", err)
	tx, err := mongodb.OpenTx(g.client, nil, &mongodb.TxOptions{Checkpoints: "own.checkpoints"})
	must(t, err)
	refused("Tx", tx.CheckOpening(t.Context(), rigatoni.Opening{Key: rigKey}))
	_, err = tx.Open(t.Context(), rigatoni.Opening{Key: rigKey})
	refused("Tx", err)
	d, err := mongodb.Look(t.Context(), g.uri, o)
	must(t, err)
	defer d.Close()
	r, err := d.Inspect(t.Context(), &rigatoni.Scope{})
	must(t, err)
	if names := missingOf(r); len(names) != 5 || !strings.Contains(r.Grant, `collection: "checkpoints.touched"`) {
		t.Errorf("%+v", r)
	}
	g.run(t, bson.D{{Key: "grantRolesToUser", Value: "mirror"}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "readWrite"}, {Key: "db", Value: "own"}}, bson.D{{Key: "role", Value: "readWrite"}, {Key: "db", Value: "copy"}}}}})
	if r, err = d.Inspect(t.Context(), &rigatoni.Scope{}); err != nil || r.Grant != "" {
		t.Errorf("readWrite on both databases is not enough: %+v, %v", r, err)
	}
	must(t, g.live(t, d, nil))
}

// A user of whose privileges none is named, because one is for every action, lacks nothing.
func TestRightsOfAnyAction(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	anywhere := bson.D{{Key: "resource", Value: bson.D{{Key: "anyResource", Value: true}}}, {Key: "actions", Value: bson.A{"anyAction"}}}
	g.run(t, bson.D{{Key: "createRole", Value: "any"}, {Key: "privileges", Value: bson.A{anywhere}}, {Key: "roles", Value: bson.A{}}})
	g.run(t, bson.D{{Key: "grantRolesToUser", Value: "mirror"}, {Key: "roles", Value: bson.A{"any"}}})
	o := g.options()
	o.OnDrop, o.Target = "apply", "copy.{collection}"
	d, err := mongodb.New(g.client, o)
	must(t, err)
	r, err := d.Inspect(t.Context(), &rigatoni.Scope{Database: "shop"})
	must(t, err)
	if r.Grant != "" || len(missingOf(r)) > 0 {
		t.Errorf("%+v", r)
	}
	must(t, g.live(t, d, nil))
}

// Of a server without access control there is nothing to say.
func TestRightsOfNobody(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d, err := mongodb.New(l.client, l.options())
	must(t, err)
	if r, err := d.Inspect(t.Context(), &rigatoni.Scope{}); err != nil || r.User != "" || r.Rights != nil || r.Grant != "" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func missingOf(r mongodb.Report) (names []string) {
	for _, right := range r.Rights {
		if right.Required && !right.Granted {
			names = append(names, right.Name)
		}
	}
	return names
}
