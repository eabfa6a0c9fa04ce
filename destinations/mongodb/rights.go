package mongodb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
)

// A Right is a privilege that the mirror takes.
type Right struct {
	Name     string // "find, insert, update, remove on \"copy.orders\""
	For      string // what it is for
	Required bool   // without it no stream opens
	Granted  bool
}

// A Report is what the server says of the user.
type Report struct {
	User   string // "" where nobody has logged in: then everybody has all rights, or nobody any
	Rights []Right
	Grant  string // statements for mongosh that make a role with all of the rights, and grant it; "" if none is missing
}

// Inspect reports which privileges sessions of streams with these scopes take, and which of
// them the user has. Of one that is granted in part it names what is missing. It writes
// nothing, and needs no rights but to connect. A server that can't say is
// [errors.ErrUnsupported].
//
// Of collections that the scopes don't name one by one, the mirror's names aren't known
// beforehand. A right on all that they may be is not required: the user may have it on each.
func (d *Destination) Inspect(ctx context.Context, scopes ...*rigatoni.Scope) (Report, error) {
	login, err := mongorights.Ask(ctx, d.client)
	if err != nil {
		return Report{}, fmt.Errorf("mongodb: %w: %w", errAsking, explained(err))
	}
	r := Report{User: login.Name()}
	if !login.Known() {
		return r, nil
	}
	needs := d.needs(nil, scopes...)
	lacks := false
	for _, n := range append(slices.Clip(needs), replicaSetID) {
		actions, missing := n.Actions, login.Missing(n.DB, n.Coll, n.Actions...)
		if missing != nil {
			actions = missing
			lacks = lacks || n.DB != mongorights.Cluster
		}
		r.Rights = append(r.Rights, Right{strings.Join(actions, ", ") + " on " + mongorights.Resource(n.DB, n.Coll), n.For, !n.Optional, missing == nil})
	}
	if lacks {
		r.Grant = mongorights.Grant(login, needs)
	}
	return r, nil
}

var errAsking = errors.New("asking which privileges the user has")

var replicaSetID = mongorights.Need{
	DB: mongorights.Cluster, Actions: []string{"replSetGetConfig"}, Optional: true,
	For: "telling the source's deployment from another one of the same set name",
}

// checkRights returns an error that names the privileges that are missing and what grants
// them.
func checkRights(ctx context.Context, client *mongo.Client, needs []mongorights.Need) error {
	err := mongorights.Check(ctx, client, needs)
	var lacks *mongorights.Error
	switch {
	case errors.As(err, &lacks):
		return fmt.Errorf("mongodb: %w; to grant all that is needed: %s", lacks, lacks.Grant)
	case err != nil:
		return fmt.Errorf("mongodb: %w: %w", errAsking, explained(err))
	}
	return nil
}

const codeUnauthorized = 13

// lacking is err, with which the server has refused the user, and which privileges are
// missing. It is about no event: what failed is tried again, and goes through when they are
// granted.
func (d *Destination) lacking(ctx context.Context, err error, targets map[rigatoni.Namespace]*target) error {
	if lacks := checkRights(ctx, d.client, d.needs(targets)); lacks != nil {
		return fmt.Errorf("%w (%w)", lacks, err)
	}
	return err
}

// needs are the privileges for the mirror's own collections, for targets, and for those of
// streams with these scopes.
func (d *Destination) needs(targets map[rigatoni.Namespace]*target, scopes ...*rigatoni.Scope) []mongorights.Need {
	db, coll, _ := strings.Cut(d.opts.Checkpoints, ".")
	all := needs(mongorights.Store(db, coll))
	all.add(db, coll+targetsSuffix, "the record of which collection is the mirror of which")
	all.add(db, coll+touchedSuffix, "the marks of a copy")
	for ns, t := range targets {
		all.add(t.name.DB, t.name.Coll, "the mirror of "+ns.String())
	}
	for _, scope := range scopes {
		if scope == nil {
			continue
		}
		colls := scope.Collections
		if len(colls) == 0 {
			colls = []string{"*"}
		}
		for _, coll := range colls {
			db, names := d.names.globs(scope.Database, []string{coll})
			all.add(db, names[0], "the mirror of "+cmp.Or(scope.Database, "*")+"."+coll)
		}
	}
	return all
}

type needs []mongorights.Need

// add adds what a collection takes. Where the name is a pattern, that is a right on all that
// it may be, which is no more than of use: the user may have it on each.
func (all *needs) add(db, coll, what string) {
	anyDB, anyColl := glob.IsPattern(db), glob.IsPattern(coll)
	if anyDB {
		db = ""
	}
	if anyColl {
		coll = ""
	}
	list := mongorights.Need{DB: db, Actions: []string{"listCollections"}, For: "seeing that collections are suitable", Optional: anyDB}
	write := mongorights.Need{DB: db, Coll: coll, Actions: mongorights.Write, For: what, Optional: anyDB || anyColl}
	for _, n := range []mongorights.Need{write, list} {
		if !slices.ContainsFunc(*all, func(m mongorights.Need) bool {
			return m.DB == n.DB && m.Coll == n.Coll && slices.Equal(m.Actions, n.Actions)
		}) {
			*all = append(*all, n)
		}
	}
}
