package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// versions are the servers that differ in their messages, besides the redis-server on
// PATH with which all other tests run.
var versions = []string{redisserver.Redis62, redisserver.Valkey9}

// eachVersion runs f on each version, and on the redis-server on PATH.
func eachVersion(t *testing.T, f func(t *testing.T, version string)) {
	for _, v := range append([]string{""}, versions...) {
		name := v
		if name == "" {
			name = "on PATH"
		}
		t.Run(name, func(t *testing.T) { f(t, v) })
	}
}

// TestVersions holds the store to its contract on the other versions.
func TestVersions(t *testing.T) {
	grounds := map[string]func(*testing.T, redisserver.Options) string{
		"one server": func(t *testing.T, o redisserver.Options) string { return redisserver.Start(t, &o).URL() },
		"Sentinel": func(t *testing.T, o redisserver.Options) string {
			return redisserver.StartSentinel(t, &redisserver.SentinelOptions{Options: o, Sentinels: 1}).URL()
		},
		"Cluster": func(t *testing.T, o redisserver.Options) string {
			return redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: o, Replicas: -1}).URL()
		},
	}
	for _, v := range versions {
		for name, start := range grounds {
			if name != "one server" && !campaign.Full(t) {
				continue
			}
			t.Run(v+", "+name, func(t *testing.T) {
				u := start(t, redisserver.Options{Version: v})
				var run atomic.Int64
				statetest.Run(t, func(t *testing.T) statetest.Harness {
					o := redisstore.Options{KeyPrefix: fmt.Sprintf("t%d:", run.Add(1)), Logger: quiet}
					if run.Load()%2 == 0 {
						o.TTL = time.Hour
					}
					return statetest.Harness{
						Open:  func(ctx context.Context) (state.Store, error) { return openPatiently(ctx, u, &o) },
						Short: !campaign.Full(t),
					}
				})
			})
		}
	}
}

// A missing right is refused at opening, in one sentence that names it and not the user.
func TestRightsOfEachVersion(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		server := redisserver.Start(t, &redisserver.Options{Version: version})
		o := redisstore.Options{Username: "bob", Password: secret, Logger: quiet}
		rights := slices.Concat([]string{keyRight}, scriptRights, listRights, infoRights)
		setRights(t, []*redisserver.Server{server}, rights...)
		want(t, everythingTwice(t.Context(), t, server.URL(), o), nil, "with all rights")
		for i, right := range rights {
			if slices.Contains(infoRights, right) {
				continue
			}
			setRights(t, []*redisserver.Server{server}, slices.Delete(slices.Clone(rights), i, i+1)...)
			_, err := server.Do(t.Context(), "SCRIPT", "FLUSH")
			want(t, err, nil, "SCRIPT FLUSH")
			_, err = redisstore.Open(t.Context(), server.URL(), &o)
			want(t, err, state.ErrRefused, "without "+right)
			text := fmt.Sprint(err)
			if !strings.Contains(text, "the user lacks a right: ") || strings.Contains(text, "bob") || strings.Contains(text, "user_script") || strings.Contains(text, "\n") {
				t.Errorf("without %s: %s", right, text)
			}
			if _, name, _ := strings.Cut(right, "+"); right != keyRight && !strings.Contains(text, "'"+name+"'") && !strings.Contains(text, "+"+name) {
				t.Errorf("without %s: the error doesn't name it: %s", right, text)
			}
		}
	})
}

// What passes is repeated on each version, and what doesn't is refused, whether the
// server says so to a command or inside a script.
func TestRefusalsOfEachVersion(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		server := redisserver.Start(t, &redisserver.Options{Version: version})
		do := func(args ...string) {
			t.Helper()
			_, err := server.Do(t.Context(), args...)
			want(t, err, nil, fmt.Sprint(args))
		}
		p := newProxy(t, server.Addr)
		s, ctx := open(t, p.url(), redisstore.Options{MaxRetries: 2, MaxRetryBackoff: 10 * time.Millisecond}), t.Context()
		want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
		try := func(target error, attempts int64, hint string) {
			t.Helper()
			for what, op := range map[string]func() error{
				"Save": func() error { return s.Save(ctx, "k", checkpoint(t, "82AB", 2)) },
				"Ping": func() error { return s.Ping(ctx) },
				"Acquire": func() error {
					_, err := s.Acquire(ctx, "new", state.LeaseRequest{Nonce: "n", TTL: time.Hour})
					return err
				},
			} {
				p.next()
				err := op()
				want(t, err, target, what)
				if n := p.scripts.Load(); n != attempts {
					t.Errorf("%s: %d attempts, want %d: %v", what, n, attempts, err)
				}
				if text := fmt.Sprint(err); !strings.Contains(text, hint) || strings.Contains(text, "user_script") {
					t.Errorf("%s: %s", what, text)
				}
			}
		}
		do("REPLICAOF", "127.0.0.1", "1")
		try(state.ErrUnavailable, 3, "READONLY")
		_, err := redisstore.Open(ctx, server.URL(), &redisstore.Options{Logger: quiet})
		want(t, err, state.ErrRefused, "Open of a replica")
		do("REPLICAOF", "NO", "ONE")
		do("CONFIG", "SET", "min-replicas-to-write", "1")
		try(state.ErrUnavailable, 3, "NOREPLICAS")
		do("CONFIG", "SET", "min-replicas-to-write", "0")
		do("CONFIG", "SET", "maxmemory", "1")
		try(state.ErrRefused, 1, "its memory is full: OOM")
		do("CONFIG", "SET", "maxmemory", "0")
		do("ACL", "SETUSER", "default", "-set", "-hset")
		try(state.ErrRefused, 1, "the user lacks a right: ")
	})
}

// An answering server answers each command from its name.
func answering(t *testing.T, answer func(name string) (reply string, hangUp bool)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	want(t, err, nil, "Listen")
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					name, err := command(r)
					if err != nil {
						return
					}
					reply, hangUp := answer(name)
					if hangUp {
						return
					}
					if _, err := io.WriteString(c, reply+"\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "redis://" + l.Addr().String()
}

// command reads a command and returns its name in lower case.
func command(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "*")))
	name := ""
	for i := 0; i < n && err == nil; i++ {
		var size, text string
		if size, err = r.ReadString('\n'); err != nil {
			break
		}
		length, _ := strconv.Atoi(strings.TrimSpace(size[1:]))
		b := make([]byte, length+2)
		if _, err = io.ReadFull(r, b); i == 0 {
			text = string(b[:length])
			name = strings.ToLower(text)
		}
	}
	return name, err
}

// What is not quite a Redis is refused in one sentence that says what to do.
func TestProxiesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(name string) (string, bool)
		want   string
	}{
		"hangs up at HELLO": {func(name string) (string, bool) { return "+PONG", name != "ping" }, "closes the connection when it gets HELLO"},
		"Envoy": {func(name string) (string, bool) {
			if name == "ping" {
				return "+PONG", false
			}
			return "-ERR unknown command '" + name + "', with args beginning with: ", false
		}, "it doesn't know a command that this store needs (is it a proxy, or not a Redis? connect to Redis directly): unknown command 'scan'"},
		"an old Envoy": {func(name string) (string, bool) {
			if name == "ping" {
				return "+PONG", false
			}
			return "-unsupported command '" + name + "'", false
		}, "connect to Redis directly): unsupported command 'scan'"},
		"no scripts": {func(name string) (string, bool) {
			switch name {
			case "ping":
				return "+PONG", false
			case "scan":
				return "*2\r\n$1\r\n0\r\n*0", false
			case "info":
				return "$20\r\nredis_version:7.0.0\n", false
			}
			return "-ERR unknown command '" + name + "'", false
		}, "connect to Redis directly): unknown command 'evalsha'"},
	} {
		_, err := redisstore.Open(t.Context(), answering(t, c.answer), &redisstore.Options{Logger: quiet, MaxRetries: 1, MaxRetryBackoff: 10 * time.Millisecond})
		want(t, err, state.ErrRefused, name)
		if errors.Is(err, state.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want one with %q", name, err, c.want)
		}
	}
}
