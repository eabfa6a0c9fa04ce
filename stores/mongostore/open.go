package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Options configure a store. Nil *Options, and the zero value of each field, are the
// defaults.
type Options struct {
	// CallTimeout limits each call, and [Open] as a whole, if the context doesn't end
	// before. The default is 10s.
	CallTimeout time.Duration `help:"limit for each call of the store" default:"10s" min:"1ms" max:"10m"`
	// TransactionTimeout limits a transaction of [Transactions]. The default is 8s: the lease
	// can't be renewed while one is open, so it has to be well below the lease's time.
	TransactionTimeout time.Duration
}

func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if err := option.Complete("Options.", &c); err != nil {
		return c, fmt.Errorf("%w: %w", state.ErrInvalid, err)
	}
	if c.TransactionTimeout < 0 {
		return c, fmt.Errorf("%w: Options.TransactionTimeout is %v; it must be positive, or 0 for the default (8s)", state.ErrInvalid, c.TransactionTimeout)
	}
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, 8*time.Second)
	return c, nil
}

// Open opens the store at a URL: mongodb://user:password@host,host/db.collection, or
// mongodb+srv://…, with the parameters of a connection string. Users are looked for in the
// database admin, unless the parameter authSource names another one.
//
// Open connects. It fails with [state.ErrUnavailable] if no primary responds in time; with
// [state.ErrRefused] if the password is wrong, a right is missing, or the deployment or
// the collection is unsuitable; and with [state.ErrInvalid] if the URL is. No error has
// the user or the password.
func Open(ctx context.Context, rawURL string, o *Options) (*Store, error) {
	opts, co, db, coll, err := parse(rawURL, o)
	if err != nil {
		return nil, openError(err)
	}
	client, err := mongoclient.Connect(co)
	if err != nil {
		return nil, openError(invalidURI(err))
	}
	s := newStore(client, db, coll, opts)
	s.owned = true
	s.name = strings.Join(co.Hosts, ",") + "/" + s.name
	if err := s.open(ctx); err != nil {
		_ = s.Close() // it has no error
		return nil, openError(err)
	}
	return s, nil
}

// CheckURL returns the error that [Open] has for an invalid URL and for invalid options,
// and connects to nothing.
func CheckURL(rawURL string, o *Options) error {
	if _, _, _, _, err := parse(rawURL, o); err != nil {
		return openError(err)
	}
	return nil
}

// FromClient returns a store that uses a client of the caller; Close does not disconnect
// it. It checks the deployment and the collection as [Open] does. The client's read and
// write concern, read preference and codecs don't matter; its retryable writes must not be
// off.
func FromClient(ctx context.Context, client *mongo.Client, db, collection string, o *Options) (*Store, error) {
	s, err := New(client, db, collection, o)
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, openError(err)
	}
	return s, nil
}

// New is [FromClient] without a connection: the deployment and the collection are checked
// by [Store.Check], or not at all.
func New(client *mongo.Client, db, collection string, o *Options) (*Store, error) {
	opts, err := o.complete()
	if err == nil && (client == nil || db == "" || collection == "") {
		err = fmt.Errorf("%w: the client is nil, or the database or the collection has no name", state.ErrInvalid)
	}
	if err != nil {
		return nil, openError(err)
	}
	return newStore(client, db, collection, opts), nil
}

// Check connects, and checks the deployment, the collection and the rights as [Open] does.
func (s *Store) Check(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return openError(err)
	}
	return nil
}

func newStore(client *mongo.Client, db, coll string, o Options) *Store {
	c := client.Database(db).Collection(coll, options.Collection().
		SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary()).SetWriteConcern(writeconcern.Majority()).
		// Not the client's: it may have other codecs.
		SetRegistry(bson.NewRegistry()).SetBSONOptions(&options.BSONOptions{}))
	local := c.Clone(options.Collection().SetReadConcern(readconcern.Local()))
	return &Store{client: client, coll: c, local: local, name: db + "." + coll, opts: o}
}

func openError(err error) error {
	return &state.Error{Op: "open", Store: "mongostore", Err: err}
}

// parse returns what a URL says. Its errors repeat no part of it.
func parse(raw string, o *Options) (opts Options, co *options.ClientOptions, db, coll string, err error) {
	if o != nil {
		opts = *o
	}
	refuse := func(format string, args ...any) (Options, *options.ClientOptions, string, string, error) {
		return opts, nil, "", "", fmt.Errorf("%w: "+format, append([]any{state.ErrInvalid}, args...)...)
	}
	scheme, rest, _ := strings.Cut(raw, "://")
	if scheme != "mongodb" && scheme != "mongodb+srv" {
		return refuse("the URL must begin with mongodb:// or mongodb+srv://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, path, _ := strings.Cut(rest, "/")
	if path, err = url.PathUnescape(path); err != nil || strings.ContainsAny(path, "@/") {
		return refuse("the URL's path is invalid; in the user name and the password, the characters : / ? # [ ] @ %% must be percent-encoded")
	}
	db, coll, _ = strings.Cut(path, ".")
	if db == "" || coll == "" {
		return refuse("the URL doesn't name the collection; write %s://HOST/DATABASE.COLLECTION", scheme)
	}
	if query, err = option.TakeFromRawQuery(&opts, query); err != nil {
		return refuse("%w", err)
	}
	if opts, err = opts.complete(); err != nil {
		return opts, nil, "", "", err
	}
	if co, err = ClientOptions(scheme + "://" + hosts + "/?" + query); err != nil {
		return opts, nil, "", "", err
	}
	return opts, co, db, coll, nil
}

// ClientOptions are the options of a client for a connection string of the driver's, for
// programs that share a client with a store. The error is state.ErrInvalid, and quotes
// nothing of the string.
func ClientOptions(uri string) (*options.ClientOptions, error) {
	if !strings.HasPrefix(uri, "mongodb://") && !strings.HasPrefix(uri, "mongodb+srv://") {
		return nil, fmt.Errorf("%w: the URL must begin with mongodb:// or mongodb+srv://", state.ErrInvalid)
	}
	co := options.Client().ApplyURI(uri)
	if err := co.Validate(); err != nil {
		return nil, invalidURI(err)
	}
	if co.AppName == nil {
		co.SetAppName("rigatoni")
	}
	if w := co.RetryWrites; w != nil && !*w {
		return nil, fmt.Errorf("%w: the URL has retryWrites=false; a write whose answer is lost could then not be repeated", state.ErrInvalid)
	}
	return co, nil
}

// invalidURI is the error for a connection string that the driver refuses. The driver's
// message may quote a part of the password.
func invalidURI(err error) error {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return fmt.Errorf("%w: the servers of mongodb+srv:// can't be looked up; check the host name, and the network", state.ErrUnavailable)
	}
	return fmt.Errorf("%w: the URL is not a valid connection string; in the user name and the password, the characters : / ? # [ ] @ %% must be percent-encoded", state.ErrInvalid)
}

// open checks the deployment, the collection and the rights.
func (s *Store) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	h, err := s.hello(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	if h.SetName == "" && h.Msg != "isdbgrid" {
		return fmt.Errorf("%w: the server is a standalone one; the store needs a replica set (one node is enough: start mongod with --replSet) or a sharded cluster", state.ErrRefused)
	}
	if err := s.checkRights(ctx); err != nil {
		return s.explain(ctx, err)
	}
	if err := s.checkCollection(ctx); err != nil {
		return s.explain(ctx, err)
	}
	if _, err := s.readCommitted(ctx, ""); err != nil {
		return s.explain(ctx, err)
	}
	return s.explain(ctx, s.try(ctx))
}

// checkRights names the privileges that the user lacks, as far as the server says.
func (s *Store) checkRights(ctx context.Context) error {
	db := s.coll.Database().Name()
	err := mongorights.Check(ctx, s.client, mongorights.Store(db, s.coll.Name()))
	if errors.As(err, new(*mongorights.Error)) {
		return fmt.Errorf("%w; the role readWrite on the database %q has all that the store needs", err, db)
	}
	return err
}

// A hello is what a server says of itself.
type hello struct {
	SetName   string    `bson:"setName"`
	Msg       string    `bson:"msg"`
	LocalTime time.Time `bson:"localTime"`
}

func (s *Store) hello(ctx context.Context) (h hello, err error) {
	err = s.coll.Database().RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}, options.RunCmd().SetReadPreference(readpref.Primary())).Decode(&h)
	return h, err
}

func (s *Store) checkCollection(ctx context.Context) error {
	specs, err := s.coll.Database().ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: s.coll.Name()}})
	if err != nil || len(specs) == 0 {
		return err
	}
	kind := specs[0].Type
	if capped, _ := specs[0].Options.Lookup("capped").BooleanOK(); capped {
		kind = "capped collection"
	}
	if kind != "collection" {
		return fmt.Errorf("%w: %s.%s is a %s; the store needs an ordinary collection", state.ErrRefused, s.coll.Database().Name(), s.coll.Name(), kind)
	}
	if _, has := specs[0].Options.Lookup("collation").DocumentOK(); has {
		return fmt.Errorf("%w: %s.%s has a collation, which may take two keys for one; use a collection without one", state.ErrRefused, s.coll.Database().Name(), s.coll.Name())
	}
	return nil
}

// try does each kind of write, and changes nothing: no document has this _id.
func (s *Store) try(ctx context.Context) error {
	none := bson.D{{Key: "_id", Value: ""}}
	if _, err := s.coll.UpdateOne(ctx, none, bson.D{{Key: "$set", Value: bson.D{{Key: "rev", Value: nil}}}}); err != nil {
		return err
	}
	_, err := s.coll.DeleteOne(ctx, none)
	return err
}

// Ping implements [state.Pinger]. It writes, to no document.
func (s *Store) Ping(ctx context.Context) error {
	return s.fail("ping", "", s.call(ctx, s.try))
}

// call calls f within the timeout, and explains its error.
func (s *Store) call(ctx context.Context, f func(context.Context) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	return s.explain(ctx, f(ctx))
}
