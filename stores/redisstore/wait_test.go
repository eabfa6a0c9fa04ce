package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// WAIT counts: with as many replicas as there are, what is covered succeeds; with
// one more, all of it fails, says how many had it, and may be tried again.
func TestWaitReplicas(t *testing.T) {
	pair := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: -1, Replicas: 2})
	ctx, u := t.Context(), pair.Nodes[0].URL()
	for _, parameters := range []string{"", "?wait-replicas=off", "?wait-replicas=1", "?wait-replicas=2"} {
		work(ctx, t, open(t, u+parameters, redisstore.Options{}))
	}
	three := open(t, u, redisstore.Options{WaitReplicas: 3, WaitTimeout: 50 * time.Millisecond, MaxRetries: -1})
	enough := open(t, u, redisstore.Options{WaitReplicas: 2})
	g := acquire(t, enough, "k")
	for name, op := range map[string]func() error{
		"Acquire": func() error {
			_, err := three.Acquire(ctx, "other", state.LeaseRequest{Nonce: "n", TTL: time.Hour})
			return err
		},
		"Save":                   func() error { return three.Save(ctx, "free", checkpoint(t, "82AA", 0)) },
		"SaveFenced":             func() error { return three.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)) },
		"Renew":                  func() error { return three.Renew(ctx, "k", g.Fence, time.Hour) },
		"ClearFenced":            func() error { return three.ClearFenced(ctx, "k", g.Fence) },
		"Clear":                  func() error { return three.Clear(ctx, "free") },
		"Clear of what is clear": func() error { return three.Clear(ctx, "never") },
	} {
		err := op()
		var short *redisstore.ReplicationError
		if !errors.As(err, &short) || short.Replicas != 2 || short.Wanted != 3 {
			t.Errorf("%s: %v, want one that says 2 of 3", name, err)
		}
		var e *state.Error
		if !errors.Is(err, state.ErrUnavailable) || !errors.As(err, &e) || !e.Retryable() {
			t.Errorf("%s: %v is not retryable", name, err)
		}
	}
	want(t, three.Release(ctx, "k", g.Fence), nil, "Release, which waits for nobody")
	// What the script refuses is refused, whatever the replicas have.
	want(t, three.SaveFenced(ctx, "k", state.Fence{Epoch: 9, Nonce: "x"}, checkpoint(t, "82AA", 1)), state.ErrFenced, "SaveFenced")
}

func TestWaitTimeout(t *testing.T) {
	server := redisserver.Start(t, nil) // no replicas at all
	for parameters, least := range map[string]time.Duration{
		"?wait-replicas=1&wait-timeout=50ms&max-retries=off": 50 * time.Millisecond,
		"?wait-replicas=1&max-retries=off":                   time.Second,
		// Longer than the read timeout: the two are added.
		"?wait-replicas=1&wait-timeout=700ms&read-timeout=500ms&max-retries=off": 700 * time.Millisecond,
		// The attempts are the same save, and each waits.
		"?wait-replicas=1&wait-timeout=100ms&max-retries=2": 300 * time.Millisecond,
	} {
		s := open(t, server.URL()+parameters, redisstore.Options{})
		err := within(t, least, least+2*slack, parameters, func() error { return s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)) })
		var short *redisstore.ReplicationError
		if !errors.As(err, &short) || short.Replicas != 0 {
			t.Errorf("%s: %v, want one that says 0 of 1", parameters, err)
		}
	}
}

// A repeated call is about what the first one wrote, on whatever connection: a
// checkpoint that no replica has is not taken for replicated.
func TestWaitOfARepeatedCall(t *testing.T) {
	pair := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: -1})
	ctx, replica := t.Context(), pair.Nodes[1]
	free := open(t, pair.Nodes[0].URL(), redisstore.Options{})
	r := state.LeaseRequest{Nonce: "n", TTL: time.Hour}
	g, err := free.Acquire(ctx, "k", r)
	want(t, err, nil, "Acquire")
	want(t, free.Save(ctx, "gone", checkpoint(t, "82AA", 0)), nil, "Save")
	want(t, replica.Freeze(), nil, "Freeze")
	want(t, free.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)), nil, "SaveFenced, without WAIT")
	want(t, free.Clear(ctx, "gone"), nil, "Clear, without WAIT")
	for name, op := range map[string]func(s *redisstore.Store) error{
		"Acquire":    func(s *redisstore.Store) error { _, err := s.Acquire(ctx, "k", r); return err },
		"SaveFenced": func(s *redisstore.Store) error { return s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)) },
		"Clear":      func(s *redisstore.Store) error { return s.Clear(ctx, "gone") },
	} {
		// A store with connections of its own, which have written nothing.
		s := open(t, pair.Nodes[0].URL(), redisstore.Options{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond, MaxRetries: -1})
		want(t, op(s), state.ErrUnavailable, name+" again, while the replica has nothing")
	}
	want(t, replica.Thaw(), nil, "Thaw")
	s := open(t, pair.Nodes[0].URL(), redisstore.Options{WaitReplicas: 1, WaitTimeout: 10 * time.Second, ReadTimeout: time.Second})
	want(t, s.Clear(ctx, "gone"), nil, "Clear, once it is replicated")
}
