package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Open opens the store at a URL: redis://user:password@host:port/database, or
// rediss:// for TLS with the system's certificate authorities. User, password, port
// (6379) and database (0) may be left out; Options says which parameters
// may follow. Nil options are the defaults.
//
// It fails within [Options.ConnectTimeout] if Redis can't be reached or does not
// answer ([state.ErrUnavailable]); if the password is wrong, or the server is one
// that this store does not use: older than 6.2, part of a Cluster, a Sentinel, a
// replica, or with an eviction policy of allkeys-* ([state.ErrRefused]); and if
// URL or options are wrong ([state.ErrInvalid]). Neither the user nor the password is
// in any error.
func Open(ctx context.Context, rawURL string, o *Options) (*Store, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, openError(err)
	}
	return OpenURL(ctx, u, o)
}

// OpenURL is [Open] for a URL that is parsed already.
func OpenURL(ctx context.Context, u *url.URL, o *Options) (*Store, error) {
	r, err := target(u)
	if err != nil {
		return nil, openError(err)
	}
	opts, given, err := deref(o).apply(u)
	if err != nil {
		return nil, openError(err)
	}
	if opts, err = opts.complete(given); err != nil {
		return nil, openError(err)
	}
	s := newStore(redis.NewClient(clientOptions(r, opts)), true, nameOf(r), opts)
	if err := s.open(ctx); err != nil {
		return nil, openError(errors.Join(err, s.client.Close()))
	}
	return s, nil
}

// FromClient makes a store of a client that stays the caller's: Close does not
// close it. Connections, timeouts and credentials are the client's own, so
// PoolSize, ReadTimeout and WriteTimeout must be zero; a context's end is heeded in any
// case. What the client would repeat by itself it does not repeat for the store.
//
// A Cluster or a Ring is refused ([errors.ErrUnsupported]). The server is checked
// as by [Open], within ConnectTimeout.
func FromClient(ctx context.Context, client redis.UniversalClient, o *Options) (*Store, error) {
	opts := deref(o)
	if opts.PoolSize != 0 || opts.ReadTimeout != 0 || opts.WriteTimeout != 0 {
		return nil, openError(fmt.Errorf("%w: PoolSize, ReadTimeout and WriteTimeout are the client's own here; leave them zero", state.ErrInvalid))
	}
	opts, err := opts.complete(nil)
	if err != nil {
		return nil, openError(err)
	}
	c, ok := client.(*redis.Client)
	if !ok {
		return nil, openError(fmt.Errorf("%w: a %T; the client of one server is needed, *redis.Client", errors.ErrUnsupported, client))
	}
	s := newStore(c, false, nameOf(c.Options()), opts)
	s.apart = !c.Options().ContextTimeoutEnabled
	if err := s.open(ctx); err != nil {
		return nil, openError(err)
	}
	return s, nil
}

func deref(o *Options) Options {
	if o == nil {
		return Options{}
	}
	return *o
}

func openError(err error) error {
	return &state.Error{Op: "open", Store: "redisstore", Err: err}
}

func nameOf(r *redis.Options) string { return fmt.Sprintf("%s, database %d", r.Addr, r.DB) }

// clientOptions turn off what go-redis does by itself: it would repeat what is
// not safe to repeat.
func clientOptions(r *redis.Options, o Options) *redis.Options {
	r.MaxRetries = -1
	r.Dialer = dialer(r.TLSConfig, o.ConnectTimeout)
	r.ContextTimeoutEnabled = true
	r.PoolSize, r.MaxActiveConns = o.PoolSize, o.PoolSize
	r.PipelinePoolSize = -1
	r.PoolTimeout = o.ReadTimeout
	r.DialTimeout = o.ConnectTimeout
	r.ReadTimeout, r.WriteTimeout = o.ReadTimeout, o.WriteTimeout
	// The scripts' answers need nothing of RESP3, nor of the notifications in it.
	r.Protocol = 2
	r.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	r.DisableIdentity = true
	return r
}

// open looks at the server, once, within ConnectTimeout.
func (s *Store) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ConnectTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.inspect(ctx) }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil && errors.Is(err, state.ErrUnavailable) {
			return s.late(ctx)
		}
		return err
	case <-ctx.Done():
		return s.late(ctx)
	}
}

// late says why opening took too long.
func (s *Store) late(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s does not answer (ConnectTimeout %v): %w", state.ErrUnavailable, s.name, s.opts.ConnectTimeout, ctx.Err())
	}
	return interrupted(ctx, nil)
}

func (s *Store) inspect(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		if classify(err) == final {
			return describe(err)
		}
		return unavailable(1, err)
	}
	text, err := s.client.Info(ctx).Result()
	switch {
	case err == nil:
		return s.judge(ctx, parseInfo(text))
	case classify(err) == final:
		s.opts.Logger.WarnContext(ctx, "redisstore: the server does not let this user read INFO, so that its eviction policy is unknown; "+
			"make sure that it is noeviction", "server", s.name, "error", clean(err).Error())
		return nil
	}
	return unavailable(1, err)
}

// judge refuses a server on which checkpoints would not be kept.
func (s *Store) judge(ctx context.Context, info map[string]string) error {
	policy := info["maxmemory_policy"]
	switch mode := info["redis_mode"]; {
	case mode == "cluster" || mode == "sentinel":
		return fmt.Errorf("%w: %s is in %s mode, and this store uses one plain server", state.ErrRefused, s.name, mode)
	case info["role"] == "slave":
		return fmt.Errorf("%w: %s is a replica and takes no writes; give the address of its master", state.ErrRefused, s.name)
	case olderThan(info["redis_version"], 6, 2):
		return fmt.Errorf("%w: %s is Redis %s, and this store needs 6.2 or later", state.ErrRefused, s.name, info["redis_version"])
	case strings.HasPrefix(policy, "allkeys-"):
		return fmt.Errorf("%w: %s has maxmemory-policy %s, which throws checkpoints away when its memory is full; set it to noeviction",
			state.ErrRefused, s.name, policy)
	case policy == "":
		s.opts.Logger.WarnContext(ctx, "redisstore: the server does not tell its eviction policy; make sure that it is noeviction", "server", s.name)
	case strings.HasPrefix(policy, "volatile-") && s.opts.TTL > 0:
		s.opts.Logger.WarnContext(ctx, "redisstore: the server's eviction policy may throw away checkpoints that have a TTL before it runs out; "+
			"set maxmemory-policy to noeviction", "server", s.name, "policy", policy)
	}
	return nil
}

// parseInfo reads the answer of INFO: lines of name:value.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// olderThan tells whether a version is below major.minor; one that can't be read is not.
func olderThan(version string, major, minor int) bool {
	var x, y int
	if _, err := fmt.Sscanf(version, "%d.%d", &x, &y); err != nil {
		return false
	}
	return x < major || x == major && y < minor
}
