package redisstore_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

type jsonDoc = json.RawMessage

func bigDoc(n int) jsonDoc { return jsonDoc(`"` + strings.Repeat("x", n) + `"`) }

// eventually waits for what another goroutine or process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it never came", what)
		}
	}
}

func TestPoolSize(t *testing.T) {
	server := redisserver.Start(t, nil)
	for parameter, size := range map[string]int64{"": 10, "?pool-size=1": 1, "?pool-size=3": 3} {
		p := newProxy(t, server.Addr)
		s := open(t, p.url()+parameter, redisstore.Options{ReadTimeout: 30 * time.Second})
		if err := server.Freeze(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 30)
		for range cap(done) {
			go func() { done <- s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)) }()
		}
		eventually(t, "all connections", func() bool { return p.accepted.Load() >= size })
		if err := server.Thaw(); err != nil {
			t.Fatal(err)
		}
		for range cap(done) {
			want(t, <-done, nil, "Save")
		}
		if n := p.accepted.Load(); n != size {
			t.Errorf("%q: %d connections, want %d", parameter, n, size)
		}
	}
}

func TestMaxRetries(t *testing.T) {
	server := redisserver.Start(t, nil)
	for _, c := range []struct {
		parameter string
		options   int
		attempts  int64
	}{{"", 0, 4}, {"", -1, 1}, {"", 5, 6}, {"?max-retries=off", 5, 1}, {"?max-retries=2", 0, 3}} {
		p := newProxy(t, server.Addr)
		s := open(t, p.url()+c.parameter, redisstore.Options{MaxRetries: c.options, MaxRetryBackoff: 8 * time.Millisecond})
		p.next(slices.Repeat([]cut{before}, 50)...)
		_, err := s.Load(t.Context(), "k")
		want(t, err, state.ErrUnavailable, "Load")
		if n := p.scripts.Load(); n != c.attempts {
			t.Errorf("%q, MaxRetries %d: %d attempts, want %d", c.parameter, c.options, n, c.attempts)
		}
	}
}

func TestRetryBackoff(t *testing.T) {
	server := redisserver.Start(t, nil)
	for _, c := range []struct {
		parameters  string
		least, most time.Duration // of the waits in all, which chance may halve
	}{
		{"max-retries=3&min-retry-backoff=100ms&max-retry-backoff=10s", 350 * time.Millisecond, 700 * time.Millisecond},
		{"max-retries=3&min-retry-backoff=100ms&max-retry-backoff=100ms", 150 * time.Millisecond, 300 * time.Millisecond},
		{"max-retries=3&min-retry-backoff=1ms&max-retry-backoff=1ms", 0, 3 * time.Millisecond},
	} {
		p := newProxy(t, server.Addr)
		s := open(t, p.url()+"?"+c.parameters, redisstore.Options{})
		p.next(slices.Repeat([]cut{before}, 50)...)
		err := within(t, c.least, c.most+slack/4, c.parameters, func() error { _, err := s.Load(t.Context(), "k"); return err })
		want(t, err, state.ErrUnavailable, "Load")
	}
}

func TestTTL(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	record, fence := redisstore.Names("rigatoni:", "k")
	expiry := func() int64 {
		t.Helper()
		at, err := c.Do(ctx, "PEXPIRETIME", record).Int64()
		if err != nil {
			t.Fatal(err)
		}
		due, err := c.HGet(ctx, fence, "due").Int64()
		if err != nil || due != max(at, 0) {
			t.Errorf("it expires at %d, and the fence says %d", at, due)
		}
		return at
	}
	clock := func() int64 { t.Helper(); now := c.Time(ctx).Val(); return now.UnixMilli() }

	const ttl = 86_400_123 // ms
	s := open(t, server.URL()+"?ttl=86400123ms", redisstore.Options{})
	g := acquire(t, s, "k")
	last := int64(0)
	for name, op := range map[string]func() error{
		"save":       func() error { return s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)) },
		"same again": func() error { return s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)) },
	} {
		from := clock()
		want(t, op(), nil, name)
		if last = expiry(); last < from+ttl || last > clock()+ttl {
			t.Errorf("%s: it expires %d ms after the save, want %d", name, last-from, ttl)
		}
	}
	eventually(t, "the next millisecond", func() bool { return clock() > last-ttl })
	want(t, s.Renew(ctx, "k", g.Fence, time.Hour), nil, "Renew")
	if at := expiry(); at <= last {
		t.Errorf("a renewal left the expiry at %d", at)
	}
	none := open(t, server.URL(), redisstore.Options{})
	want(t, none.Renew(ctx, "k", g.Fence, time.Hour), nil, "Renew")
	if at := expiry(); at != -1 {
		t.Errorf("renewed without a TTL, it expires at %d", at)
	}
	want(t, s.Renew(ctx, "k", g.Fence, time.Hour), nil, "Renew")
	want(t, none.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AB", 2)), nil, "SaveFenced")
	if at := expiry(); at != -1 {
		t.Errorf("saved without a TTL, it expires at %d", at)
	}
	if at, err := c.Do(ctx, "PEXPIRETIME", fence).Int64(); err != nil || at != -1 {
		t.Errorf("the fence expires at %d, %v", at, err)
	}
}

func TestTTLRunsOut(t *testing.T) {
	server := redisserver.Start(t, nil)
	s, c, ctx := open(t, server.URL(), redisstore.Options{TTL: 50 * time.Millisecond}), client(t, server), t.Context()
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 3)), nil, "Save")
	record, _ := redisstore.Names("rigatoni:", "k")
	eventually(t, "the expiry", func() bool { return c.Exists(ctx, record).Val() == 0 })
	_, err := s.Load(ctx, "k")
	want(t, err, state.ErrExpired, "Load")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 3)), state.ErrStale, "the same save again, late")
	var listed []error
	for e, err := range s.List(ctx, "") {
		listed = append(listed, errors.Join(err, e.LoadErr))
	}
	if len(listed) != 1 || !errors.Is(listed[0], state.ErrExpired) {
		t.Errorf("listed: %v", listed)
	}
}

// Prefixes that begin alike, or mean something to SCAN, keep apart.
func TestKeyPrefix(t *testing.T) {
	server := redisserver.Start(t, nil)
	ctx := t.Context()
	prefixes := []string{"", "a", "a:", "a:b", "*", "?", "[a]", `\`, "^", "a:*"}
	stores := map[string]*redisstore.Store{}
	for i, prefix := range prefixes {
		stores[prefix] = open(t, server.URL(), redisstore.Options{KeyPrefix: prefix})
		want(t, stores[prefix].Save(ctx, "k*", checkpoint(t, "82AA", uint64(i+1))), nil, "Save")
		want(t, stores[prefix].Save(ctx, "kx", checkpoint(t, "82AA", uint64(i+1))), nil, "Save")
	}
	for i, prefix := range prefixes {
		n := 0
		for e, err := range stores[prefix].List(ctx, "k*") {
			want(t, errors.Join(err, e.LoadErr), nil, "List")
			if n++; e.Key != "k*" || e.Checkpoint.Sequence != uint64(i+1) {
				t.Errorf("prefix %q lists %q with sequence %d", prefix, e.Key, e.Checkpoint.Sequence)
			}
		}
		if n != 1 {
			t.Errorf("prefix %q lists %d keys", prefix, n)
		}
	}
	c := client(t, server)
	if n := c.Exists(ctx, "rigatoni:{k%2A}", "rigatoni:{k%2A}:fence", "a:b{k%2A}", "a:b{k%2A}:fence").Val(); n != 4 {
		t.Errorf("%d of 4 documented names", n)
	}
}
