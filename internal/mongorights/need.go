package mongorights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Need is what somebody has to be granted on one resource.
type Need struct {
	DB, Coll string // as for [Login.May]
	Actions  []string
	For      string // what it is for
	Optional bool   // something works without it
}

// Store is what package mongostore needs for a collection.
func Store(db, coll string) []Need {
	return []Need{
		{DB: db, Coll: coll, Actions: Write, For: "the checkpoints and leases"},
		{DB: db, Actions: []string{"listCollections"}, For: "seeing that collections are suitable"},
	}
}

// Write are the actions that reading and writing documents takes.
var Write = []string{"find", "insert", "update", "remove"}

// Check returns an [*Error] if the user lacks what is needed and is not optional. Where
// nobody has logged in, or the server can't say, it returns nil.
func Check(ctx context.Context, client *mongo.Client, needs []Need) error {
	l, err := Ask(ctx, client)
	switch {
	case errors.Is(err, errors.ErrUnsupported) || err == nil && !l.Known():
		return nil
	case err != nil:
		return err
	}
	e := &Error{User: l.Name(), Grant: Grant(l, needs)}
	for _, n := range needs {
		if actions := l.Missing(n.DB, n.Coll, n.Actions...); len(actions) > 0 && !n.Optional {
			e.Missing = append(e.Missing, strings.Join(actions, ", ")+" on "+Resource(n.DB, n.Coll))
		}
	}
	if e.Missing == nil {
		return nil
	}
	return e
}

// An Error is that the user lacks privileges. It is a state.ErrRefused.
type Error struct {
	User    string
	Missing []string // "insert on \"copy.orders\""
	Grant   string   // see the function
}

func (e *Error) Error() string {
	return "the user " + e.User + " lacks privileges: " + strings.Join(e.Missing, "; ")
}

// Unwrap returns state.ErrRefused, which the message doesn't repeat.
func (e *Error) Unwrap() error { return state.ErrRefused }

// roleName is that of the role in [Grant].
const roleName = "rigatoni"

// Grant returns the statements, for mongosh, that make a role with all of the needs, and
// grant it to the user. What is optional and about the cluster is no part of it.
func Grant(l Login, needs []Need) string {
	type resource struct{ db, coll string }
	var order []resource
	actions := map[resource][]string{}
	for _, n := range needs {
		if n.DB == Cluster && n.Optional {
			continue
		}
		r := resource{n.DB, n.Coll}
		if actions[r] == nil {
			order = append(order, r)
		}
		for _, a := range n.Actions {
			if !slices.Contains(actions[r], a) {
				actions[r] = append(actions[r], a)
			}
		}
	}
	privileges := make([]string, len(order))
	for i, r := range order {
		privileges[i] = fmt.Sprintf("{resource: {db: %s, collection: %s}, actions: %s}", literal(r.db), literal(r.coll), literal(actions[r]))
	}
	return fmt.Sprintf(`db.getSiblingDB("admin").createRole({role: %q, privileges: [%s], roles: []}); db.getSiblingDB(%s).grantRolesToUser(%s, [{role: %q, db: "admin"}])`,
		roleName, strings.Join(privileges, ", "), literal(l.Users[0].DB), literal(l.Users[0].User), roleName)
}

// literal is a value as JavaScript has it.
func literal(v any) string {
	b, _ := json.Marshal(v) // a string, or a list of them
	return strings.ReplaceAll(string(b), `","`, `", "`)
}
