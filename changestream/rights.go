package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A Right is a privilege that reading a source's streams takes.
type Right struct {
	Name     string // "find and changeStream on shop.orders"
	For      string // what it is for
	Required bool   // without it no stream opens
	Granted  bool
}

// Rights lists the privileges that the streams need and those that are of use, and
// which of them the user has, as the server says. user is "" where nobody has logged
// in: with access control the streams then don't open, and without it everybody has
// all rights. A server that can't say is [errors.ErrUnsupported]. Rights connects, and
// changes nothing.
func (s *Source) Rights(ctx context.Context) (user string, rights []Right, err error) {
	auth, err := s.login(ctx)
	if err != nil || len(auth.Users) == 0 {
		return "", nil, err
	}
	may := auth.may
	for _, name := range s.names {
		db, coll := s.scopes[name].target()
		r := Right{Name: "find and changeStream on " + resourceName(db, coll), For: "the change stream", Required: true, Granted: may(db, coll, "find", "changeStream")}
		if !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	u := auth.Users[0]
	return u.User + " of " + u.DB, append(rights,
		Right{Name: "replSetGetConfig on the cluster", For: "noticing another deployment of the same set name", Granted: may(cluster, "", "replSetGetConfig")},
		Right{Name: "find on local.oplog.rs", For: "the runway", Granted: may("local", "oplog.rs", "find")},
		Right{Name: "collStats on local.oplog.rs", For: "the runway while the oplog isn't full", Granted: may("local", "oplog.rs", "collStats")},
	), nil
}

// SnapshotRights lists the privileges that a copy of what exists needs besides [Rights],
// in the same way.
func (s *Source) SnapshotRights(ctx context.Context) (rights []Right, err error) {
	auth, err := s.login(ctx)
	if err != nil || len(auth.Users) == 0 {
		return nil, err
	}
	var sizes []Right
	for _, name := range s.names {
		db, coll := s.scopes[name].target()
		list := Right{Name: "listCollections on " + resourceName(db, ""), For: "the snapshot", Required: true, Granted: auth.may(db, "", "listCollections")}
		size := Right{Name: "collStats on " + resourceName(db, coll), For: "how much of the snapshot is left", Granted: auth.may(db, coll, "collStats")}
		if !slices.Contains(rights, list) {
			rights = append(rights, list)
		}
		if !slices.Contains(sizes, size) {
			sizes = append(sizes, size)
		}
	}
	return append(rights, sizes...), nil
}

// A login is who has logged in, and with which privileges.
type login struct {
	Users []struct {
		User, DB string
	} `bson:"authenticatedUsers"`
	Privileges []privilege `bson:"authenticatedUserPrivileges"`
}

func (s *Source) login(ctx context.Context) (login, error) {
	var status struct {
		Auth login `bson:"authInfo"`
	}
	cmd := bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}}
	err := s.client.Database("admin").RunCommand(ctx, cmd).Decode(&status)
	if err == nil {
		return status.Auth, nil
	}
	if code(err) == codeCommandNotFound {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return login{}, scope{}.refused("connect to the server", err)
}

// may reports whether all of the actions are granted.
func (l login) may(db, coll string, actions ...string) bool {
	return !slices.ContainsFunc(actions, func(a string) bool {
		return !slices.ContainsFunc(l.Privileges, func(p privilege) bool { return p.covers(db, coll, a) })
	})
}

const codeCommandNotFound = 59 // of servers that are only compatible with MongoDB

// cluster stands for the cluster as a whole, among the names of databases.
const cluster = "\x00cluster"

func resourceName(db, coll string) string {
	switch {
	case db == "":
		return "all databases"
	case coll == "":
		return fmt.Sprintf("the database %q", db)
	}
	return fmt.Sprintf("%q", db+"."+coll)
}

// A privilege is what a user may do, as connectionStatus shows it.
type privilege struct {
	Resource struct {
		DB         *string `bson:"db"`
		Collection *string `bson:"collection"`
		Cluster    bool    `bson:"cluster"`
		Any        bool    `bson:"anyResource"`
	} `bson:"resource"`
	Actions []string `bson:"actions"`
}

// covers reports whether the privilege grants an action on a collection, a database
// (coll is ""), all of them (db is "", too), or the cluster. An empty name in a
// resource is every name but those of system collections.
func (p privilege) covers(db, coll, action string) bool {
	r := p.Resource
	switch {
	case !slices.Contains(p.Actions, action):
		return false
	case r.Any || db == cluster:
		return r.Any || r.Cluster
	case r.DB == nil || r.Collection == nil:
		return false
	}
	matches := func(granted, wanted string) bool {
		return granted == wanted || granted == "" && !strings.HasPrefix(wanted, "system.")
	}
	return (*r.DB == "" || *r.DB == db) && matches(*r.Collection, coll)
}
