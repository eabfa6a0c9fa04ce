package backend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

var postgresDestination = &Kind{
	Schemes: []string{"postgres", "postgresql"}, client: true, Checkpoints: true,
	Forms: [][2]string{{"postgres://USER:PASSWORD@HOST:PORT/DATABASE",
		"tables of PostgreSQL, exactly once; there is no store, since the checkpoints are kept in a table beside them; sslmode and the like as for psql"}},
	Options:        func() any { return &postgres.Options{} },
	NeedsDocuments: func(Ref) bool { return true },
	check:          func(r Ref) error { return postgres.CheckURL(r.Text, r.Options.(*postgres.Options)) },
	deliver: func(ctx context.Context, r Ref, _ io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
		o := *r.Options.(*postgres.Options)
		o.Logger = log
		d, err := postgres.Open(ctx, r.Text, &o)
		if err != nil {
			return nil, err
		}
		return d, nil
	},
	look: func(ctx context.Context, r Ref, log *slog.Logger) (rigatoni.Destination, string, error) {
		o := *r.Options.(*postgres.Options)
		o.Logger, o.NoCreate = log, true
		d, err := postgres.Open(ctx, r.Text, &o)
		switch {
		case errors.Is(err, pgstore.ErrNoTable):
			return unused{d, missing{memstore.New()}}, "answers", nil
		case err != nil:
			return nil, "", err
		}
		return d, "answers", nil
	},
	inspect: inspectPostgres,
}

func inspectPostgres(ctx context.Context, opened rigatoni.Destination, scopes []rigatoni.Scope) (all Inspection, err error) {
	d, ok := opened.(interface {
		Inspect(context.Context, *rigatoni.Scope) (postgres.Report, error)
	})
	if !ok {
		return all, errors.ErrUnsupported
	}
	for _, scope := range scopes {
		r, err := d.Inspect(ctx, &scope)
		if err != nil {
			return all, err
		}
		all.User = r.User
		for _, right := range r.Rights {
			if one := (Right{right.Name, right.For, true, right.Granted}); !slices.Contains(all.Rights, one) {
				all.Rights = append(all.Rights, one)
			}
		}
		for _, table := range r.Missing {
			if !slices.Contains(all.Missing, table) {
				all.Missing = append(all.Missing, table)
			}
		}
	}
	return all, nil
}

// unused is a destination that nothing was ever delivered to. It is only looked at.
type unused struct {
	*postgres.Destination
	none state.Store
}

func (u unused) Checkpoints() state.Store { return u.none }

var mongoDestination = &Kind{
	Schemes: []string{"mongodb", "mongodb+srv"}, client: true, Checkpoints: true,
	Forms: [][2]string{{"mongodb://USER:PASSWORD@HOST,HOST/DATABASE",
		"collections of another MongoDB replica set or database, exactly once; there is no store, since the checkpoints are kept beside them; or mongodb+srv"}},
	Options:        func() any { return &mongodb.Options{} },
	NeedsDocuments: func(Ref) bool { return true },
	check:          func(r Ref) error { return mongodb.CheckURL(r.Text, r.Options.(*mongodb.Options)) },
	deliver:        openMongoDB,
	look: func(ctx context.Context, r Ref, log *slog.Logger) (rigatoni.Destination, string, error) {
		o := *r.Options.(*mongodb.Options)
		o.Logger = log
		d, err := mongodb.Look(ctx, r.Text, &o)
		if err != nil {
			return nil, "", err
		}
		return d, "answers", nil
	},
	inspect: inspectMongoDB,
}

func inspectMongoDB(ctx context.Context, opened rigatoni.Destination, scopes []rigatoni.Scope) (all Inspection, err error) {
	d, ok := opened.(*mongodb.Destination)
	if !ok {
		return all, errors.ErrUnsupported
	}
	var of []*rigatoni.Scope
	for _, scope := range scopes {
		of = append(of, &scope)
	}
	r, err := d.Inspect(ctx, of...)
	if err != nil {
		return all, err
	}
	all.User, all.Grant = r.User, r.Grant
	for _, right := range r.Rights {
		all.Rights = append(all.Rights, Right(right))
	}
	return all, nil
}

func openMongoDB(ctx context.Context, r Ref, _ io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
	o := *r.Options.(*mongodb.Options)
	o.Logger = log
	d, err := mongodb.Open(ctx, r.Text, &o)
	if err != nil {
		return nil, err
	}
	return d, nil
}
