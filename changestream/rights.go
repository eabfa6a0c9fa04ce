package changestream

import (
	"context"
	"slices"

	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
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
	if err != nil || !auth.Known() {
		return "", nil, err
	}
	may := auth.May
	for _, name := range s.names {
		db, coll := s.scopes[name].target()
		r := Right{Name: "find and changeStream on " + mongorights.Resource(db, coll), For: "the change stream", Required: true, Granted: may(db, coll, "find", "changeStream")}
		if !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	return auth.Name(), append(rights,
		Right{Name: "replSetGetConfig on the cluster", For: "noticing another deployment of the same set name", Granted: may(mongorights.Cluster, "", "replSetGetConfig")},
		Right{Name: "find on local.oplog.rs", For: "the runway", Granted: may("local", "oplog.rs", "find")},
		Right{Name: "collStats on local.oplog.rs", For: "the runway while the oplog isn't full", Granted: may("local", "oplog.rs", "collStats")},
	), nil
}

// SnapshotRights lists the privileges that a copy of what exists needs besides [Rights],
// in the same way.
func (s *Source) SnapshotRights(ctx context.Context) (rights []Right, err error) {
	auth, err := s.login(ctx)
	if err != nil || !auth.Known() {
		return nil, err
	}
	var sizes []Right
	for _, name := range s.names {
		db, coll := s.scopes[name].target()
		list := Right{Name: "listCollections on " + mongorights.Resource(db, ""), For: "the snapshot", Required: true, Granted: auth.May(db, "", "listCollections")}
		size := Right{Name: "collStats on " + mongorights.Resource(db, coll), For: "how much of the snapshot is left", Granted: auth.May(db, coll, "collStats")}
		if !slices.Contains(rights, list) {
			rights = append(rights, list)
		}
		if !slices.Contains(sizes, size) {
			sizes = append(sizes, size)
		}
	}
	return append(rights, sizes...), nil
}

func (s *Source) login(ctx context.Context) (mongorights.Login, error) {
	l, err := mongorights.Ask(ctx, s.client)
	if err != nil {
		return l, scope{}.refused("connect to the server", err)
	}
	return l, nil
}
