//go:build linux

package redisserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
)

// do is s.Do as text, and fails the test on an error.
func do(t *testing.T, s *redisserver.Server, args ...string) string {
	t.Helper()
	v, err := s.Do(t.Context(), args...)
	if err != nil {
		t.Fatalf("%s: %v: %v", s.Addr, args, err)
	}
	return fmt.Sprint(v)
}

// until asks f until it is true.
func until(t *testing.T, what string, f func(context.Context) bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(t.Context()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestTLS(t *testing.T) {
	pki := redisserver.TestPKI(t)
	s := redisserver.Start(t, &redisserver.Options{TLS: pki, Password: "pw", Config: []string{"tls-auth-clients yes"}})
	if !strings.HasPrefix(s.URL(), "rediss://") {
		t.Errorf("the URL is %s", s.URL())
	}
	if got := do(t, s, "ECHO", "a b"); got != "a b" {
		t.Errorf("ECHO: %q", got)
	}
	client, err := pki.Client()
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = redisserver.ServerName
	for name, breaks := range map[string]func(*tls.Config){
		"as it is":               func(*tls.Config) {},
		"no certificate":         func(c *tls.Config) { c.Certificates = nil },
		"no authority":           func(c *tls.Config) { c.RootCAs = nil },
		"the name of the server": func(c *tls.Config) { c.ServerName = "other.test" },
	} {
		config := client.Clone()
		breaks(config)
		c, err := tls.Dial("tcp", s.Addr, config)
		if err == nil {
			_, err = ask(t, c, "PING") // of its own certificate a client hears after the handshake
			c.Close()
		}
		if good := name == "as it is"; good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSocket(t *testing.T) {
	s := redisserver.Start(t, &redisserver.Options{Socket: true})
	c, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := ask(t, c, "PING"); err != nil || got != "+PONG" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUsers(t *testing.T) {
	s := redisserver.Start(t, &redisserver.Options{Users: []redisserver.User{{Name: "u", Password: "p w", Rules: "~a:* +get"}}})
	c := dial(t, s)
	for _, step := range [][2]string{
		{`AUTH u "p w"`, "+OK"}, {"GET a:1", "$-1"}, {"GET b", "-NOPERM"}, {"SET a:1 x", "-NOPERM"},
	} {
		if got, err := ask(t, c, step[0]); err != nil || !strings.HasPrefix(got, step[1]) {
			t.Errorf("%s: %q, %v, want %s", step[0], got, err, step[1])
		}
	}
}

// withAndWithoutTLS runs f twice.
func withAndWithoutTLS(t *testing.T, f func(*testing.T, redisserver.Options)) {
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		f(t, redisserver.Options{})
	})
	t.Run("TLS and passwords", func(t *testing.T) {
		t.Parallel()
		f(t, redisserver.Options{TLS: redisserver.TestPKI(t), Password: "p w"})
	})
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	withAndWithoutTLS(t, func(t *testing.T, o redisserver.Options) {
		so := &redisserver.SentinelOptions{Options: o, Replicas: 2}
		if o.Password != "" {
			so.SentinelUser, so.SentinelPassword = "watch", "s w"
		}
		from := time.Now()
		s := redisserver.StartSentinel(t, so)
		t.Logf("started in %v", time.Since(from))
		old, err := s.Master(t.Context())
		if err != nil || old != s.Nodes[0] {
			t.Fatalf("the master is %v, %v", old, err)
		}
		do(t, old, "SET", "k", "v")
		do(t, old, "WAIT", "2", "0")
		from = time.Now()
		if err := old.Kill(); err != nil {
			t.Fatal(err)
		}
		until(t, "another master", func(ctx context.Context) bool {
			m, err := s.Master(ctx)
			return err == nil && m != old
		})
		t.Logf("failed over in %v", time.Since(from))
		if err := old.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range s.Nodes {
			if got := do(t, n, "GET", "k"); got != "v" {
				t.Errorf("%s has %s", n.Addr, got)
			}
		}
	})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	withAndWithoutTLS(t, func(t *testing.T, o redisserver.Options) {
		from, ctx := time.Now(), t.Context()
		c := redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: o})
		t.Logf("started in %v", time.Since(from))
		slot, err := c.Slot(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		old, err := c.MasterOf(ctx, slot)
		if err != nil {
			t.Fatal(err)
		}
		do(t, old, "SET", "k", "v")
		other := c.Nodes[0]
		if other == old {
			other = c.Nodes[1]
		}
		if err := c.MoveSlot(ctx, slot, other); err != nil {
			t.Fatal(err)
		}
		if got := do(t, other, "GET", "k"); got != "v" {
			t.Errorf("after the move, %s", got)
		}
		if _, err := old.Do(ctx, "GET", "k"); err == nil || !strings.HasPrefix(err.Error(), "MOVED") {
			t.Errorf("the old master says %v", err)
		}
		do(t, other, "WAIT", "1", "0")
		from = time.Now()
		if err := other.Kill(); err != nil {
			t.Fatal(err)
		}
		var next *redisserver.Server
		until(t, "another master", func(ctx context.Context) bool {
			next, err = c.MasterOf(ctx, slot)
			return err == nil && next != other
		})
		t.Logf("failed over in %v", time.Since(from))
		if got := do(t, next, "GET", "k"); got != "v" {
			t.Errorf("after the failover, %s", got)
		}
		if err := errors.Join(other.Restart(ctx), c.Settled(ctx)); err != nil {
			t.Fatal(err)
		}
		if info, err := other.Info(ctx, "replication"); err != nil || info["role"] != "slave" {
			t.Errorf("the old master is %s, %v", info["role"], err)
		}
	})
}
