package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// A ground is a kind of Redis on which the suite runs.
type ground struct {
	name  string
	tls   bool
	short bool // it is in the short form too
	cuts  bool // connections are cut at random
	start func(t *testing.T, o redisserver.Options) (url string, admin redis.UniversalClient)
}

var grounds = []ground{
	// TestStore has one server, plain and with nothing in between, at full length.
	{name: "one server", cuts: true, short: true, start: oneServer},
	{name: "one server", tls: true, start: oneServer},
	{name: "one server", tls: true, cuts: true, start: oneServer},
	{name: "socket", start: socket},
	{name: "socket", cuts: true, start: socket},
	{name: "Sentinel", short: true, start: sentinel},
	{name: "Sentinel", cuts: true, start: sentinel},
	{name: "Sentinel", tls: true, start: sentinel},
	{name: "Sentinel", tls: true, cuts: true, start: sentinel},
	{name: "Cluster", short: true, start: cluster},
	{name: "Cluster", cuts: true, start: cluster},
	{name: "Cluster", tls: true, start: cluster},
	{name: "Cluster", tls: true, cuts: true, start: cluster},
}

func oneServer(t *testing.T, o redisserver.Options) (string, redis.UniversalClient) {
	s := redisserver.Start(t, &o)
	return s.URL(), redis.NewClient(&redis.Options{Addr: s.Addr, TLSConfig: clientTLS(t, o.TLS)})
}

func socket(t *testing.T, o redisserver.Options) (string, redis.UniversalClient) {
	o.Socket = true
	s := redisserver.Start(t, &o)
	return "unix://" + s.Socket, redis.NewClient(&redis.Options{Addr: s.Addr})
}

func sentinel(t *testing.T, o redisserver.Options) (string, redis.UniversalClient) {
	s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Options: o})
	return s.URL(), redis.NewClient(&redis.Options{Addr: s.Nodes[0].Addr, TLSConfig: clientTLS(t, o.TLS)})
}

func cluster(t *testing.T, o redisserver.Options) (string, redis.UniversalClient) {
	c := redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: o, Replicas: -1})
	return c.URL(), redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), TLSConfig: clientTLS(t, o.TLS)})
}

func clientTLS(t *testing.T, pki *redisserver.PKI) *tls.Config {
	t.Helper()
	if pki == nil {
		return nil
	}
	config, err := pki.Client()
	want(t, err, nil, "PKI")
	return config
}

// TestSuite holds the store to its contract on every kind of Redis, and with
// connections that break.
func TestSuite(t *testing.T) {
	seed := campaign.Seed(t)
	for i, g := range grounds {
		if !g.short && !campaign.Full(t) {
			continue
		}
		name := g.name
		if g.tls {
			name += ", TLS"
		}
		if g.cuts {
			name += ", cuts"
		}
		t.Run(name, func(t *testing.T) {
			if !campaign.Full(t) {
				t.Parallel()
			}
			g.run(t, seed+uint64(i))
		})
	}
}

func (g ground) run(t *testing.T, seed uint64) {
	o := redisserver.Options{}
	params := url.Values{}
	if g.tls {
		o.TLS = redisserver.TestPKI(t)
		params = url.Values{"tls-ca-file": {o.TLS.CAFile}, "tls-cert-file": {o.TLS.ClientCert}, "tls-key-file": {o.TLS.ClientKey}}
		o.Config = []string{"tls-auth-clients yes"}
	}
	target, admin := g.start(t, o)
	t.Cleanup(func() { want(t, admin.Close(), nil, "Close") })
	target += "?" + params.Encode()
	var run atomic.Int64
	cutCount := atomic.Int64{}
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		n := run.Add(1)
		// Long enough for a busy machine, unless answers are kept back on purpose.
		opts := redisstore.Options{KeyPrefix: fmt.Sprintf("t%d:", n), TTL: time.Hour, Logger: quiet}
		gate := &gate{dial: (&net.Dialer{}).DialContext}
		open := func(ctx context.Context) (state.Store, error) {
			o := redisstore.Through(opts, gate.connect)
			return openPatiently(ctx, target, &o)
		}
		if g.cuts {
			opts.MaxRetries, opts.MaxRetryBackoff, opts.ReadTimeout = 10, 16*time.Millisecond, time.Second
			any, once := network(t, o.TLS), network(t, o.TLS)
			faults := []faultproxy.Fault{faultproxy.CutBefore, faultproxy.CutInside, faultproxy.Delay(time.Millisecond), faultproxy.DelayAnswer(time.Millisecond)}
			once.Plan(atRandom(seed<<20+uint64(n), &cutCount, faults...))
			// A save that was done, overtaken by another writer's and repeated is refused
			// as stale, which it is. Where there are several writers the suite takes
			// that for a save that was not done.
			if !strings.Contains(t.Name(), "/Concurrent/") {
				faults = append(faults, faultproxy.CutAfter, faultproxy.CutAfter, faultproxy.CutAfter)
			}
			any.Plan(atRandom(seed<<20+uint64(n), &cutCount, faults...))
			open = func(ctx context.Context) (state.Store, error) { return openCut(ctx, target, opts, gate, any, once) }
		}
		h := harness(admin, opts, open)
		h.Break, h.Restore = gate.shut, gate.open
		h.Short = !campaign.Full(t)
		return h
	})
	if g.cuts {
		t.Logf("%d commands were broken", cutCount.Load())
		if cutCount.Load() < 50 {
			t.Errorf("only %d commands were broken: the suite was not disturbed", cutCount.Load())
		}
	}
}

func network(t *testing.T, pki *redisserver.PKI) *faultproxy.Network {
	t.Helper()
	o := &faultproxy.Options{Back: clientTLS(t, pki)}
	if pki != nil {
		front, err := pki.Server()
		want(t, err, nil, "PKI")
		o.Front = front
	}
	return faultproxy.StartNetwork(t, o)
}

// atRandom lets one of the faults befall one command in twelve. Of those in a
// pipeline, which fail together, fewer are hit.
func atRandom(seed uint64, n *atomic.Int64, faults ...faultproxy.Fault) func(faultproxy.Request) faultproxy.Fault {
	rnd := rand.New(rand.NewPCG(seed, 1))
	return func(r faultproxy.Request) faultproxy.Fault {
		one := 12
		if r.More {
			one = 2000
		}
		if !touchesKeys(r) || rnd.IntN(one) != 0 {
			return faultproxy.Pass
		}
		n.Add(1)
		return faults[rnd.IntN(len(faults))]
	}
}

// A cutStore is a store whose connections are cut at random. What it can't repeat
// goes another way, on which nothing is executed that isn't answered: there the
// caller can repeat, and the suite counts it as done once.
type cutStore struct {
	*redisstore.Store
	once *redisstore.Store
}

func openCut(ctx context.Context, target string, o redisstore.Options, g *gate, any, once *faultproxy.Network) (state.Store, error) {
	var stores [2]*redisstore.Store
	for i, n := range []*faultproxy.Network{any, once} {
		through := redisstore.Through(o, func(ctx context.Context, network, addr string) (net.Conn, error) {
			return g.over(n.Dial)(ctx, network, addr)
		})
		s, err := openPatiently(ctx, target, &through)
		if err != nil {
			if i > 0 {
				err = errors.Join(err, stores[0].Close())
			}
			return nil, err
		}
		stores[i] = s
	}
	return cutStore{stores[0], stores[1]}, nil
}

func (s cutStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	if cp.Sequence != 0 {
		return s.Store.Save(ctx, key, cp)
	}
	return insist(ctx, func() error { return s.once.Save(ctx, key, cp) })
}

func (s cutStore) Clear(ctx context.Context, key string) error {
	return insist(ctx, func() error { return s.once.Clear(ctx, key) })
}

func (s cutStore) Forget(ctx context.Context, key string) error {
	return insist(ctx, func() error { return s.once.Forget(ctx, key) })
}

func (s cutStore) SaveBatch(ctx context.Context, items []state.Item) []error {
	if !slices.ContainsFunc(items, func(it state.Item) bool { return it.Fence.IsZero() && it.Checkpoint.Sequence == 0 }) {
		return s.Store.SaveBatch(ctx, items)
	}
	errs := s.once.SaveBatch(ctx, items)
	for i, it := range items {
		if !errors.Is(errs[i], state.ErrUnavailable) {
			continue
		}
		errs[i] = insist(ctx, func() error {
			if it.Fence.IsZero() {
				return s.once.Save(ctx, it.Key, it.Checkpoint)
			}
			return s.once.SaveFenced(ctx, it.Key, it.Fence, it.Checkpoint)
		})
	}
	return errs
}

func (s cutStore) Close() error { return errors.Join(s.Store.Close(), s.once.Close()) }

// insist repeats what is not available, a few times.
func insist(ctx context.Context, f func() error) error {
	var err error
	for range 6 {
		var op *net.OpError
		if err = f(); !errors.Is(err, state.ErrUnavailable) || ctx.Err() != nil || errors.As(err, &op) && op.Op == "dial" {
			return err
		}
	}
	return err
}

// A gate is where connections are made, and can be shut: then there are none.
type gate struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (g *gate) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	return g.over(g.dial)(ctx, network, addr)
}

// over is dial, through the gate.
func (g *gate) over(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.closed {
			return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}, c.Close())
		}
		g.conns = append(g.conns, c)
		return c, nil
	}
}

func (g *gate) shut(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.conns {
		_ = c.Close() // it may be closed already
	}
	g.conns = nil
	return nil
}

func (g *gate) open(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	return nil
}
