package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

const secret = "tr0ub4dor"

// noSecret fails the test if text has the password in it, or a part of it.
func noSecret(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, secret[:5]) {
		t.Errorf("it shows the password: %s", text)
	}
}

func TestInvalidURL(t *testing.T) {
	for raw, says := range map[string]string{
		"":                                  "redis+cluster",
		"localhost:6379":                    "scheme",
		"http://h":                          "scheme",
		"redis:///0":                        "host",
		"redis:h":                           "host",
		"redis://h:0":                       "port",
		"redis://h:70000":                   "port",
		"redis://h/one":                     "database",
		"redis://h/-1":                      "database",
		"redis://h/1/2":                     "database",
		"redis://h#x":                       "#",
		"redis://user@h":                    "no password",
		"redis://h?pool=3":                  "pool-size",
		"redis://h?pool-size=3&pool-size=4": "pool-size 2 times",
		"redis://h?pool_size=3":             "pool-size",
		"redis://h?pool-size=-1":            "pool-size",
		"redis://h?pool-size=10001":         "pool-size",
		"redis://h?pool-size=ten":           "pool-size",
		"redis://h?max-retries=-2":          "max-retries",
		"redis://h?max-retries=0":           "write off (no retries)",
		"redis://h?wait-replicas=0":         "write off (no wait)",
		"redis://h?ttl=0":                   "write off (never)",
		"redis://h?max-retries=101":         "max-retries",
		"redis://h?ttl=30":                  "ttl",
		"redis://h?ttl=-1s":                 "ttl",
		"redis://h?ttl=1500us":              "TTL is 1.5ms",
		"redis://h?ttl=999us":               "ttl",
		"redis://h?connect-timeout=11m":     "connect-timeout",
		"redis://h?connect-timeout=999us":   "connect-timeout",
		"redis://h?read-timeout=-1s":        "read-timeout",
		"redis://h?write-timeout=1h":        "write-timeout",
		"redis://h?min-retry-backoff=2m":    "min-retry-backoff",
		"redis://h?max-retry-backoff=2m":    "max-retry-backoff",
		"redis://h?min-retry-backoff=2s&max-retry-backoff=1s": "MinRetryBackoff (2s) is longer than MaxRetryBackoff (1s)",
		"redis://h?key-prefix=":                               "key-prefix",
		"redis://h?key-prefix=a{b}":                           "without braces",
		// What a password with something unescaped in it does to a URL.
		"redis://u:" + secret + "@@h:x/":       "URL",
		"redis://u:" + secret + "/@h:6379/0":   "URL",
		"redis://u:1/" + secret + "@h:6379/0":  "URL",
		"redis://u:1#" + secret + "@h:6379/0":  "URL",
		"redis://u:1?" + secret + "@h:6379/0":  "URL",
		"redis://u:%zz" + secret + "@h:6379/0": "URL",
		"redis://u:" + secret + "%@h:6379/0":   "URL",
		"redis://u:" + secret + "@[h:6379/0":   "URL",
		"redis://u:" + secret + "\x00@h":       "URL",
	} {
		wantInvalidURL(t, raw, says)
	}
}

// wantInvalidURL wants a URL to be refused with a sentence that says something, and no
// secret.
func wantInvalidURL(t *testing.T, raw, says string) {
	t.Helper()
	_, err := redisstore.Open(t.Context(), raw, nil)
	want(t, err, state.ErrInvalid, raw)
	if err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v does not say %q", raw, err, says)
	}
	noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err))
}

func TestInvalidOptions(t *testing.T) {
	for says, o := range map[string]redisstore.Options{
		"PoolSize is -1":                 {PoolSize: -1},
		"PoolSize is 10001":              {PoolSize: 10_001},
		"MaxRetries is -2":               {MaxRetries: -2},
		"MaxRetries is 101":              {MaxRetries: 101},
		"TTL is -1ms":                    {TTL: -time.Millisecond},
		"TTL is 1µs":                     {TTL: time.Microsecond},
		"TTL is 1.5ms":                   {TTL: 1500 * time.Microsecond},
		"MinRetryBackoff is 1µs":         {MinRetryBackoff: time.Microsecond},
		"MaxRetryBackoff is 1m0.001":     {MaxRetryBackoff: time.Minute + time.Millisecond},
		"MinRetryBackoff (1s) is longer": {MinRetryBackoff: time.Second, MaxRetryBackoff: time.Millisecond},
		"ConnectTimeout is -1s":          {ConnectTimeout: -time.Second},
		"ReadTimeout is 11m0s":           {ReadTimeout: 11 * time.Minute},
		"WriteTimeout is 1ns":            {WriteTimeout: 1},
		`KeyPrefix is "{x"`:              {KeyPrefix: "{x"},
	} {
		_, err := redisstore.Open(t.Context(), "redis://127.0.0.1:1", &o)
		want(t, err, state.ErrInvalid, says)
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}

func TestURLWins(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL()+"/3?key-prefix=u:", redisstore.Options{KeyPrefix: "o:"})
	want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
	c := client(t, server)
	if n, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Select(t.Context(), 3)
		p.Exists(t.Context(), "u:{k}")
		return nil
	}); err != nil || n[1].(*redis.IntCmd).Val() != 1 {
		t.Errorf("database 3 and the URL's prefix were not used: %v, %v", n, err)
	}
}

// -1 and "off" disable what is off by default, too, so that a URL can override a field.
func TestOff(t *testing.T) {
	server := redisserver.Start(t, nil)
	for u, o := range map[string]redisstore.Options{
		"":                           {TTL: -1, WaitReplicas: -1},
		"?ttl=off&wait-replicas=off": {TTL: time.Hour, WaitReplicas: 1},
	} {
		s := open(t, server.URL()+u, o)
		if s.Expires() != 0 {
			t.Errorf("%q: checkpoints expire after %v", u, s.Expires())
		}
		want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 0)), nil, "a save without replicas") // on a server that has none
	}
}

func TestOpenUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	err = within(t, 0, slack, "Open", func() error {
		_, err := redisstore.Open(t.Context(), "redis://u:"+secret+"@"+l.Addr().String(), nil)
		return err
	})
	want(t, err, state.ErrUnavailable, "Open")
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("%v has no *net.OpError in its chain", err)
	}
	noSecret(t, err.Error())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = redisstore.Open(ended, "redis://"+l.Addr().String(), nil)
	want(t, err, context.Canceled, "Open with a context that has ended")
}

func TestPassword(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Password: secret + "/@#?%"})
	c := client(t, server)
	want(t, c.Do(t.Context(), "ACL", "SETUSER", "bob", "on", ">"+secret, "~*", "+@all").Err(), nil, "ACL SETUSER")
	for user, says := range map[*url.Userinfo]string{
		nil:                                   "NOAUTH",
		url.UserPassword("", secret):          "WRONGPASS",
		url.UserPassword("bob", secret+"x"):   "WRONGPASS",
		url.UserPassword("alice", secret):     "WRONGPASS",
		url.UserPassword("bob", secret):       "",
		url.UserPassword("", secret+"/@#?%"):  "",
		url.UserPassword("default", "/@#?%1"): "WRONGPASS",
	} {
		u := &url.URL{Scheme: "redis", User: user, Host: server.Addr}
		s, err := redisstore.OpenURL(t.Context(), u, nil)
		if says == "" {
			want(t, err, nil, u.Redacted())
			for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %d %q", s, s, s, s, s, s), logged(s)} {
				noSecret(t, text)
				if !strings.Contains(text, server.Addr) {
					t.Errorf("printed without its address: %s", text)
				}
			}
			want(t, s.Close(), nil, "Close")
			continue
		}
		want(t, err, state.ErrRefused, u.Redacted())
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v does not say %s", u.Redacted(), err, says)
		}
		noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
}

func logged(v any) string {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	return b.String()
}

// A server that does not know a command repeats it in its message, and with it
// a password or a checkpoint.
func TestEcho(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					line := strings.ReplaceAll(string(buf[:n]), "\r\n", " ")
					fmt.Fprintf(c, "-ERR unknown command 'x', with args beginning with: %s\r\n", line)
				}
			}()
		}
	}()
	_, err = redisstore.Open(t.Context(), "redis://u:"+secret+"@"+l.Addr().String(), nil)
	want(t, err, state.ErrRefused, "Open")
	for ; err != nil; err = errors.Unwrap(err) {
		noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err))
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			noSecret(t, fmt.Sprintf("%v %#v", j.Unwrap(), j.Unwrap()))
		}
	}
}

func TestOpenJudgesTheServer(t *testing.T) {
	for says, config := range map[string][]string{
		"allkeys-lru":    {"maxmemory-policy allkeys-lru"},
		"allkeys-random": {"maxmemory-policy allkeys-random", "maxmemory 100mb"},
		"replica":        {"replicaof 127.0.0.1 1"},
		"cluster":        {"cluster-enabled yes"},
	} {
		server := redisserver.Start(t, &redisserver.Options{Config: config})
		_, err := redisstore.Open(t.Context(), server.URL(), nil)
		want(t, err, state.ErrRefused, says)
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}

func TestOpenWarns(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Config: []string{"maxmemory-policy volatile-ttl"}})
	c := client(t, server)
	want(t, c.Do(t.Context(), "ACL", "SETUSER", "bob", "on", ">x", "~rigatoni:*", "-@all",
		"+evalsha", "+eval", "+time", "+exists", "+get", "+set", "+strlen", "+del", "+pexpireat", "+persist", "+rename",
		"+hget", "+hmget", "+hset", "+hdel", "+ping", "+scan").Err(), nil, "ACL SETUSER")
	for says, c := range map[string]struct {
		url string
		ttl time.Duration
	}{
		"volatile-ttl": {server.URL(), time.Hour},
		"INFO":         {"redis://bob:x@" + server.Addr, time.Hour},
		"":             {server.URL(), 0},
	} {
		var log bytes.Buffer
		s := open(t, c.url, redisstore.Options{TTL: c.ttl, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if warned := strings.Contains(log.String(), "level=WARN"); warned != (says != "") || !strings.Contains(log.String(), says) {
			t.Errorf("%q: the log is %q", says, log.String())
		}
		// The rights that the package doc lists are enough for everything.
		ctx := t.Context()
		g := acquire(t, s, "k")
		_, err := s.Load(ctx, "k")
		want(t, err, state.ErrNotFound, "Load")
		for name, err := range map[string]error{
			"SaveFenced": s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)), "Renew": s.Renew(ctx, "k", g.Fence, time.Hour),
			"Ping": s.Ping(ctx), "ClearFenced": s.ClearFenced(ctx, "k", g.Fence),
		} {
			want(t, err, nil, name)
		}
		for _, err := range s.List(ctx, "") {
			want(t, err, nil, "List")
		}
		want(t, s.Release(ctx, "k", g.Fence), nil, "Release")
		want(t, s.Forget(ctx, "k"), nil, "Forget")
	}
}

func TestFromClient(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	o, err := redis.ParseURL(p.url())
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := redis.NewClient(o), t.Context() // set to repeat three times by itself
	defer c.Close()
	s, err := redisstore.FromClient(ctx, c, &redisstore.Options{Logger: quiet})
	want(t, err, nil, "FromClient")
	p.next(after)
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 0)), state.ErrUnavailable, "Save")
	if n := p.scripts.Load(); n != 1 {
		t.Errorf("the lent client sent what must not be repeated %d times", n)
	}
	want(t, s.Close(), nil, "Close")
	want(t, s.Close(), nil, "Close again")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 0)), state.ErrClosed, "Save after Close")
	want(t, c.Ping(ctx).Err(), nil, "the lent client after Close")

	for _, o := range []redisstore.Options{{PoolSize: 1}, {ReadTimeout: 1e9}, {WriteTimeout: 1e9}, {TTL: 1}} {
		_, err := redisstore.FromClient(ctx, c, &o)
		want(t, err, state.ErrInvalid, "FromClient")
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}})
	defer cluster.Close()
	_, err = redisstore.FromClient(ctx, cluster, nil)
	want(t, err, state.ErrRefused, "FromClient with a Cluster's client of one plain server")
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": server.Addr}})
	defer ring.Close()
	_, err = redisstore.FromClient(ctx, ring, nil)
	want(t, err, errors.ErrUnsupported, "FromClient with a Ring")
	_, err = redisstore.FromClient(ctx, nil, nil)
	want(t, err, errors.ErrUnsupported, "FromClient with nothing")
}

// goRedisLog keeps what go-redis logs by itself.
type goRedisLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *goRedisLog) Printf(_ context.Context, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, format+"\n", args...)
}

// go-redis has a logger of its own, which writes to standard error.
func TestGoRedisIsQuiet(t *testing.T) {
	var log goRedisLog
	redis.SetLogger(&log)
	defer redis.SetLogger(nil)
	server := redisserver.Start(t, &redisserver.Options{Password: secret})
	s := open(t, server.URL(), redisstore.Options{ReadTimeout: 50 * time.Millisecond, MaxRetryBackoff: 10 * time.Millisecond})
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(t.Context(), "k")
	want(t, err, state.ErrUnavailable, "Load")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(t.Context(), "k")
	want(t, err, state.ErrUnavailable, "Load")
	noSecret(t, err.Error())
	want(t, s.Close(), nil, "Close")
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.text.Len() != 0 {
		t.Errorf("go-redis logged: %s", log.text.String())
	}
}
