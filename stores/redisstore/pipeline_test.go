package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// run runs a pipeline until the function ends it, and returns its error.
func run(t *testing.T, src rigatoni.Source, dest rigatoni.Destination, s state.Store, o rigatoni.Config) (end func() error) {
	t.Helper()
	o.Name, o.Source, o.Destination, o.Store = "shop", src, dest, s
	if o.Logger == nil {
		o.Logger = quiet
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, err := rigatoni.New(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	var result error
	end = func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}
	t.Cleanup(func() { _ = end() })
	select {
	case <-p.Ready():
	case result = <-done:
		once.Do(cancel)
	}
	return end
}

// A quiet stream's checkpoint outlives its time to live many times over, by the idle
// advance and by the renewals, while the pipeline runs; afterwards it expires, and
// that is no first start.
func TestPipelineAndTTL(t *testing.T) {
	server := redisserver.Start(t, nil)
	for name, c := range map[string]struct {
		ttl time.Duration
		o   rigatoni.Config
	}{
		"renewals": {600 * time.Millisecond, rigatoni.Config{LeaseTTL: 600 * time.Millisecond, IdleInterval: time.Hour}},
		// The source advances an idle stream once a second.
		"idle advance": {1800 * time.Millisecond, rigatoni.Config{LeaseTTL: time.Hour, IdleInterval: 100 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, server.URL(), redisstore.Options{TTL: c.ttl, KeyPrefix: name})
			insert := rigatonitest.Insert("shop.orders", map[string]int{"_id": 1})
			end := run(t, rigatonitest.NewSource(insert), &rigatonitest.Destination{}, s, c.o)
			for until := time.Now().Add(5 * c.ttl / 2); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
				if _, err := s.Load(t.Context(), "shop"); err != nil {
					t.Fatal(err)
				}
			}
			want(t, end(), nil, "Run")
			eventually(t, "the expiry", func() bool { _, err := s.Load(t.Context(), "shop"); return errors.Is(err, state.ErrExpired) })
			dest := &rigatonitest.Destination{}
			want(t, run(t, rigatonitest.NewSource(insert), dest, s, c.o)(), state.ErrExpired, "the next start")
			if n := len(dest.Events()); n != 0 {
				t.Errorf("it started over, and delivered %d events", n)
			}
		})
	}
}

// With WAIT, what no replica has is not acted upon: no delivery follows a first
// save, or a lease, that only the master knows of.
func TestPipelineAndWait(t *testing.T) {
	pair := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: -1})
	replica := pair.Nodes[1]
	s := open(t, pair.Nodes[0].URL(), redisstore.Options{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond, MaxRetries: 1})
	o := rigatoni.Config{FirstStart: rigatoni.FirstStart{Time: rigatonitest.Insert("a.b", map[string]int{"_id": 0}).ClusterTime()}, LeaseTTL: time.Minute}
	events := []rigatoni.Event{rigatonitest.Insert("shop.orders", map[string]int{"_id": 1})}

	want(t, replica.Freeze(), nil, "Freeze")
	dest := &rigatonitest.Destination{}
	err := run(t, rigatonitest.NewSource(events...), dest, s, o)()
	var short *redisstore.ReplicationError
	if !errors.As(err, &short) || len(dest.Events()) != 0 {
		t.Errorf("a lease that no replica has: %v, and %d events were delivered", err, len(dest.Events()))
	}
	want(t, replica.Thaw(), nil, "Thaw")
	want(t, pair.Nodes[0].Kill(), nil, "Kill")
	want(t, pair.Nodes[0].Restart(t.Context()), nil, "Restart") // the lease is gone
	want(t, pair.Settled(t.Context()), nil, "Settled")

	frozen := opening{Source: rigatonitest.NewSource(events...), then: func() error { return replica.Freeze() }}
	err = run(t, frozen, dest, s, o)()
	if !errors.As(err, &short) || len(dest.Events()) != 0 {
		t.Errorf("a first save that no replica has: %v, and %d events were delivered", err, len(dest.Events()))
	}
	// It is on the master. The next start's lease waits for the replica to have both.
	o.LeaseTTL = time.Second
	thawed := make(chan int, 1)
	time.AfterFunc(2*time.Second, func() {
		thawed <- len(dest.Events())
		want(t, replica.Thaw(), nil, "Thaw")
	})
	end := run(t, rigatonitest.NewSource(events...), dest, s, o)
	if n := <-thawed; n != 0 {
		t.Errorf("%d events were delivered under a lease that no replica has", n)
	}
	eventually(t, "the event, once the replica has the lease", func() bool { return len(dest.Events()) == 1 })
	want(t, end(), nil, "Run")
}

// An opening does something when the stream has been opened.
type opening struct {
	rigatoni.Source
	then func() error
}

func (o opening) Open(ctx context.Context, name string, at rigatoni.Start) (rigatoni.Stream, error) {
	s, err := o.Source.Open(ctx, name, at)
	return s, errors.Join(err, o.then())
}

type historical struct{ rigatoni.Source }

func (historical) History(context.Context) (rigatoni.History, error) {
	return rigatoni.History{Reach: 24 * time.Hour}, nil
}

func TestTTLShorterThanTheHistory(t *testing.T) {
	server := redisserver.Start(t, nil)
	for ttl, warns := range map[time.Duration]bool{time.Hour: true, 48 * time.Hour: false, 0: false} {
		var log bytes.Buffer
		s := open(t, server.URL(), redisstore.Options{TTL: ttl})
		end := run(t, historical{rigatonitest.NewSource()}, &rigatonitest.Destination{}, s, rigatoni.Config{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		want(t, end(), nil, "Run")
		if strings.Contains(log.String(), "forgets a checkpoint sooner") != warns {
			t.Errorf("TTL %v: %s", ttl, log.String())
		}
	}
}

// A stop while Redis is frozen and the lease has ended is no clean one: what was
// delivered is not saved.
func TestStopWhileFrozen(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL(), redisstore.Options{MaxRetries: 1, ConnectTimeout: 200 * time.Millisecond})
	dest := &rigatonitest.Destination{}
	o := rigatoni.Config{SaveInterval: time.Hour, LeaseTTL: 500 * time.Millisecond}
	end := run(t, rigatonitest.NewSource(rigatonitest.Insert("shop.orders", map[string]int{"_id": 1})), dest, s, o)
	if _, err := dest.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	want(t, server.Freeze(), nil, "Freeze")
	time.Sleep(o.LeaseTTL + 100*time.Millisecond) // the lease ends by the clock, and by nothing else
	want(t, end(), rigatoni.ErrUnsaved, "Run")
	want(t, server.Thaw(), nil, "Thaw")
}
