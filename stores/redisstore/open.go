package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Open opens the store at a URL:
//
//	redis://user:password@host:6379/0                       one server
//	unix:///run/redis.sock?db=0                             one server, by its Unix socket
//	redis+sentinel://user:password@s1:26379,s2:26379/mymaster/0
//	redis+cluster://user:password@a:7000,b:7001
//
// With rediss instead of redis the connections use TLS, with the certificate
// authorities of the system or of the options. User and password are those of Redis;
// those of the Sentinels are parameters. redis+unix is another name for unix; as in
// go-redis and redis-py, user and password are before the path:
// unix://user:password@/run/redis.sock. User, password, port and database are
// optional. [Options] documents the parameters, and the fields to use with "" for the
// URL.
//
// Open fails within [Options.ConnectTimeout]: with [state.ErrUnavailable] if Redis is
// unreachable or doesn't respond, after [Options.MaxRetries] retries; with
// [state.ErrRefused] if the password is wrong, the user lacks a right that every
// operation may need, or a server is unsuitable (older than 6.2, a replica, of another
// kind than the URL says, or with an eviction policy of allkeys-*; in a Cluster, any
// master); and with [state.ErrInvalid] if URL or options are invalid. No error has the
// user or the password.
func Open(ctx context.Context, rawURL string, o *Options) (*Store, error) {
	if rawURL == "" {
		return openWith(ctx, deref(o), false)
	}
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, openError(err)
	}
	return OpenURL(ctx, u, o)
}

// OpenURL is [Open] for a parsed URL. Several hosts are in u.Host with commas
// between them; url.Parse refuses some of those.
func OpenURL(ctx context.Context, u *url.URL, o *Options) (*Store, error) {
	opts, err := fromURL(u, o)
	if err != nil {
		return nil, openError(err)
	}
	return openWith(ctx, opts, true)
}

// CheckURL returns the error that [OpenURL] has for an invalid URL and for invalid
// options, and connects to nothing.
func CheckURL(u *url.URL, o *Options) error {
	opts, err := fromURL(u, o)
	if err == nil {
		err = opts.checkTarget(true)
	}
	if err == nil {
		opts, err = opts.complete()
	}
	if err == nil {
		_, err = opts.tlsConfig()
	}
	if err != nil {
		return openError(err)
	}
	return nil
}

// fromURL returns the options with what the URL says.
func fromURL(u *url.URL, o *Options) (Options, error) {
	opts, err := deref(o).from(u)
	if err != nil {
		return opts, err
	}
	return opts.apply(u)
}

// openWith opens the store that the options describe.
func openWith(ctx context.Context, o Options, fromURL bool) (*Store, error) {
	if err := o.checkTarget(fromURL); err != nil {
		return nil, openError(err)
	}
	opts, err := o.complete()
	if err != nil {
		return nil, openError(err)
	}
	s, err := connect(opts)
	if err != nil {
		return nil, openError(err)
	}
	if err := s.open(ctx); err != nil {
		return nil, openError(errors.Join(err, s.disconnect()))
	}
	return s, nil
}

// FromClient returns a store that uses a client of the caller; Close does not close
// the client. It is a *redis.Client, of one server or of the master that Sentinels
// name (NewFailoverClient), or a *redis.ClusterClient. Addresses, connections,
// timeouts and credentials are the client's, and the corresponding options must be
// zero. Calls end with their context in any case. The client's own retries are off for
// the store's commands.
//
// A *redis.Ring is refused with [errors.ErrUnsupported]: while a server is away it
// moves keys to another one, so that a key would have two fences. A Cluster's client
// that reads from replicas is refused with [state.ErrInvalid]. FromClient checks the
// servers as [Open] does, within ConnectTimeout.
func FromClient(ctx context.Context, client redis.UniversalClient, o *Options) (*Store, error) {
	opts := deref(o)
	if err := opts.checkLent(); err != nil {
		return nil, openError(err)
	}
	opts, err := opts.complete()
	if err != nil {
		return nil, openError(err)
	}
	s, err := lent(client, opts)
	if err != nil {
		return nil, openError(err)
	}
	if err := s.open(ctx); err != nil {
		return nil, openError(err)
	}
	return s, nil
}

// checkLent refuses the options that a lent client has itself.
func (o *Options) checkLent() error {
	switch {
	case o.PoolSize != 0 || o.ReadTimeout != 0 || o.WriteTimeout != 0:
		return fmt.Errorf("%w: PoolSize, ReadTimeout and WriteTimeout are set; with a client passed to FromClient they are the client's, so leave them zero", state.ErrInvalid)
	case len(o.Addrs) > 0, o.MasterName != "", o.Cluster, o.Socket != "", o.DB != 0, o.wantsTLS(),
		o.Username != "", o.Password != "", o.SentinelUsername != "", o.SentinelPassword != "":
		return fmt.Errorf("%w: an address, TLS, user or password is set; with a client passed to FromClient these are the client's, so leave them empty", state.ErrInvalid)
	}
	return nil
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

// open inspects the servers, within ConnectTimeout.
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
		s.opened = err == nil
		return err
	case <-ctx.Done():
		return s.late(ctx)
	}
}

// late returns the error of an open that took too long.
func (s *Store) late(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		question := ""
		if s.opts.wantsTLS() {
			question = "; does it speak TLS?"
		}
		return fmt.Errorf("%w: %s does not respond (ConnectTimeout %v%s): %w", state.ErrUnavailable, s.name, s.opts.ConnectTimeout, question, ctx.Err())
	}
	return interrupted(ctx, nil)
}

// inspect inspects the servers, with retries: Sentinels may be slow on a busy machine,
// or a server may be loading its data.
func (s *Store) inspect(ctx context.Context) error {
	var verdict error
	err := s.persist(ctx, "", true, func(ctx context.Context, c redis.UniversalClient) error {
		err := s.masters(ctx, c, s.inspectOne)
		if err == nil {
			err = s.checkRights(ctx, c)
		}
		switch {
		case err == nil, isJudged(err):
			verdict = err
		case classify(err) == final:
			verdict = s.explain(err)
		default:
			return err
		}
		return nil
	})
	if err != nil {
		if refused := s.hangsUp(ctx, err); refused != nil {
			return refused
		}
		return err
	}
	return verdict
}

// hangsUp returns an error if err means that the server closes each connection at
// go-redis's HELLO, as some proxies do, and answers to a PING.
func (s *Store) hangsUp(ctx context.Context, err error) error {
	if s.pool == nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	c, dialed := s.pool.dialer.connect(ctx, s.pool.options.Network, s.pool.options.Addr)
	if dialed != nil {
		return nil
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // it fails if the connection is closed, as the rest then does
	}
	if _, err := io.WriteString(c, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return nil
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	if !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-") {
		return nil
	}
	return fmt.Errorf("%w: %s closes the connection when it gets HELLO, which Redis has since version 6.0 (is it a proxy? connect to Redis directly)", state.ErrRefused, s.name)
}

// isJudged reports whether err is the verdict of inspectOne.
func isJudged(err error) bool { return errors.Is(err, state.ErrRefused) }

// explain is describe, with the error of a server that is in no Cluster.
func (s *Store) explain(err error) error {
	if s.cluster != nil && hasCode(err, "This instance has cluster support disabled") {
		return fmt.Errorf("%w: it is a single server and no Cluster; write redis:// (or leave Cluster out): %w", state.ErrRefused, clean(err))
	}
	return describe(err)
}

func (s *Store) inspectOne(ctx context.Context, c *redis.Client) error {
	name := s.name
	if s.cluster != nil {
		name = c.Options().Addr
	}
	if err := c.Ping(ctx).Err(); err != nil {
		return err
	}
	text, err := c.Info(ctx).Result()
	switch {
	case err == nil:
		if err := s.judge(ctx, name, parseInfo(text)); err != nil {
			return err
		}
	case isAnswer(err) && classify(err) == final:
		s.opts.Logger.WarnContext(ctx, "redis eviction policy unknown, since the user may not read INFO; make sure that it is noeviction",
			"server", name, "err", clean(err).Error())
	default:
		return err
	}
	return c.Scan(ctx, 0, escapeGlob(s.opts.KeyPrefix)+"{}", 1).Err() // for List
}

// judge refuses a server that would not keep checkpoints.
func (s *Store) judge(ctx context.Context, name string, info map[string]string) error {
	policy := info["maxmemory_policy"]
	switch mode := info["redis_mode"] + info["server_mode"]; { // server_mode is Valkey's
	case mode == "sentinel":
		return fmt.Errorf("%w: %s is a Sentinel; write redis+sentinel://host:port/mymaster (or set MasterName)", state.ErrRefused, name)
	case mode == "cluster" && s.cluster == nil:
		return fmt.Errorf("%w: %s is part of a Redis Cluster; write redis+cluster://host:port (or set Cluster)", state.ErrRefused, name)
	case info["role"] == "slave":
		return fmt.Errorf("%w: %s is a replica, which accepts no writes; use the address of its master", state.ErrRefused, name)
	case olderThan(info["redis_version"], 6, 2):
		return fmt.Errorf("%w: %s is Redis %s; this store needs 6.2 or later", state.ErrRefused, name, info["redis_version"])
	case strings.HasPrefix(policy, "allkeys-"):
		return fmt.Errorf("%w: %s has maxmemory-policy %s, which removes checkpoints when its memory is full; set it to noeviction",
			state.ErrRefused, name, policy)
	case policy == "":
		s.opts.Logger.WarnContext(ctx, "redis eviction policy unknown; make sure that it is noeviction", "server", name)
	case strings.HasPrefix(policy, "volatile-") && s.opts.TTL > 0:
		s.opts.Logger.WarnContext(ctx, "redis may evict checkpoints that have a TTL; set maxmemory-policy to noeviction",
			"server", name, "policy", policy)
	}
	return nil
}

// parseInfo parses the response to INFO: lines of name:value.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// olderThan reports whether a version is below major.minor. An invalid one is not.
func olderThan(version string, major, minor int) bool {
	var x, y int
	if _, err := fmt.Sscanf(version, "%d.%d", &x, &y); err != nil {
		return false
	}
	return x < major || x == major && y < minor
}
