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

// checkTarget refuses options that name no server, or contradict each other.
func (o *Options) checkTarget(fromURL bool) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{state.ErrInvalid}, args...)...)
	}
	switch {
	case o.Socket == "" && len(o.Addrs) == 0:
		return refuse("no address: set a URL, Addrs or Socket; the scheme of a URL is one of %s", strings.Join(schemeNames(), ", "))
	case o.Socket != "" && (len(o.Addrs) > 0 || o.MasterName != "" || o.Cluster):
		return refuse("Socket is set together with Addrs, MasterName or Cluster; leave those out")
	case o.Socket != "" && o.wantsTLS():
		return refuse("a Unix socket has no TLS; leave TLS and the options tls-… out")
	case o.TLS == nil && o.namesTLS() && fromURL:
		return refuse("options tls-… are set, and the URL's scheme has no TLS; write rediss instead of redis")
	case o.MasterName != "" && o.Cluster:
		return refuse("both MasterName (Sentinels) and Cluster are set; leave one out")
	case len(o.Addrs) > 1 && o.MasterName == "" && !o.Cluster:
		return refuse("there are %d addresses: for Sentinels write redis+sentinel:// and the master's name, for a Cluster redis+cluster:// (or set MasterName or Cluster)", len(o.Addrs))
	case o.DB < 0:
		return refuse("DB is %d; it must be 0 or more", o.DB)
	case o.Username != "" && o.Password == "":
		return refuse("Username is set, and Password is not")
	case o.SentinelUsername != "" && o.SentinelPassword == "":
		return refuse("SentinelUsername (sentinel-username) is set, and SentinelPassword (sentinel-password) is not")
	case o.SentinelPassword != "" && o.MasterName == "":
		return refuse("SentinelPassword (sentinel-password) is set, but there are no Sentinels")
	}
	_, err := o.addrs()
	return err
}

// addrs returns Addrs with their ports.
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
			return nil, fmt.Errorf("%w: Addrs[%d] is not host:port with a port from 1 to 65535", state.ErrInvalid, i)
		}
		addrs[i] = net.JoinHostPort(host, p)
	}
	return addrs, nil
}

// target returns the name of the server for logs and errors.
func (o *Options) target(addrs []string) string {
	switch {
	case o.Socket != "":
		return fmt.Sprintf("%s, database %d", o.Socket, o.DB)
	case o.Cluster && o.DB != 0:
		return fmt.Sprintf("the Cluster of %s, database %d", strings.Join(addrs, ","), o.DB)
	case o.Cluster:
		return "the Cluster of " + strings.Join(addrs, ",")
	case o.MasterName != "":
		return fmt.Sprintf("the master %q of the Sentinels %s, database %d", o.MasterName, strings.Join(addrs, ","), o.DB)
	}
	return fmt.Sprintf("%s, database %d", addrs[0], o.DB)
}

// connect returns a store with a client of its own, without connecting.
func connect(o Options) (*Store, error) {
	config, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	addrs, err := o.addrs()
	if err != nil {
		return nil, err
	}
	d := newDialer(o, config)
	s := newStore(true, o.target(addrs), o)
	switch {
	case o.Cluster:
		// A redirection without a host means the one that was used.
		host, _, _ := net.SplitHostPort(addrs[0]) // addrs are sound
		d.host = host
		s.cluster = newCluster(addrs, o, d)
		s.client = s.cluster
	case o.MasterName != "":
		s.sentinels = newSentinels(addrs, o, config)
		d.sentinels = s.sentinels
		r := clientOptions(o, d)
		r.OnConnect = s.greet
		s.pool = newPool(r, d)
		s.sentinels.follow()
	default:
		r := clientOptions(o, d)
		if r.Network, r.Addr = "unix", o.Socket; o.Socket == "" {
			r.Network, r.Addr = "tcp", addrs[0]
		}
		s.pool = newPool(r, d)
	}
	return s, nil
}

// clientOptions returns options without the retries of go-redis, which would also
// retry what is not safe to retry.
func clientOptions(o Options, d *dialer) *redis.Options {
	if o.WaitReplicas > 0 {
		o.ReadTimeout += o.WaitTimeout
	}
	return &redis.Options{
		DB: o.DB, Username: o.Username, Password: o.Password,
		MaxRetries:            -1,
		Dialer:                d.dial,
		ContextTimeoutEnabled: true,
		PoolSize:              o.PoolSize, MaxActiveConns: o.PoolSize,
		PipelinePoolSize: -1,
		PoolTimeout:      o.ReadTimeout,
		DialTimeout:      o.ConnectTimeout,
		ReadTimeout:      o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		// The scripts need neither RESP3 nor its notifications.
		Protocol:                 2,
		MaintNotificationsConfig: noNotifications(),
		DisableIdentity:          true,
	}
}

func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// lent returns a store that uses a client of the caller.
func lent(client redis.UniversalClient, o Options) (*Store, error) {
	s := newStore(false, "", o)
	s.client = client
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
			return nil, fmt.Errorf("%w: the client reads from replicas (ReadOnly, RouteByLatency or RouteRandomly), which may be behind; "+
				"use one that does not", state.ErrInvalid)
		}
	case *redis.Ring:
		return nil, fmt.Errorf("%w: a Ring moves keys to another server while one is away, so one key would have two fences and "+
			"two owners; use a *redis.Client or a *redis.ClusterClient", errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("%w: a %T; use a *redis.Client or a *redis.ClusterClient", errors.ErrUnsupported, client)
	}
	if o.WaitReplicas > 0 && timeout > 0 && timeout <= o.WaitTimeout {
		return nil, fmt.Errorf("%w: WaitTimeout (%v) must be shorter than the client's ReadTimeout (%v), which would end each wait for the replicas",
			state.ErrInvalid, o.WaitTimeout, timeout)
	}
	return s, nil
}

// masters calls f with the client of each master, concurrently. c is what [Store.try]
// gives.
func (s *Store) masters(ctx context.Context, c redis.UniversalClient, f func(context.Context, *redis.Client) error) error {
	if s.cluster != nil {
		return s.cluster.ForEachMaster(ctx, f)
	}
	return f(ctx, c.(*redis.Client)) // connect and lent let nothing else in
}

// classify classifies err, and makes a Cluster's client reload the slots: otherwise
// it would use a dead server for up to a minute.
func (s *Store) classify(err error) kind {
	k := classify(err)
	if s.cluster == nil {
		return k
	}
	switch {
	case hasCode(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"), errors.Is(err, redis.ErrClosed):
		k = unsent // a slot on its way; a node that is one no more
	case isAnswer(err) && k == final:
		return k
	}
	s.cluster.ReloadState(context.Background())
	return k
}
