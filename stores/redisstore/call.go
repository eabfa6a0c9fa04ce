package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A call is one run of a script or, with a record, a SET of it under its seal.
type call struct {
	script *script
	key    string // "" for the ping, which has its own name
	args   []any
	// again means that the script is idempotent, so that it may be retried when it is
	// unknown whether it was executed.
	again bool
	// extra is a third name, of a record. Redis then answers TRYAGAIN if a Cluster is
	// moving the key's names and they are not all on one node.
	extra string
	// sealed receives the new seal under which the script puts the record: another
	// one for each attempt, so that a delayed attempt can't make an old seal valid
	// again. nil: the script makes none.
	sealed *string

	name any // of the record to SET
	text any // of it: bytes, or what gives them
}

// call runs c with retries, as try does.
func (s *Store) call(ctx context.Context, c call) (reply, error) {
	var r reply
	err := s.try(ctx, c.key, c.again, func(ctx context.Context) (err error) {
		r, err = s.run(ctx, c)
		return err
	})
	if err != nil {
		return nil, err // and r may still be written to
	}
	return r, r.refusal()
}

// try calls f, with the retries that the package documentation describes. It returns
// when ctx is done or the store is closed. f uses the context that it receives.
func (s *Store) try(ctx context.Context, key string, again bool, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.enter() {
		return state.ErrClosed
	}
	if s.clock != nil {
		defer s.calls.Done()
		watched, end := s.clock.watch(ctx)
		defer end()
		return s.persist(watched, key, again, f)
	}
	if ctx.Done() == nil {
		defer s.calls.Done()
		return s.persist(ctx, key, again, f)
	}
	done := make(chan error, 1)
	go func() {
		defer s.calls.Done()
		done <- s.persist(ctx, key, again, f)
	}()
	select {
	case err := <-done:
		return err
	case <-s.closed:
		return state.ErrClosed
	case <-ctx.Done():
		return interrupted(ctx, nil)
	}
}

// enter adds a call to s.calls, unless the store is closed.
func (s *Store) enter() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.isClosed() {
		return false
	}
	s.calls.Add(1)
	return true
}

// persist retries f while that is safe and may help.
func (s *Store) persist(ctx context.Context, key string, again bool, f func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		switch kind := s.classify(err); {
		case s.isClosed():
			return state.ErrClosed
		case kind == final:
			return describe(err)
		case ctx.Err() != nil:
			return interrupted(ctx, err)
		case kind == unknown && !again:
			return undecided(err)
		case attempt >= s.opts.MaxRetries:
			return unavailable(attempt+1, err)
		}
		s.opts.Logger.InfoContext(ctx, "redis call failed, retrying",
			"key", key, "attempt", attempt+1, "err", clean(err).Error())
		if err := s.backOff(ctx, attempt); err != nil {
			return err
		}
	}
}

// backOff waits before the next attempt.
func (s *Store) backOff(ctx context.Context, attempt int) error {
	timer := time.NewTimer(backoff.Duration(s.opts.MinRetryBackoff, s.opts.MaxRetryBackoff, attempt))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.closed:
		return state.ErrClosed
	case <-ctx.Done():
		return interrupted(ctx, nil)
	}
}

// run sends a call once, by the script's digest and, if Redis does not have the script
// (after a restart), by its text.
//
// Scripts look up the name of the record themselves. In a Cluster that is moving the
// key's slot, a record that a script does not find may be on the other node. So it
// answers GONE, changes nothing, and is sent again with that name as a key, for which
// Redis itself reports the move.
func (s *Store) run(ctx context.Context, c call) (reply, error) {
	if c.sealed != nil {
		*c.sealed = newSeal()
	}
	r, err := s.runAsIs(ctx, c)
	if err == nil && s.cluster != nil && c.extra == "" && r.text(0) == "GONE" {
		c.extra = r.text(1)
		return s.runAsIs(ctx, c)
	}
	return r, err
}

func (s *Store) runAsIs(ctx context.Context, c call) (reply, error) {
	r, err := s.send(ctx, "evalsha", c.script.sha, c)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return s.send(ctx, "eval", c.script.text, c)
	}
	return r, err
}

func (s *Store) send(ctx context.Context, command, script string, c call) (reply, error) {
	if s.opts.WaitReplicas > 0 && c.waits() {
		return s.sendAndWait(ctx, command, script, c)
	}
	cmd := s.command(ctx, command, script, c)
	if err := s.client.Process(ctx, cmd); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	return answer(cmd.Cmd)
}

func (s *Store) command(ctx context.Context, command, script string, c call) onceCmd {
	if c.name != nil {
		return onceCmd{newSet(ctx, c)}
	}
	names := []string{s.opts.KeyPrefix + "{}:ping"}
	if c.key != "" {
		names = s.names(c.key)
	}
	if c.extra != "" {
		names = append(names, c.extra)
	}
	args := make([]any, 0, 5+len(names)+len(c.args))
	args = append(args, command, script, len(names))
	for _, name := range names {
		args = append(args, name)
	}
	sure := "1"
	if s.cluster != nil && c.extra == "" {
		sure = "0"
	}
	args = append(args, sure)
	args = append(args, c.args...)
	if c.sealed != nil {
		args = append(args, *c.sealed)
	}
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// A onceCmd is never retried by go-redis, which would retry anything, even if a lent
// client is configured to retry.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }
