package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A ReplicationError says that fewer replicas than asked for
// ([Options.WaitReplicas]) received a write in time. The master has it. It is a
// [state.ErrUnavailable]: the same call again may find more.
type ReplicationError struct {
	Replicas int // that had it when WAIT gave up
	Wanted   int
}

func (e *ReplicationError) Error() string {
	return fmt.Sprintf("the master has it, and %d of the %d replicas that must have it", e.Replicas, e.Wanted)
}

// Is makes a ReplicationError a state.ErrUnavailable.
func (e *ReplicationError) Is(target error) bool { return target == state.ErrUnavailable }

// waits reports whether c is done only when the replicas have it. Of the rest,
// Release and Forget may be undone by a failover without harm: a lease runs out,
// and what was forgotten is there again.
func (c call) waits() bool {
	switch c.script {
	case saveScript, clearScript, acquireScript, renewScript, oldScript:
		return true
	}
	return false
}

// sendAndWait is send, and WAIT on the same connection: WAIT is about what its own
// connection wrote.
func (s *Store) sendAndWait(ctx context.Context, client redis.UniversalClient, command, script string, c call) (reply, error) {
	if s.cluster == nil {
		return s.pipeWait(ctx, client.(*redis.Client), false, s.command(ctx, command, script, c))
	}
	node, err := s.cluster.MasterForKey(ctx, s.names(c.key)[0])
	if err != nil {
		return nil, err
	}
	r, err := s.pipeWait(ctx, node, false, s.command(ctx, command, script, c))
	addr, ask, elsewhere := redirection(err)
	if !elsewhere {
		return r, err
	}
	// go-redis has no way to say on which node's connection to go on. A slot
	// moves seldom: one connection for one call.
	o := *node.Options()
	o.Addr = addr
	other := redis.NewClient(&o)
	defer func() { _ = other.Close() }() // nothing is on its way any more
	s.cluster.ReloadState(ctx)
	return s.pipeWait(ctx, other, ask, s.command(ctx, command, script, c))
}

func redirection(err error) (addr string, ask, ok bool) {
	ask = hasCode(err, "ASK ")
	if !ask && !hasCode(err, "MOVED ") {
		return "", false, false
	}
	words := strings.Fields(err.Error())
	return words[len(words)-1], ask, true
}

func (s *Store) pipeWait(ctx context.Context, node *redis.Client, asking bool, cmd onceCmd) (reply, error) {
	pipe := node.Pipeline()
	queue := func(cmd redis.Cmder) { _ = pipe.Process(ctx, cmd) } // never fails: it only queues
	if asking {
		queue(redis.NewCmd(ctx, "asking"))
	}
	queue(cmd)
	// A call that finds its work done writes nothing. WAIT is then, all the same,
	// about all that the server had written when it ran: about the first one's work.
	wait := s.waitCommand(ctx)
	queue(wait)
	if _, err := pipe.Exec(ctx); err != nil && !isAnswer(err) {
		return nil, err
	}
	r, err := answer(cmd.Cmd)
	if err != nil || r.refusal() != nil {
		return r, err
	}
	return r, s.replicated(wait.Cmd)
}

func (s *Store) waitCommand(ctx context.Context) onceCmd {
	return onceCmd{redis.NewCmd(ctx, "wait", s.opts.WaitReplicas, s.opts.WaitTimeout.Milliseconds())}
}

// replicated is nil if enough replicas had all that was written before wait.
func (s *Store) replicated(wait *redis.Cmd) error {
	n, err := wait.Int()
	switch {
	case err != nil && isAnswer(err):
		return fmt.Errorf("waiting for the replicas: %w", err)
	case err != nil:
		return errors.Join(errNotOurs, err)
	case n < s.opts.WaitReplicas:
		return &ReplicationError{Replicas: n, Wanted: s.opts.WaitReplicas}
	}
	return nil
}
