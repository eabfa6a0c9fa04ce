//go:build linux

package faultproxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
)

// A conn sends commands and reads answers of one line.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, c)
}

func wrap(t *testing.T, c net.Conn) conn {
	t.Cleanup(func() { c.Close() })
	return conn{c, bufio.NewReader(c)}
}

func (c conn) send(args ...string) error {
	text := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	_, err := io.WriteString(c, text)
	return err
}

func (c conn) receive(patience time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	return strings.TrimSpace(line), err
}

const (
	short = 50 * time.Millisecond // in which nothing comes
	long  = 60 * time.Second      // in which everything comes
)

func (c conn) ask(args ...string) (string, error) {
	if err := c.send(args...); err != nil {
		return "", err
	}
	return c.receive(long)
}

// incr is the fault for the n-th INCR, counted from 0.
func incr(n int, fault faultproxy.Fault) func(faultproxy.Request) faultproxy.Fault {
	return func(r faultproxy.Request) faultproxy.Fault {
		if !r.Is("incr") {
			return faultproxy.Pass
		}
		if n--; n == -1 {
			return fault
		}
		return faultproxy.Pass
	}
}

// value is what the server has counted to.
func value(t *testing.T, s *redisserver.Server, key string) string {
	t.Helper()
	v, err := s.Do(t.Context(), "GET", key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(v)
}

// counted waits until the server has counted to n.
func counted(t *testing.T, s *redisserver.Server, key, n string) {
	t.Helper()
	for end := time.Now().Add(long); value(t, s, key) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is %s, not %s", key, value(t, s, key), n)
		}
	}
}

func TestCuts(t *testing.T) {
	s := redisserver.Start(t, nil)
	for name, c := range map[string]struct {
		fault faultproxy.Fault
		n     string
	}{
		"before": {faultproxy.CutBefore, "1"},
		"inside": {faultproxy.CutInside, "1"},
		"after":  {faultproxy.CutAfter, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := faultproxy.Start(t, s.Addr, nil)
			p.Plan(incr(1, c.fault))
			front := dial(t, p.Addr())
			if got, err := front.ask("INCR", name); err != nil || got != ":1" {
				t.Fatalf("%q, %v", got, err)
			}
			// Two at once: the answer that comes before the cut one passes.
			if err := errors.Join(front.send("ECHO", "x"), front.send("INCR", name)); err != nil {
				t.Fatal(err)
			}
			if c.fault == faultproxy.CutAfter {
				for _, want := range []string{"$1", "x"} {
					if got, err := front.receive(long); err != nil || got != want {
						t.Errorf("%q, %v, want %s", got, err, want)
					}
				}
				if got, err := front.receive(long); err == nil {
					t.Errorf("after the cut: %q", got)
				}
			} else if _, err := io.Copy(io.Discard, front); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is open")
			}
			if got := value(t, s, name); got != c.n {
				t.Errorf("counted to %s, want %s", got, c.n)
			}
			if got, err := dial(t, p.Addr()).ask("PING"); err != nil || got != "+PONG" {
				t.Errorf("another connection: %q, %v", got, err)
			}
			if p.Accepted() != 2 || p.Requests() != 4 {
				t.Errorf("%d connections, %d requests", p.Accepted(), p.Requests())
			}
		})
	}
}

func TestDelay(t *testing.T) {
	s := redisserver.Start(t, nil)
	p := faultproxy.Start(t, s.Addr, nil)
	for name, c := range map[string]struct {
		fault faultproxy.Fault
		n     string // while it waits
	}{
		"request": {faultproxy.Delay(2 * short), "<nil>"},
		"answer":  {faultproxy.DelayAnswer(2 * short), "1"},
	} {
		p.Plan(incr(0, c.fault))
		front, from := dial(t, p.Addr()), time.Now()
		if err := front.send("INCR", name); err != nil {
			t.Fatal(err)
		}
		if c.n == "1" {
			counted(t, s, name, "1")
		}
		if got := value(t, s, name); got != c.n && time.Since(from) < short {
			t.Errorf("%s: meanwhile %s", name, got)
		}
		if got, err := front.receive(long); err != nil || got != ":1" || time.Since(from) < 2*short {
			t.Errorf("%s: %q, %v after %v", name, got, err, time.Since(from))
		}
	}
}

func TestVanish(t *testing.T) {
	s := redisserver.Start(t, nil)
	p := faultproxy.Start(t, s.Addr, nil)
	p.Plan(incr(1, faultproxy.Vanish))
	front := dial(t, p.Addr())
	if got, err := front.ask("INCR", "k"); err != nil || got != ":1" {
		t.Fatalf("%q, %v", got, err)
	}
	for range 2 {
		if err := front.send("INCR", "k"); err != nil {
			t.Fatal(err)
		}
		if got, err := front.receive(short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got := value(t, s, "k"); got != "1" {
		t.Errorf("counted to %s", got)
	}
}

func TestSwallow(t *testing.T) {
	s := redisserver.Start(t, nil)
	p := faultproxy.Start(t, s.Addr, nil)
	old, idle := dial(t, p.Addr()), dial(t, p.Addr())
	for _, c := range []conn{old, idle} {
		if got, err := c.ask("PING"); err != nil || got != "+PONG" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	p.Swallow()
	fresh := dial(t, p.Addr())
	for _, c := range []conn{old, fresh} {
		if err := c.send("INCR", "k"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.receive(short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", got, err)
		}
	}
	p.Heal()
	if got, err := idle.ask("INCR", "k"); err != nil || got != ":1" {
		t.Errorf("a connection of which nothing was swallowed: %q, %v", got, err)
	}
	if err := old.send("PING"); err != nil {
		t.Fatal(err)
	}
	if got, err := old.receive(short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half open, it answers %q, %v", got, err)
	}
}

func TestPartition(t *testing.T) {
	s := redisserver.Start(t, nil)
	p := faultproxy.Start(t, s.Addr, nil)
	old, gone := dial(t, p.Addr()), dial(t, p.Addr())
	for _, c := range []conn{old, gone} {
		if got, err := c.ask("PING"); err != nil || got != "+PONG" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	p.Partition()
	fresh := dial(t, p.Addr())
	for _, c := range []conn{old, gone, fresh} {
		if err := c.send("INCR", "k"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.receive(short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, s, "k"); got != "<nil>" {
		t.Errorf("counted to %s", got)
	}
	if n := p.InFlight(); n != 3 {
		t.Errorf("%d requests are in flight, want 3", n)
	}
	p.Heal()
	for _, c := range []conn{old, fresh} {
		if got, err := c.receive(long); err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	counted(t, s, "k", "3") // what was on its way arrives, its sender gone or not
	for end := time.Now().Add(long); p.InFlight() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests are in flight", p.InFlight())
		}
	}
}

func TestHold(t *testing.T) {
	s := redisserver.Start(t, nil)
	p := faultproxy.Start(t, s.Addr, nil)
	held := faultproxy.NewHeld()
	p.Plan(incr(0, held.Fault()))
	front := dial(t, p.Addr())
	if err := front.send("INCR", "k"); err != nil {
		t.Fatal(err)
	}
	<-held.Arrived()
	if err := front.Close(); err != nil { // the sender gives up
		t.Fatal(err)
	}
	if got, err := dial(t, p.Addr()).ask("INCR", "k"); err != nil || got != ":1" {
		t.Errorf("another connection: %q, %v", got, err)
	}
	for range 2 { // asked again, the answer is not waited for for ever
		got, err := held.Release(t.Context())
		if err == nil && got != ":2\r\n" {
			t.Errorf("the answer to what was held is %q", got)
		}
	}
	if got := value(t, s, "k"); got != "2" {
		t.Errorf("counted to %s", got)
	}

	lost := faultproxy.NewHeld()
	p.Plan(incr(0, lost.Fault()))
	if err := dial(t, p.Addr()).send("INCR", "k"); err != nil {
		t.Fatal(err)
	}
	<-lost.Arrived()
	p.Cut()
	if got, err := lost.Release(t.Context()); !errors.Is(err, faultproxy.ErrLost) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTLSAtBothEnds(t *testing.T) {
	pki := redisserver.TestPKI(t)
	s := redisserver.Start(t, &redisserver.Options{TLS: pki})
	front, err := pki.Server()
	if err != nil {
		t.Fatal(err)
	}
	back, err := pki.Client()
	if err != nil {
		t.Fatal(err)
	}
	p := faultproxy.Start(t, s.Addr, &faultproxy.Options{Front: front, Back: back})
	p.Plan(incr(1, faultproxy.CutAfter))
	c, err := tls.Dial("tcp", p.Addr(), back)
	if err != nil {
		t.Fatal(err)
	}
	client := wrap(t, c)
	if got, err := client.ask("INCR", "k"); err != nil || got != ":1" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := client.ask("INCR", "k"); err == nil {
		t.Errorf("the answer came: %q", got)
	}
	if got := value(t, s, "k"); got != "2" {
		t.Errorf("counted to %s", got)
	}
}

func TestRaw(t *testing.T) {
	pki := redisserver.TestPKI(t)
	s := redisserver.Start(t, &redisserver.Options{TLS: pki})
	config, err := pki.Client()
	if err != nil {
		t.Fatal(err)
	}
	p := faultproxy.Start(t, s.Addr, &faultproxy.Options{Raw: true})
	c, err := tls.Dial("tcp", p.Addr(), config)
	if err != nil {
		t.Fatal(err)
	}
	client := wrap(t, c)
	if got, err := client.ask("INCR", "k"); err != nil || got != ":1" {
		t.Errorf("%q, %v", got, err)
	}
	p.Partition()
	if err := client.send("INCR", "k"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(short) // in which nothing happens
	if got := value(t, s, "k"); got != "1" {
		t.Errorf("parted, it has counted to %s", got)
	}
	p.Heal()
	if got, err := client.receive(long); err != nil || got != ":2" {
		t.Errorf("healed: %q, %v", got, err)
	}
}

func TestNetwork(t *testing.T) {
	s := redisserver.Start(t, nil)
	n := faultproxy.StartNetwork(t, nil)
	c, err := n.Dial(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	old := wrap(t, c)
	if got, err := old.ask("INCR", "k"); err != nil || got != ":1" {
		t.Errorf("%q, %v", got, err)
	}
	n.Partition()
	if err := old.send("INCR", "k"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if c, err := n.Dial(ctx, "tcp", s.Addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("parted, it dials: %v, %v", c, err)
	}
	n.Heal()
	if got, err := old.receive(long); err != nil || got != ":2" {
		t.Errorf("healed: %q, %v", got, err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var op *net.OpError
	if _, err := n.Dial(t.Context(), "tcp", s.Addr); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("to a stopped server: %v", err)
	}
	n.Close()
	if _, err := old.receive(long); err == nil {
		t.Error("closed, the network has connections")
	}
}
