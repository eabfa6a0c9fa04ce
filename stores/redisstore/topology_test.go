package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// work does everything that a store can do, once, under keys of several slots.
func work(ctx context.Context, t *testing.T, s *redisstore.Store) {
	t.Helper()
	want(t, s.Ping(ctx), nil, "Ping")
	for i := range 8 {
		key := fmt.Sprintf("work%d", i)
		g := acquire(t, s, key)
		for name, err := range map[string]error{
			"SaveFenced": s.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AA", g.LastSequence+1)), "Renew": s.Renew(ctx, key, g.Fence, time.Hour),
		} {
			want(t, err, nil, name)
		}
		cp, err := s.Load(ctx, key)
		want(t, err, nil, "Load")
		if cp.Sequence != g.LastSequence+1 {
			t.Errorf("%s: sequence %d, want %d", key, cp.Sequence, g.LastSequence+1)
		}
	}
	n := 0
	for e, err := range s.List(ctx, "work") {
		want(t, errors.Join(err, e.LoadErr), nil, "List")
		n++
	}
	if n != 8 {
		t.Errorf("listed %d keys, want 8", n)
	}
	for i := range 8 {
		key := fmt.Sprintf("work%d", i)
		g, err := s.Acquire(ctx, key, state.LeaseRequest{Nonce: state.NewNonce(), TTL: time.Hour, Steal: true})
		want(t, err, nil, "Acquire")
		want(t, s.ClearFenced(ctx, key, g.Fence), nil, "ClearFenced")
		want(t, s.Release(ctx, key, g.Fence), nil, "Release")
		want(t, s.Forget(ctx, key), nil, "Forget")
	}
}

// each kind of Redis, by its URL and by the options that say the same.
func TestTopologies(t *testing.T) {
	plain := redisserver.Options{Password: secret, Socket: true}
	kinds := map[string]func(t *testing.T) (url string, o redisstore.Options){
		"one server": func(t *testing.T) (string, redisstore.Options) {
			s := redisserver.Start(t, &plain)
			return s.URL(), redisstore.Options{Addrs: []string{s.Addr}}
		},
		"socket": func(t *testing.T) (string, redisstore.Options) {
			s := redisserver.Start(t, &plain)
			return "unix://:" + secret + "@" + s.Socket + "?db=3", redisstore.Options{Socket: s.Socket, DB: 3}
		},
		"Sentinel": func(t *testing.T) (string, redisstore.Options) {
			s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Options: redisserver.Options{Password: secret}})
			return s.URL(), redisstore.Options{Addrs: s.SentinelAddrs(), MasterName: redisserver.MasterName}
		},
		"Cluster": func(t *testing.T) (string, redisstore.Options) {
			c := redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: redisserver.Options{Password: secret}, Replicas: -1})
			return c.URL(), redisstore.Options{Addrs: c.Addrs(), Cluster: true}
		},
	}
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, o := start(t)
			s := open(t, u, redisstore.Options{})
			work(t.Context(), t, s)
			o.Password = secret
			work(t.Context(), t, open(t, "", o))
			parsed, err := redisstore.ParseURL(u)
			want(t, err, nil, "ParseURL")
			again, err := redisstore.OpenURL(t.Context(), parsed, nil)
			want(t, err, nil, "OpenURL")
			if err == nil {
				want(t, again.Close(), nil, "Close")
			}
			noSecret(t, fmt.Sprintf("%v %+v %#v %v %+v %#v %v", s, s, s, o, &o, o, logged(o)))
			_, err = redisstore.Open(t.Context(), strings.Replace(u, secret, "wrong", 1), nil)
			want(t, err, state.ErrRefused, "a wrong password")
		})
	}
}

// a URL and the kind of server must agree.
func TestWrongKind(t *testing.T) {
	server := redisserver.Start(t, nil)
	sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Replicas: -1, Sentinels: 1})
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
	for u, says := range map[string]string{
		"redis+cluster://" + server.Addr:                                      "no Cluster",
		"redis+sentinel://" + server.Addr + "/mymaster":                       "it is not a Sentinel; write redis://: no Sentinel knows",
		"redis://" + sentinel.SentinelAddrs()[0]:                              "is a Sentinel",
		"redis+cluster://" + sentinel.SentinelAddrs()[0]:                      "",
		"redis+sentinel://" + sentinel.SentinelAddrs()[0] + "/other":          "no master of that name",
		"redis://" + cluster.Addrs()[0]:                                       "part of a Redis Cluster",
		"redis+cluster://" + cluster.Addrs()[0] + "/3":                        "a Redis Cluster has only database 0",
		"redis://" + server.Addr + "/999":                                     "it doesn't have this database",
		"redis+sentinel://" + sentinel.SentinelAddrs()[0] + "/mymaster/0?x=1": "unknown parameter",
		"redis+sentinel://127.0.0.1:1," + server.Addr + "/mymaster?db=1":      "db",
		"unix://" + server.Dir + "/none.sock":                                 "none.sock",
	} {
		_, err := redisstore.Open(t.Context(), u, &redisstore.Options{Logger: quiet})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want one with %q", u, err, says)
		}
		if says != "none.sock" && !errors.Is(err, state.ErrRefused) && !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: %v is neither refused nor invalid", u, err)
		}
	}
}

func TestInvalidTargets(t *testing.T) {
	tlsOn := &tls.Config{}
	for says, o := range map[string]redisstore.Options{
		"no address:":            {},
		"Socket is set together": {Socket: "/x", Addrs: []string{"h"}},
		"has no TLS":             {Socket: "/x", TLS: tlsOn},
		"both MasterName":        {Addrs: []string{"h"}, MasterName: "m", Cluster: true},
		"there are 2 addresses":  {Addrs: []string{"h", "i"}},
		"DB is -1":               {Addrs: []string{"h"}, DB: -1},
		"Password is not":        {Addrs: []string{"h"}, Username: "u"},
		"SentinelPassword (sentinel-password) is not": {Addrs: []string{"h"}, MasterName: "m", SentinelUsername: secret},
		"there are no Sentinels":                      {Addrs: []string{"h"}, SentinelPassword: secret},
		"Addrs[1] is not":                             {Addrs: []string{"h", "u:" + secret + "@i:1"}, Cluster: true},
		"Addrs[0] is not":                             {Addrs: []string{"h:99999"}},
		"WaitReplicas is -2":                          {Addrs: []string{"h"}, WaitReplicas: -2},
		"WaitReplicas is 101":                         {Addrs: []string{"h"}, WaitReplicas: 101},
		"WaitTimeout is 1h0m0s":                       {Addrs: []string{"h"}, WaitTimeout: time.Hour},
		"TLSCAFile (tls-ca-file) can't be read":       {Addrs: []string{"h"}, TLSCAFile: "/none.pem"},
		"has no certificate in PEM form":              {Addrs: []string{"h"}, TLSCAFile: "topology_test.go"},
		"one is missing":                              {Addrs: []string{"h"}, TLSCertFile: "x"},
		"can't be used":                               {Addrs: []string{"h"}, TLSCertFile: "topology_test.go", TLSKeyFile: "topology_test.go"},
	} {
		_, err := redisstore.Open(t.Context(), "", &o)
		want(t, err, state.ErrInvalid, says)
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
		noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, o))
	}
	for u, says := range map[string]string{
		"redis://a,b":                                                    "there are 2 addresses",
		"redis+cluster://a:7000,,b":                                      "a host in the URL is missing",
		"redis+cluster://a:7000,b:70001":                                 "port",
		"redis+sentinel://a":                                             "does not name the master",
		"redis+sentinel://a/m/x":                                         "database",
		"redis+sentinel://a/m?sentinel-username=" + secret:               "(sentinel-password) is not",
		"redis+sentinel://a/m?sentinel-password=":                        "sentinel-password",
		"redis://a?sentinel-password=" + secret:                          "no Sentinels",
		"redis://a?sentinel-password=" + secret + "&sentinel-password=x": "2 times",
		"redis://a?tls-ca-file=x":                                        "write rediss",
		"redis://a?tls-server-name=x":                                    "write rediss",
		"redis://a?db=1":                                                 "as the path",
		"unix://host/x":                                                  "path of a socket",
		"unix://":                                                        "path of a socket",
		"unix:///x?tls-ca-file=x":                                        "has no TLS",
		"unix:///x?db=-1":                                                "db",
		"redis://a?wait-replicas=-2":                                     "wait-replicas",
		"redis://a?wait-replicas=101":                                    "wait-replicas",
		"redis://a?wait-timeout=-1s":                                     "wait-timeout",
		"redis+cluster://u:" + secret + "/@a,b":                          "URL",
		"redis+cluster://u:%zz" + secret + "@a:1,b:2":                    "URL",
	} {
		wantInvalidURL(t, u, says)
	}
	_, err := redisstore.Open(t.Context(), "redis://a", &redisstore.Options{TLS: tlsOn})
	want(t, err, state.ErrInvalid, "TLS in the options, and a URL without")
}

func TestParseURL(t *testing.T) {
	for raw, hosts := range map[string]string{
		"redis+cluster://a:7000,b:7001":         "a:7000,b:7001",
		"redis+cluster://u:p,q@a:1,b:2,c/0?x=,": "a:1,b:2,c",
		"redis+sentinel://[::1]:1,[::1]:2/m/0":  "[::1]:1,[::1]:2",
		"redis://h:1/0":                         "h:1",
		"redis://u:p,q@h":                       "h",
	} {
		u, err := redisstore.ParseURL(raw)
		if err != nil || u.Host != hosts {
			t.Errorf("%s: %v, %v", raw, u, err)
			continue
		}
		if raw2 := u.String(); raw2 != raw && u.User == nil {
			t.Errorf("%s is printed as %s", raw, raw2)
		}
	}
	u := &url.URL{Scheme: "redis+cluster", Host: "127.0.0.1:1,127.0.0.1:2"}
	_, err := redisstore.OpenURL(t.Context(), u, nil)
	want(t, err, state.ErrUnavailable, "OpenURL of a URL put together by hand")
}

// Sentinels have users of their own.
func TestSentinelCredentials(t *testing.T) {
	s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{
		Options: redisserver.Options{Password: secret}, SentinelUser: "watcher", SentinelPassword: secret + "2", Sentinels: 1,
	})
	for parameters, says := range map[string]string{
		"": "sentinel-password",
		"?sentinel-username=watcher&sentinel-password=" + secret:       "WRONGPASS",
		"?sentinel-username=watcher&sentinel-password=" + secret + "2": "",
	} {
		store, err := redisstore.Open(t.Context(), s.URL()+parameters, &redisstore.Options{Logger: quiet})
		if says == "" {
			want(t, err, nil, parameters)
			work(t.Context(), t, store)
			want(t, store.Close(), nil, "Close")
			continue
		}
		want(t, err, state.ErrRefused, parameters)
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
		noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	store := open(t, "", redisstore.Options{
		Addrs: s.SentinelAddrs(), MasterName: redisserver.MasterName, Password: secret,
		SentinelUsername: "watcher", SentinelPassword: secret + "2",
	})
	want(t, store.Ping(t.Context()), nil, "Ping")
}

// Lent clients work on every topology, and what they would repeat they don't.
func TestLentClients(t *testing.T) {
	sentinel := redisserver.StartSentinel(t, nil)
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: redisserver.MasterName, SentinelAddrs: sentinel.SentinelAddrs()})
	nodes := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	readers := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ReadOnly: true})
	for _, c := range []redis.UniversalClient{failover, nodes} {
		s, err := redisstore.FromClient(t.Context(), c, &redisstore.Options{Logger: quiet})
		want(t, err, nil, "FromClient")
		if err == nil {
			work(t.Context(), t, s)
			want(t, s.Close(), nil, "Close")
			want(t, c.Ping(t.Context()).Err(), nil, "the lent client, afterwards")
		}
		want(t, c.Close(), nil, "Close of the client")
	}
	_, err := redisstore.FromClient(t.Context(), readers, nil)
	want(t, err, state.ErrInvalid, "FromClient with a client that reads from replicas")
	want(t, readers.Close(), nil, "Close of the client")
	for _, o := range []redisstore.Options{{Addrs: []string{"h"}}, {Password: secret}, {TLS: &tls.Config{}}, {DB: 1}, {Cluster: true}} {
		_, err := redisstore.FromClient(t.Context(), nodes, &o)
		want(t, err, state.ErrInvalid, "FromClient")
		noSecret(t, err.Error())
	}
}

// One master of a Cluster that may throw fences away is enough to refuse it; and of
// Sentinels it is the master that they name that counts.
func TestEveryMasterIsJudged(t *testing.T) {
	ctx := t.Context()
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
	sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: 1})
	for u, servers := range map[string][]*redisserver.Server{cluster.URL(): cluster.Nodes, sentinel.URL(): sentinel.Nodes} {
		for i, server := range servers {
			_, err := server.Do(ctx, "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
			want(t, err, nil, "CONFIG SET")
			s, err := redisstore.Open(ctx, u, &redisstore.Options{Logger: quiet})
			if u == sentinel.URL() && i > 0 { // a replica: its turn comes when it is the master
				want(t, err, nil, "Open")
				want(t, s.Close(), nil, "Close")
			} else {
				want(t, err, state.ErrRefused, "Open")
				if err != nil && !strings.Contains(err.Error(), "allkeys-lfu") {
					t.Errorf("%v does not name the policy", err)
				}
			}
			_, err = server.Do(ctx, "CONFIG", "SET", "maxmemory-policy", "noeviction")
			want(t, err, nil, "CONFIG SET")
		}
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	defer c.Close()
	_, err := cluster.Nodes[2].Do(ctx, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
	want(t, err, nil, "CONFIG SET")
	_, err = redisstore.FromClient(ctx, c, nil)
	want(t, err, state.ErrRefused, "FromClient")
}

// A server that was demoted after the store was opened is not believed.
func TestLoadsGoToTheMaster(t *testing.T) {
	server, ctx := redisserver.Start(t, nil), t.Context()
	s := open(t, server.URL(), redisstore.Options{MaxRetries: -1})
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	_, err := server.Do(ctx, "REPLICAOF", "127.0.0.1", "1")
	want(t, err, nil, "REPLICAOF")
	_, err = s.Load(ctx, "k")
	want(t, err, state.ErrUnavailable, "Load from a replica")
	_, err = s.Load(ctx, "never")
	want(t, err, state.ErrUnavailable, "Load from a replica")
	for _, err := range s.List(ctx, "") {
		want(t, err, state.ErrUnavailable, "List of a replica")
	}
	_, err = server.Do(ctx, "REPLICAOF", "NO", "ONE")
	want(t, err, nil, "REPLICAOF")
	_, err = s.Load(ctx, "k")
	want(t, err, nil, "Load")
	// What keeps a master from writing does not keep it from being read.
	for _, setting := range [][]string{{"maxmemory", "1"}, {"min-replicas-to-write", "1"}} {
		_, err = server.Do(ctx, "CONFIG", "SET", setting[0], setting[1])
		want(t, err, nil, "CONFIG SET")
		_, err = s.Load(ctx, "k")
		want(t, err, nil, "Load with "+setting[0])
	}
}
