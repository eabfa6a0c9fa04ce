package changestream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
)

// A Source opens change streams. It is safe for concurrent use.
type Source struct {
	client *mongo.Client
	owned  bool // Close disconnects it
	opts   Options
	log    *slog.Logger
	names  []string
	scopes map[string]scope
	limits limits

	arrival arrival

	warnWeak     sync.Once
	noStartAfter atomic.Bool // the server was seen not to know startAfter
	noSplit      atomic.Bool // nor the stage that splits large events
	timed        atomic.Bool // the client was seen to limit its calls itself
}

var (
	_ rigatoni.Snapshotter = (*Source)(nil)
	_ rigatoni.Scoper      = (*Source)(nil)
)

// New returns a source that reads through client; nil options are the defaults.
// The client stays the caller's, who must not disconnect it while streams are
// open. New sends nothing to the server.
func New(client *mongo.Client, o *Options) (*Source, error) {
	if client == nil {
		return nil, errors.New("changestream: the client is nil")
	}
	s, err := newSource(o)
	if err != nil {
		return nil, err
	}
	s.client = client
	if n := len(s.names); n >= defaultPoolSize {
		s.log.Warn("each stream waits on a connection of its own: with a smaller maxPoolSize of the client (100 by default) they wait for one another",
			"streams", n, "max_pool_size_needed", n+poolReserve)
	}
	return s, nil
}

// defaultPoolSize is the driver's, and poolReserve how many connections are needed beside
// one for each stream, which opening and asking for the history use.
const (
	defaultPoolSize = 100
	poolReserve     = 10
)

// newSource returns a source that has no client yet.
func newSource(o *Options) (*Source, error) {
	opts, err := o.completed()
	if err != nil {
		return nil, err
	}
	pipeline, err := newFilter(opts.Pipeline)
	if err != nil {
		return nil, fmt.Errorf("changestream: Options.Pipeline%w", err)
	}
	s := &Source{opts: opts, log: opts.Logger, limits: defaultLimits}
	s.names, s.scopes = scopes(opts, pipeline)
	return s, nil
}

// Streams names the streams: the collections with Options.OneEach, else one "".
func (s *Source) Streams() []string { return slices.Clone(s.names) }

// Scope is what a stream has, by the options.
func (s *Source) Scope(stream string) rigatoni.Scope {
	of := s.scopes[stream]
	return rigatoni.Scope{
		Database: of.database, Collections: slices.Clone(of.collections), Operations: slices.Clone(of.operations),
		FullDocument: cmp.Or(s.opts.FullDocument, "default"),
	}
}

// Open opens a stream, as rigatoni.Source says. A server that can't be reached
// is an error after the client's serverSelectionTimeoutMS (30 s by default).
//
// Open refuses a checkpoint in the server's future, and a time that is more than a
// minute in it: the server would open the stream and skip all events until then
// without an error. It waits for a few seconds if it is only a moment.
func (s *Source) Open(ctx context.Context, name string, at rigatoni.Start) (rigatoni.Stream, error) {
	sc, ok := s.scopes[name]
	if !ok {
		return nil, fmt.Errorf("changestream: there is no stream %q; there are %q", name, s.names)
	}
	s.greet(ctx)
	dep, err := s.identify(ctx)
	if err != nil {
		return nil, sc.refused("connect to the server", err)
	}
	fp := fingerprint{deployment: dep.deployment, scope: sc}
	if at.Checkpoint != nil {
		fp.deployment = fp.deployment.with(at.Checkpoint.Fingerprint)
		dep.now = s.catchUp(ctx, positionOf(*at.Checkpoint).ClusterTime, dep.now)
	}
	from, err := resolve(at, fp, dep.now)
	if err != nil {
		return nil, err
	}
	if err := s.checkNames(ctx, sc); err != nil {
		return nil, err
	}
	copying, err := s.copyOf(ctx, sc, at)
	if err != nil {
		return nil, err
	}
	fp.scope.copying = copying != nil
	r := newReader(s, fp, name)
	r.copying = copying != nil
	if err := r.open(ctx, from); err != nil {
		return nil, err
	}
	s.arrival.over(s.log)
	if copying == nil {
		return newStream(r), nil
	}
	st, err := copying.open(ctx, newStream(r))
	if err != nil {
		return nil, errors.Join(err, r.close(ctx, false))
	}
	return st, nil
}

// Close disconnects the client if the source made it itself (see [Open]), for half a
// second at most: the driver may wait for the reply to a request that its monitor has
// just sent, which the server gives after ten seconds. What is left ends by itself.
// Streams must be closed before.
func (s *Source) Close(ctx context.Context) error {
	if !s.owned {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.disconnect)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.client.Disconnect(ctx) }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, mongo.ErrClientDisconnected) && ctx.Err() == nil {
			return fmt.Errorf("changestream: disconnect: %w", err)
		}
	case <-ctx.Done():
	}
	return nil
}
