package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// An outcome is what became of one command of a pipeline.
type outcome struct {
	reply reply
	err   error
}

// pipeline sends the calls in one pipeline to each server that is concerned, and WAIT
// after those that are done only when the replicas have them. What becomes of each is
// in out. old are commands of an earlier pipeline, for another use.
func (s *Store) pipeline(ctx context.Context, calls []call, out []outcome, old *[]*redis.Cmd) {
	if s.cluster == nil {
		s.pipeOn(ctx, s.client.(*redis.Client), calls, nil, out, old) // connect and lent let nothing else in
		return
	}
	nodes := make(map[*redis.Client][]int)
	for i, c := range calls {
		node, err := s.master(ctx, s.names(c.key)[0])
		if err != nil {
			out[i].err = err
			continue
		}
		nodes[node] = append(nodes[node], i)
	}
	var all sync.WaitGroup
	for node, which := range nodes {
		all.Go(func() {
			ctx := ctx
			if s.clock != nil { // it watches one connection at a time
				watched, end := s.clock.watch(ctx)
				defer end()
				ctx = watched
			}
			s.pipeOn(ctx, node, calls, which, out, nil) // a Cluster's commands remember where they were sent
		})
	}
	all.Wait()
}

// pipeOn sends those of the calls whose indices are in which, nil for all, to one
// server.
func (s *Store) pipeOn(ctx context.Context, node *redis.Client, calls []call, which []int, out []outcome, old *[]*redis.Cmd) {
	pipe := node.Pipeline()
	queue := func(cmd redis.Cmder) { _ = pipe.Process(ctx, cmd) } // never fails: it only queues
	n := len(which)
	if which == nil {
		n = len(calls)
	}
	at := func(j int) int {
		if which == nil {
			return j
		}
		return which[j]
	}
	cmds := make([]onceCmd, n)
	waits, sets := false, 0
	for j := range n {
		c := calls[at(j)]
		if c.sealed != nil {
			*c.sealed = newSeal()
		}
		sha := ""
		if c.script != nil {
			sha = c.script.sha
		}
		if c.name != nil && old != nil {
			if sets < len(*old) {
				setAnew((*old)[sets], c)
			} else {
				*old = append(*old, newSet(context.Background(), c))
			}
			cmds[j] = onceCmd{(*old)[sets]}
			sets++
		} else {
			cmds[j] = s.command(ctx, "evalsha", sha, c)
		}
		waits = waits || s.opts.WaitReplicas > 0 && c.waits()
		queue(cmds[j])
	}
	var wait onceCmd
	if waits {
		wait = onceCmd{redis.NewCmd(ctx, "wait", s.opts.WaitReplicas, s.opts.WaitTimeout.Milliseconds())}
		queue(wait)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error, all of them that of the connection
	var short error
	if waits {
		short = s.replicated(wait.Cmd)
	}
	for j := range n {
		o := &out[at(j)]
		o.reply, o.err = answer(cmds[j].Cmd)
		if o.err == nil && o.reply.refusal() == nil && short != nil {
			o.err = short
		}
	}
}

func newSet(ctx context.Context, c call) *redis.Cmd {
	cmd := redis.NewCmd(ctx, "set", c.name, c.text, "xx")
	cmd.SetFirstKeyPos(1)
	return cmd
}

// setAnew makes a command of newSet's, which nobody uses any more, the SET of c. What
// it was answered is forgotten: go-redis leaves an error that is there where the
// connection fails, and what was not answered would pass for what was.
func setAnew(cmd *redis.Cmd, c call) {
	args := cmd.Args()
	args[1], args[2] = c.name, c.text
	cmd.SetErr(nil)
	cmd.SetVal(nil)
}
