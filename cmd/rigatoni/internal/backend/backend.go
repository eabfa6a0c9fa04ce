package backend

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// Destinations are the kinds of destinations.
var Destinations = []*Kind{
	{
		Schemes: []string{"ndjson"}, path: true,
		Forms: [][2]string{
			{"ndjson:DIR", "files in a directory, one change event per line, as Extended JSON"},
			{"ndjson:-", "the same to standard output"},
		},
		Options: func() any { return &ndjson.Options{} },
		check: func(r Ref) error {
			_, err := openNDJSON(context.Background(), r, io.Discard, nil)
			return err
		},
		deliver: openNDJSON,
	},
	postgresDestination,
	mongoDestination,
}

// Stores are the kinds of stores.
var Stores = []*Kind{
	{
		Schemes: []string{"file"}, path: true,
		Forms:   [][2]string{{"file:DIR", "files in a directory"}},
		Options: func() any { return &filestore.Options{} },
		store: func(ctx context.Context, r Ref, log *slog.Logger) (state.Store, error) {
			o := *r.Options.(*filestore.Options)
			o.Logger = log
			return opened(filestore.OpenURL(ctx, r.URL, &o))
		},
	},
	{
		Schemes: []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix", "redis+unix"},
		Forms: [][2]string{
			{"redis://USER:PASSWORD@HOST:PORT/DB", "Redis or Valkey; rediss for TLS"},
			{"redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB", "the master that Sentinels name; rediss+sentinel for TLS"},
			{"redis+cluster://HOST:PORT,HOST:PORT", "a Redis Cluster; rediss+cluster for TLS"},
			{"unix:///PATH", "a socket of Redis"},
		},
		Options: func() any { return &redisstore.Options{} },
		check:   func(r Ref) error { return redisstore.CheckURL(r.URL, r.Options.(*redisstore.Options)) },
		store: func(ctx context.Context, r Ref, log *slog.Logger) (state.Store, error) {
			o := *r.Options.(*redisstore.Options)
			o.Logger = log
			redisstore.LogClient(log)
			return opened(redisstore.OpenURL(ctx, r.URL, &o))
		},
	},
	{
		Schemes: []string{"mongodb", "mongodb+srv"}, client: true,
		Forms: [][2]string{
			{"mongodb://USER:PASSWORD@HOST,HOST/DB.COLLECTION", "a collection of a MongoDB replica set, with the parameters of a connection string; or mongodb+srv"},
		},
		Options: func() any { return &mongostore.Options{} },
		check:   func(r Ref) error { return mongostore.CheckURL(r.Text, r.Options.(*mongostore.Options)) },
		store: func(ctx context.Context, r Ref, _ *slog.Logger) (state.Store, error) {
			return opened(mongostore.Open(ctx, r.Text, r.Options.(*mongostore.Options)))
		},
	},
	{
		Schemes: []string{"postgres", "postgresql"}, client: true,
		Forms:   [][2]string{{"postgres://USER:PASSWORD@HOST:PORT/DATABASE", "a table of PostgreSQL; sslmode and the like as for psql"}},
		Options: func() any { return &pgstore.Options{} },
		check:   func(r Ref) error { return pgstore.CheckURL(r.Text, r.Options.(*pgstore.Options)) },
		store: func(ctx context.Context, r Ref, _ *slog.Logger) (state.Store, error) {
			return opened(pgstore.Open(ctx, r.Text, r.Options.(*pgstore.Options)))
		},
		read: func(ctx context.Context, r Ref, _ *slog.Logger) (state.Store, string, error) {
			o := *r.Options.(*pgstore.Options)
			o.NoCreate = true
			s, err := pgstore.Open(ctx, r.Text, &o)
			if errors.Is(err, pgstore.ErrNoTable) {
				return missing{memstore.New()}, "the table isn't there; a start makes it", nil
			}
			st, err := opened(s, err)
			return st, "", err
		},
	},
	{
		Schemes: []string{"memory"}, bare: true,
		Forms:   [][2]string{{"memory:", "memory; the checkpoints are lost when the process ends"}},
		Options: func() any { return &struct{}{} },
		store: func(ctx context.Context, r Ref, _ *slog.Logger) (state.Store, error) {
			return opened(memstore.OpenURL(ctx, r.URL))
		},
		check: func(r Ref) error {
			_, err := memstore.OpenURL(context.Background(), r.URL)
			return err
		},
	},
}

func openNDJSON(ctx context.Context, r Ref, stdout io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
	o := *r.Options.(*ndjson.Options)
	o.Logger, o.Stdout = log, stdout
	u := *r.URL
	u.RawQuery = "" // its options are in o
	return ndjson.OpenURL(ctx, &u, &o)
}

// opened keeps a nil pointer from becoming an interface that is not nil.
func opened[S state.Store](s S, err error) (state.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
