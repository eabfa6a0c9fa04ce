package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A call is one run of a script.
type call struct {
	script *script
	key    string   // "" for the ping, which has its own name, and for a group
	keys   []string // of a group, names in Redis
	args   []any
	// again means that the script is idempotent, so that it may be retried when it is
	// unknown whether it was executed.
	again bool
	seal  string // of the record of version 1, for oldScript
}

// call runs c with retries, as try does.
func (s *Store) call(ctx context.Context, c call) (reply, error) {
	var r reply
	err := s.try(ctx, c.key, c.again, func(ctx context.Context, client redis.UniversalClient) (err error) {
		r, err = s.run(ctx, client, c)
		return err
	})
	if err != nil {
		return nil, err // and r may still be written to
	}
	return r, r.refusal()
}

// An attempt does something once. The client is a *redis.Client or the Cluster's.
type attempt func(ctx context.Context, c redis.UniversalClient) error

// try calls f, with the retries that the package documentation describes. It returns
// when ctx is done or the store is closed. f uses the context that it receives.
func (s *Store) try(ctx context.Context, key string, again bool, f attempt) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.enter() {
		return state.ErrClosed
	}
	if s.pool != nil {
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

// once calls f with a client.
func (s *Store) once(ctx context.Context, f attempt) error {
	if s.pool != nil {
		return s.pool.do(ctx, f)
	}
	return f(ctx, s.client)
}

// persist retries f while that is safe and may help.
func (s *Store) persist(ctx context.Context, key string, again bool, f attempt) error {
	began := time.Now()
	for n := 0; ; n++ {
		err := s.once(ctx, f)
		if err == nil {
			s.outage.end(ctx, s, key)
			return nil
		}
		switch kind := s.classify(err); {
		case s.isClosed():
			return state.ErrClosed
		case kind == final:
			return describe(err)
		case ended(ctx):
			return s.failed(ctx, key, began, interrupted(ctx, err))
		case kind == unknown && !again:
			return s.failed(ctx, key, began, undecided(err))
		case n >= s.opts.MaxRetries:
			return s.failed(ctx, key, began, unavailable(n+1, err))
		}
		s.opts.Logger.DebugContext(ctx, "redis call failed, retrying", "key", key, "attempt", n+1, "err", clean(err).Error())
		if err := s.backOff(ctx, n); err != nil {
			return err
		}
	}
}

// ended reports whether ctx has ended. A connection's deadline, which is the context's,
// may come a moment before.
func ended(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// failed returns err, with which a call failed that began at that time, and logs it if
// it is the first one of an outage.
func (s *Store) failed(ctx context.Context, key string, began time.Time, err error) error {
	if s.opened && ctx.Err() != context.Canceled { // which says nothing about Redis
		s.outage.begin(ctx, s, key, began, err)
	}
	return err
}

// backOff waits before the next attempt.
func (s *Store) backOff(ctx context.Context, n int) error {
	timer := time.NewTimer(backoff.Duration(s.opts.MinRetryBackoff, s.opts.MaxRetryBackoff, n))
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

// maxMoves is how often a key of version 1 is looked at again, if a program of that
// version goes on writing it.
const maxMoves = 10

// run sends a call once. A key of version 1 is moved first; load only reads it.
func (s *Store) run(ctx context.Context, client redis.UniversalClient, c call) (reply, error) {
	for n := 0; ; n++ {
		r, err := s.runAsIs(ctx, client, c)
		if err != nil || r.text(0) != "OLD" {
			return r, err
		}
		old := call{script: oldScript, key: c.key, seal: r.text(1), args: c.asOld()}
		r, err = s.runAsIs(ctx, client, old)
		if err != nil || len(r) > 0 && (r.text(0) != "AGAIN" || n == maxMoves) {
			return r, err
		}
	}
}

// runAsIs runs a script by its digest and, if Redis does not have it (after a restart),
// by its text.
func (s *Store) runAsIs(ctx context.Context, client redis.UniversalClient, c call) (reply, error) {
	r, err := s.send(ctx, client, "evalsha", c.script.sha, c)
	if hasCode(err, "NOSCRIPT") {
		return s.send(ctx, client, "eval", c.script.text, c)
	}
	return r, err
}

func (s *Store) send(ctx context.Context, client redis.UniversalClient, command, script string, c call) (reply, error) {
	if s.opts.WaitReplicas > 0 && c.waits() {
		return s.sendAndWait(ctx, client, command, script, c)
	}
	cmd := s.command(ctx, command, script, c)
	if err := client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return answer(cmd.Cmd)
}

func (s *Store) command(ctx context.Context, command, script string, c call) onceCmd {
	names := []string{s.opts.KeyPrefix + "{}:ping"}
	switch {
	case c.keys != nil:
		names = c.keys
	case c.script == oldScript:
		names = s.oldNames(c.key, c.seal)
	case c.key != "":
		names = s.names(c.key)
	}
	args := make([]any, 0, 3+len(names)+len(c.args))
	args = append(args, command, script, len(names))
	for _, name := range names {
		args = append(args, name)
	}
	cmd := redis.NewCmd(ctx, append(args, c.args...)...)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// A onceCmd is never retried by go-redis, which would retry anything, even if a lent
// client is configured to retry.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }
