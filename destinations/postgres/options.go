package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// What Options can say.
const (
	// Mirror keeps a row for each document, and Log one for each event.
	Mirror = "mirror"
	Log    = "log"

	// Stop refuses an event, Ignore passes over it, Truncate deletes the rows of the
	// collection that it is about, and Replace writes U+FFFD for U+0000.
	Stop     = "stop"
	Ignore   = "ignore"
	Truncate = "truncate"
	Replace  = "replace"
)

// Options say what to write. Nil *Options, and the zero value of each field, are the
// defaults.
//
// The fields that have a help tag can also be given as parameters of the URL, by their
// names in lower case with hyphens, beside those of PostgreSQL:
// postgres://host/db?mode=log&sslmode=verify-full. URL parameters override the
// corresponding fields.
type Options struct {
	// Mode is [Mirror], a row for each document, or [Log], a row for each event. The
	// default is Mirror.
	Mode string `help:"a row for each document, or one for each event" default:"mirror" oneof:"mirror|log" arg:"MODE"`

	// Table is the pattern of the names of the tables: SCHEMA.TABLE or TABLE, in which
	// {collection} and {database} stand for the names of MongoDB. Everything else is
	// taken as it is written, upper case too. A name that is longer than the 63 bytes
	// of PostgreSQL is cut, and ends with "~" and ten digits of its SHA-256. The
	// default is "public.{collection}".
	Table string `help:"pattern of the tables' names; {database} is replaced, too" default:"public.{collection}" arg:"NAME"`

	// Format is the form of the column doc: [extjson.Simplified], plain JSON for SQL
	// (the default), or [extjson.Relaxed], which keeps the types of BSON. To change it
	// beside rows is refused.
	Format Format `help:"plain JSON, or Extended JSON" default:"simplified" want:"simplified or relaxed" oneof:"simplified|relaxed" arg:"FORM"`

	// SoftDelete keeps the row of a document that is deleted, with "delete" in the
	// column op. It is for [Mirror]. To change it beside rows is refused.
	SoftDelete bool `help:"keep the rows of deleted documents, marked by their op"`

	// OnDrop is what becomes of the rows of a collection that is dropped or renamed, or
	// whose database is dropped: [Stop] (the default) refuses the event, [Ignore] keeps
	// the rows, and [Truncate], which a log can't have, deletes them.
	OnDrop string `help:"what to do when a collection is dropped or renamed" default:"stop" oneof:"stop|ignore|truncate" arg:"POLICY"`

	// OnNUL is what becomes of the character U+0000, which jsonb can't hold: [Replace]
	// (the default) writes U+FFFD, and [Stop] refuses the event.
	OnNUL string `help:"what to do about the character U+0000, which jsonb can't hold" default:"replace" oneof:"replace|stop" arg:"POLICY"`

	// Checkpoints is the table of the checkpoints, as [pgstore.Options].Table has it.
	// A table rigatoni_tables in the same schema records which table belongs to which
	// collection. The default is "rigatoni_checkpoints".
	Checkpoints string `help:"table of the checkpoints, SCHEMA.TABLE or TABLE" default:"rigatoni_checkpoints" arg:"NAME"`

	// CallTimeout is [pgstore.Options].CallTimeout. It also bounds how long a
	// transaction waits for a lock, a table's say, before the batch is tried again. The
	// default is 5s.
	CallTimeout time.Duration `help:"limit for waiting for a lock, and for each call about the checkpoint" default:"5s" min:"1ms" max:"10m"`

	// NoCreate keeps [Open] from creating the table of the checkpoints, for programs
	// that only look. Where it is missing, Open returns [pgstore.ErrNoTable] and all
	// the same the destination, which CheckOpening can be asked of.
	NoCreate bool

	// Logger receives log output. The default is slog.Default().
	Logger *slog.Logger
}

// A Format is a form of JSON that the column doc can have. The zero value is the
// default, the simplified one.
type Format uint8

// The forms of package extjson.
const (
	Simplified Format = iota
	Relaxed
)

// UnmarshalText sets f to the form named text.
func (f *Format) UnmarshalText(text []byte) error {
	switch string(text) {
	case "simplified":
		*f = Simplified
	case "relaxed":
		*f = Relaxed
	default:
		return fmt.Errorf("postgres: %q is not a format; use simplified or relaxed", text)
	}
	return nil
}

// MarshalText returns the name of f.
func (f Format) MarshalText() ([]byte, error) { return f.mode().MarshalText() }

func (f Format) mode() extjson.Mode {
	if f == Relaxed {
		return extjson.Relaxed
	}
	return extjson.Simplified
}

// complete fills in the defaults, and returns an ErrInvalid that names the field that
// is wrong.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if err := option.Complete("Options.", &c); err != nil {
		return c, invalid("%w", err)
	}
	_, err := parsePattern(c.Table)
	switch {
	case err != nil:
		return c, invalid("Options.Table is %q, which %w", c.Table, err)
	case c.Format > Relaxed:
		return c, invalid("Options.Format is %d; it must be Simplified or Relaxed", c.Format)
	case c.Checkpoints == catalogName || strings.HasSuffix(c.Checkpoints, "."+catalogName):
		return c, invalid("Options.Checkpoints is %q, which is the name of the table beside it that records which table belongs to which collection; name another one", c.Checkpoints)
	case c.Mode == Log && c.SoftDelete:
		return c, invalid("Options.SoftDelete is for a mirror; a log has a row for each delete")
	case c.Mode == Log && c.OnDrop == Truncate:
		return c, invalid("Options.OnDrop is truncate, and a log keeps all its rows; it must be stop or ignore")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// form is the mode, and which options decide on the form of the rows, where they aren't
// the defaults: "mirror (format: relaxed, soft-delete: true)". The catalog records it.
func (o *Options) form() string {
	var more []string
	if o.Format != Simplified {
		more = append(more, "format: "+o.Format.mode().String())
	}
	if o.SoftDelete {
		more = append(more, "soft-delete: true")
	}
	if more == nil {
		return o.Mode
	}
	return o.Mode + " (" + strings.Join(more, ", ") + ")"
}

func (o *Options) store() *pgstore.Options {
	return &pgstore.Options{Table: o.Checkpoints, CallTimeout: o.CallTimeout, NoCreate: o.NoCreate}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("postgres: %w: %w", state.ErrInvalid, fmt.Errorf(format, args...))
}

// CheckURL reports what is wrong with the URL and the options together, without
// connecting: the error that [Open] would return, or nil.
func CheckURL(url string, o *Options) error {
	_, _, err := parseURL(url, o)
	return err
}

// parseURL takes the options of this package out of a URL, and overrides o with them.
func parseURL(text string, o *Options) (*pgxpool.Config, Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	rest, err := split(text, &opts)
	if err != nil {
		return nil, opts, invalid("%w", err)
	}
	config, err := pgstore.PoolConfig(rest)
	if err != nil {
		return nil, opts, fmt.Errorf("postgres: %w", err)
	}
	if opts, err = opts.complete(); err != nil {
		return nil, opts, err
	}
	_, err = pgstore.New(nil, opts.store())
	return config, opts, err
}

// split sets the options that are among the parameters of a URL, and returns it without
// them.
func split(text string, opts *Options) (rest string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("the URL can't be read; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and characters such as @ / ? # % in the password as %40 and the like")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", errors.New("the URL's parameters can't be read; write characters such as & and % in them as %26 and the like")
	}
	if err := option.TakeFromQuery(opts, query); err != nil {
		return "", err
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// Open connects to the server that url names, and creates the table of the checkpoints
// if it is missing. url is one that pgx accepts: postgres://user:password@host:port/database,
// with several hosts, sslmode and the like, parameters of the pool (pool_max_conns),
// and the options of this package. A pipeline uses up to three connections at once for
// each stream.
//
// Open returns state.ErrInvalid for a URL or an option that is wrong,
// state.ErrUnavailable if no server answers that accepts writes, and state.ErrRefused
// if one does and refuses.
func Open(ctx context.Context, url string, o *Options) (*Destination, error) {
	config, opts, err := parseURL(url, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, invalid("%w", err)
	}
	d, err := New(pool, &opts)
	if err == nil {
		d.owned = true
		err = d.store.Prepare(ctx)
	}
	if err != nil && !errors.Is(err, pgstore.ErrNoTable) {
		pool.Close()
		return nil, err
	}
	return d, err
}

// New makes a destination with a pool of the caller's, which it doesn't close. Nothing
// is created before the pipeline runs. The error is state.ErrInvalid for an option that
// is wrong.
func New(pool *pgxpool.Pool, o *Options) (*Destination, error) {
	opts, err := o.complete()
	if err != nil {
		return nil, err
	}
	store, err := pgstore.New(pool, opts.store())
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	names, _ := parsePattern(opts.Table) // complete has done it before
	return &Destination{pool: pool, store: store, opts: opts, names: names, catalog: catalogOf(opts.Checkpoints)}, nil
}

// catalogOf is the name of the table that records which table belongs to which
// collection, in the schema of the checkpoints.
func catalogOf(checkpoints string) string {
	if schema, _, ok := strings.Cut(checkpoints, "."); ok {
		return quoteName(schema) + "." + catalogName
	}
	return catalogName
}
