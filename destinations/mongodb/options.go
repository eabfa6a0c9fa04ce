package mongodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// What Options can say.
const (
	// Stop refuses an event, Ignore passes over it, and Apply does in the mirror what was
	// done to the source.
	Stop   = "stop"
	Ignore = "ignore"
	Apply  = "apply"

	// Refuse stops the pipeline before a collection that has documents of somebody else's,
	// and Adopt takes them for the mirror's own.
	Refuse = "refuse"
	Adopt  = "adopt"
)

// Options say where to write. Nil *Options, and the zero value of each field, are the
// defaults.
//
// The fields that have a help tag can also be given as parameters of the URL, by their
// names in lower case with hyphens, beside those of the driver:
// mongodb://host/?target=copy.{collection}&replicaSet=rs0. URL parameters override the
// corresponding fields.
type Options struct {
	// Target is the pattern of the collections of the mirror: DATABASE.COLLECTION, in which
	// {database} and {collection} stand for the names of the source. The default is
	// "{database}.{collection}".
	Target string `help:"pattern of the collections to write" default:"{database}.{collection}" arg:"NAME"`

	// OnDrop is what becomes of the documents of a collection that is dropped or renamed:
	// [Stop] (the default) refuses the event, [Ignore] keeps them, and [Apply] deletes
	// them, or moves them to the collection of the new name. The collections themselves,
	// and their indexes, stay.
	OnDrop string `help:"what to do when a collection is dropped or renamed" default:"stop" oneof:"stop|ignore|apply" arg:"POLICY"`

	// Existing is what becomes of documents that a collection of the mirror has before the
	// mirror writes to it for the first time: [Refuse] (the default) stops the pipeline, and
	// [Adopt] takes them for an older state of the source's documents.
	Existing string `help:"what to do about documents that a collection to write has already" default:"refuse" oneof:"refuse|adopt" arg:"POLICY"`

	// Checkpoints is the collection of the checkpoints, DATABASE.COLLECTION. Two
	// collections beside it, with .targets and .touched after its name, record which
	// collection is the mirror of which, and what a copy in progress has written. The
	// default is "rigatoni.checkpoints".
	Checkpoints string `help:"collection of the checkpoints, DATABASE.COLLECTION" default:"rigatoni.checkpoints" arg:"NAME"`

	// CallTimeout and TransactionTimeout are those of [mongostore.Options].
	CallTimeout        time.Duration `help:"limit for each call about the checkpoint" default:"10s" min:"1ms" max:"10m"`
	TransactionTimeout time.Duration `help:"limit for a transaction; well below lease-ttl" default:"8s" min:"1ms" max:"1m"`

	// Logger receives log output. The default is slog.Default().
	Logger *slog.Logger
}

// complete fills in the defaults, and returns an ErrInvalid that names the field that is
// wrong.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if err := option.Complete("Options.", &c); err != nil {
		return c, invalid("%w", err)
	}
	if _, err := parsePattern(c.Target); err != nil {
		return c, invalid("Options.Target is %q, which %w", c.Target, err)
	}
	if db, coll, _ := strings.Cut(c.Checkpoints, "."); !isDatabase(db) || !isCollection(coll) {
		return c, invalid("Options.Checkpoints is %q; it must be DATABASE.COLLECTION, such as rigatoni.checkpoints", c.Checkpoints)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func (o *Options) store(client *mongo.Client) (*mongostore.Store, error) {
	db, coll, _ := strings.Cut(o.Checkpoints, ".")
	s, err := mongostore.New(client, db, coll, &mongostore.Options{CallTimeout: o.CallTimeout, TransactionTimeout: o.TransactionTimeout})
	if err != nil {
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	return s, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("mongodb: %w: %w", state.ErrInvalid, fmt.Errorf(format, args...))
}

// Open connects to the deployment that rawURL names:
// mongodb://user:password@host,host/?…, or mongodb+srv://…, a connection string of the
// driver's with the options of this package among its parameters. Users are looked for in
// the database admin, unless authSource names another one: the path of the URL is no part of
// the login. A path /DATABASE is short for target=DATABASE.{collection}.
//
// Open returns state.ErrInvalid for a URL or an option that is wrong, state.ErrUnavailable
// if no primary answers, and state.ErrRefused if one does and refuses.
func Open(ctx context.Context, rawURL string, o *Options) (*Destination, error) {
	d, err := connect(rawURL, o)
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx); err != nil {
		_ = d.Close() // it has no error
		return nil, err
	}
	return d, nil
}

// Look is [Open] for those who only look, as rigatoni check does: that the user lacks
// privileges is no error, so that Inspect can name all of them.
func Look(ctx context.Context, rawURL string, o *Options) (*Destination, error) {
	d, err := connect(rawURL, o)
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx); err != nil && !errors.As(err, new(*mongorights.Error)) {
		_ = d.Close() // it has no error
		return nil, err
	}
	return d, nil
}

// connect makes a destination with a client of its own.
func connect(rawURL string, o *Options) (*Destination, error) {
	co, opts, err := parseURL(rawURL, o)
	if err != nil {
		return nil, err
	}
	client, err := mongoclient.Connect(co)
	if err != nil {
		return nil, invalid("the URL is not a valid connection string")
	}
	d, err := New(client, &opts)
	if err != nil {
		mongoclient.Disconnect(client)
		return nil, err
	}
	d.owned = true
	return d, nil
}

// New makes a destination with a client of the caller's, which it doesn't disconnect. It
// does not connect. The error is state.ErrInvalid for an option that is wrong.
func New(client *mongo.Client, o *Options) (*Destination, error) {
	opts, err := o.complete()
	if err != nil {
		return nil, err
	}
	store, err := opts.store(client)
	if err != nil {
		return nil, err
	}
	return newDestination(client, store, opts), nil
}

// CheckURL reports what is wrong with the URL and the options together, without
// connecting: the error that [Open] would return, or nil.
func CheckURL(rawURL string, o *Options) error {
	_, _, err := parseURL(rawURL, o)
	return err
}

// parseURL takes the options of this package out of a URL, and overrides o with them. Its
// errors repeat no part of the URL.
func parseURL(raw string, o *Options) (*options.ClientOptions, Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	rest, query, _ := strings.Cut(raw, "?")
	scheme, rest, _ := strings.Cut(rest, "://")
	hosts, path, _ := strings.Cut(rest, "/")
	query, err := option.TakeFromRawQuery(&opts, query)
	if err == nil {
		err = takePath(&opts, path)
	}
	if err != nil {
		return nil, opts, invalid("%w", err)
	}
	co, err := mongostore.ClientOptions(scheme + "://" + hosts + "/?" + query)
	if err != nil {
		return nil, opts, fmt.Errorf("mongodb: %w", err)
	}
	opts, err = opts.complete()
	return co, opts, err
}

// takePath takes a database in the path of a URL for a short form of a target.
func takePath(o *Options, path string) error {
	db, err := url.PathUnescape(path)
	switch {
	case err != nil || strings.ContainsAny(db, "@/"):
		return errors.New("the URL's path is invalid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded")
	case db == "":
		return nil
	case !isDatabase(db):
		return errors.New("the URL's path is not the name of a database; for other collections than DATABASE.{collection} set target")
	case o.Target != "":
		return errors.New("the URL has a database, and target is set; leave out one of them")
	}
	o.Target = db + ".{collection}"
	return nil
}
