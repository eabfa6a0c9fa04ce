package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/rigatoni-etl/rigatoni/state"
)

// checkTarget refuses what names no server, or more than one kind of it.
func (o *Options) checkTarget(fromURL bool) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{state.ErrInvalid}, args...)...)
	}
	switch {
	case o.Socket == "" && len(o.Addrs) == 0:
		return refuse("there is neither a URL nor Addrs nor a Socket to say where Redis is; a URL's scheme is one of %s", strings.Join(schemeNames(), ", "))
	case o.Socket != "" && (len(o.Addrs) > 0 || o.MasterName != "" || o.Cluster):
		return refuse("Socket is the path of one server's socket, and goes with neither Addrs nor MasterName nor Cluster")
	case o.Socket != "" && o.wantsTLS():
		return refuse("a Unix socket is never with TLS; leave TLS and what begins with it (tls-…) out")
	case o.TLS == nil && o.namesTLS() && fromURL:
		return refuse("TLS files or names (tls-…) are given, and the URL's scheme is without TLS; write rediss for redis")
	case o.MasterName != "" && o.Cluster:
		return refuse("MasterName is for Sentinels and Cluster for a Cluster; one of the two")
	case len(o.Addrs) > 1 && o.MasterName == "" && !o.Cluster:
		return refuse("there are %d addresses: for Sentinels write redis+sentinel:// and the master's name, for a Cluster redis+cluster:// (or set MasterName or Cluster)", len(o.Addrs))
	case o.Cluster && o.DB != 0:
		return refuse("a Cluster has only the database 0, and %d is asked for", o.DB)
	case o.DB < 0:
		return refuse("DB is %d: there is no such database", o.DB)
	case o.Username != "" && o.Password == "":
		return refuse("there is a user (Username) and no password")
	case o.SentinelUsername != "" && o.SentinelPassword == "":
		return refuse("there is a user for the Sentinels (SentinelUsername, sentinel-username) and no password (SentinelPassword, sentinel-password)")
	case o.SentinelPassword != "" && o.MasterName == "":
		return refuse("SentinelPassword (sentinel-password) is set, and there are no Sentinels")
	}
	_, err := o.addrs()
	return err
}

// addrs are Addrs with their ports.
func (o *Options) addrs() ([]string, error) {
	port := "6379"
	if o.MasterName != "" {
		port = "26379"
	}
	addrs := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		host, p, err := net.SplitHostPort(a)
		if err != nil { // no port, or nonsense
			host, p, err = net.SplitHostPort(a + ":" + port)
		}
		n, perr := strconv.ParseUint(p, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " @/") {
			return nil, fmt.Errorf("%w: the %d. of Addrs is not host:port with a port from 1 to 65535", state.ErrInvalid, i+1)
		}
		addrs[i] = net.JoinHostPort(host, p)
	}
	return addrs, nil
}

// target is how the place is called in logs and errors.
func (o *Options) target(addrs []string) string {
	switch {
	case o.Socket != "":
		return fmt.Sprintf("%s, database %d", o.Socket, o.DB)
	case o.Cluster:
		return "the Cluster of " + strings.Join(addrs, ",")
	case o.MasterName != "":
		return fmt.Sprintf("the master %q of the Sentinels %s, database %d", o.MasterName, strings.Join(addrs, ","), o.DB)
	}
	return fmt.Sprintf("%s, database %d", addrs[0], o.DB)
}

// connect makes a store with a client of its own, which has connected to nothing yet.
func connect(o Options) (*Store, error) {
	config, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	addrs, err := o.addrs()
	if err != nil {
		return nil, err
	}
	k := newClock(o.ReadTimeout, o.WriteTimeout)
	if o.WaitReplicas > 0 {
		k.read += o.WaitTimeout
	}
	d := newDialer(o, config, k)
	s := newStore(nil, true, o.target(addrs), o)
	s.clock = k
	switch {
	case o.Cluster:
		s.cluster = newCluster(addrs, o, d)
		s.client = s.cluster
	case o.MasterName != "":
		s.sentinels = newSentinels(addrs, o, config)
		d.sentinels = s.sentinels
		r := clientOptions(o, d)
		r.OnConnect = s.greet
		s.client = redis.NewClient(r)
		s.sentinels.follow()
	default:
		r := clientOptions(o, d)
		if r.Network, r.Addr = "unix", o.Socket; o.Socket == "" {
			r.Network, r.Addr = "tcp", addrs[0]
		}
		s.client = redis.NewClient(r)
	}
	return s, nil
}

// clientOptions turn off what go-redis does by itself: it would repeat what is
// not safe to repeat.
func clientOptions(o Options, d *dialer) *redis.Options {
	return &redis.Options{
		DB: o.DB, Username: o.Username, Password: o.Password,
		MaxRetries:            -1,
		Dialer:                d.dial,
		ContextTimeoutEnabled: true,
		PoolSize:              o.PoolSize, MaxActiveConns: o.PoolSize,
		PipelinePoolSize: -1,
		PoolTimeout:      o.ReadTimeout,
		DialTimeout:      o.ConnectTimeout,
		ReadTimeout:      d.clock.longest(), WriteTimeout: d.clock.longest(),
		// The scripts' answers need nothing of RESP3, nor of the notifications in it.
		Protocol:                 2,
		MaintNotificationsConfig: noNotifications(),
		DisableIdentity:          true,
	}
}

func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// lent makes a store of a client that is the caller's.
func lent(client redis.UniversalClient, o Options) (*Store, error) {
	s := newStore(client, false, "", o)
	var timeout time.Duration
	switch c := client.(type) {
	case *redis.Client:
		if c == nil {
			return nil, fmt.Errorf("%w: the client is nil", errors.ErrUnsupported)
		}
		s.name = fmt.Sprintf("%s, database %d", c.Options().Addr, c.Options().DB)
		timeout = c.Options().ReadTimeout
	case *redis.ClusterClient:
		if c == nil {
			return nil, fmt.Errorf("%w: the client is nil", errors.ErrUnsupported)
		}
		s.name, s.cluster = "the Cluster of "+strings.Join(c.Options().Addrs, ","), c
		timeout = c.Options().ReadTimeout
		if c.Options().ReadOnly {
			return nil, fmt.Errorf("%w: the client is set to read from replicas (ReadOnly, RouteByLatency or RouteRandomly), which may be behind; "+
				"lend one that does not", state.ErrInvalid)
		}
	case *redis.Ring:
		return nil, fmt.Errorf("%w: a Ring moves keys to another server while one is away, so that there would be two fences for one key, "+
			"and two owners; lend a *redis.Client or a *redis.ClusterClient", errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("%w: a %T; lend a *redis.Client or a *redis.ClusterClient", errors.ErrUnsupported, client)
	}
	if o.WaitReplicas > 0 && timeout > 0 && timeout <= o.WaitTimeout {
		return nil, fmt.Errorf("%w: WaitTimeout (%v) is not below the client's own ReadTimeout (%v), which would end each wait for the replicas",
			state.ErrInvalid, o.WaitTimeout, timeout)
	}
	return s, nil
}

// masters calls f for the client of each server that is written to, of all at once.
func (s *Store) masters(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	if s.cluster != nil {
		return s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			if s.clock != nil { // it watches one connection at a time
				watched, end := s.clock.watch(ctx)
				defer end()
				ctx = watched
			}
			return f(ctx, c)
		})
	}
	return f(ctx, s.client.(*redis.Client)) // connect and lent let nothing else in
}

// classify says what err means for the next attempt, and has a Cluster's client
// look again which server has which slot: by itself it would ask a dead one until
// a minute is over.
func (s *Store) classify(err error) kind {
	k := classify(err)
	if s.cluster == nil {
		return k
	}
	switch {
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"), errors.Is(err, redis.ErrClosed):
		k = unsent // a slot on its way; a node that is one no more
	case isAnswer(err) && k == final:
		return k
	}
	s.cluster.ReloadState(context.Background())
	return k
}
