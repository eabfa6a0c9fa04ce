// Package mongorights asks a MongoDB server which privileges the user has, and writes the
// statements that grant what is missing.
package mongorights

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// Cluster stands for the cluster as a whole, among the names of databases.
const Cluster = "\x00cluster"

// A Login is who has logged in, and with which privileges.
type Login struct {
	Users []struct {
		User, DB string
	} `bson:"authenticatedUsers"`
	Privileges []Privilege `bson:"authenticatedUserPrivileges"`
}

const codeCommandNotFound = 59 // of servers that are only compatible with MongoDB

// Ask asks the server of a client, and changes nothing. The error is the driver's; a server
// that can't say is [errors.ErrUnsupported].
func Ask(ctx context.Context, client *mongo.Client) (Login, error) {
	var status struct {
		Auth Login `bson:"authInfo"`
	}
	cmd := bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}}
	err := client.Database("admin").RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.PrimaryPreferred())).Decode(&status)
	var answer mongo.ServerError
	switch {
	case errors.As(err, &answer) && answer.HasErrorCode(codeCommandNotFound):
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case err == nil:
		err = status.Auth.complete()
	}
	return status.Auth, err
}

// complete returns an error for the answer of a server that doesn't say which privileges
// there are. (Where there are none, MongoDB has an empty list.)
func (l Login) complete() error {
	if l.Known() && l.Privileges == nil {
		return fmt.Errorf("%w: the server says who has logged in, and not with which privileges", errors.ErrUnsupported)
	}
	return nil
}

// Known reports whether anybody has logged in. With access control nobody may do anything
// without, and without access control everybody may do everything.
func (l Login) Known() bool { return len(l.Users) > 0 }

// Name is the user as messages have it, "" for nobody.
func (l Login) Name() string {
	if !l.Known() {
		return ""
	}
	return l.Users[0].User + " of " + l.Users[0].DB
}

// May reports whether all of the actions are granted on a collection, a database (coll is
// ""), all of them (db is "", too), or the [Cluster].
func (l Login) May(db, coll string, actions ...string) bool {
	return len(l.Missing(db, coll, actions...)) == 0
}

// Missing returns the actions that are not granted.
func (l Login) Missing(db, coll string, actions ...string) (missing []string) {
	for _, a := range actions {
		if !slices.ContainsFunc(l.Privileges, func(p Privilege) bool { return p.covers(db, coll, a) }) {
			missing = append(missing, a)
		}
	}
	return missing
}

// A Privilege is what a user may do, as connectionStatus shows it.
type Privilege struct {
	Resource struct {
		DB         *string `bson:"db"`
		Collection *string `bson:"collection"`
		Cluster    bool    `bson:"cluster"`
		Any        bool    `bson:"anyResource"`
	} `bson:"resource"`
	Actions []string `bson:"actions"`
}

// covers reports whether the privilege grants an action. An empty name in a resource is
// every name but those of system collections; anyAction is every action.
func (p Privilege) covers(db, coll, action string) bool {
	r := p.Resource
	switch {
	case !slices.Contains(p.Actions, action) && !slices.Contains(p.Actions, "anyAction"):
		return false
	case r.Any || db == Cluster:
		return r.Any || r.Cluster
	case r.DB == nil || r.Collection == nil:
		return false
	}
	matches := func(granted, wanted string) bool {
		return granted == wanted || granted == "" && !strings.HasPrefix(wanted, "system.")
	}
	return (*r.DB == "" || *r.DB == db) && matches(*r.Collection, coll)
}

// Resource names a resource for people.
func Resource(db, coll string) string {
	switch {
	case db == Cluster:
		return "the cluster"
	case db == "" && coll != "":
		return fmt.Sprintf("the collection %q of all databases", coll)
	case db == "":
		return "all databases"
	case coll == "":
		return fmt.Sprintf("the database %q", db)
	}
	return fmt.Sprintf("%q", db+"."+coll)
}
