package redisstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

const (
	// pipeSaves and pipeBytes limit a pipeline of a batch: Redis keeps the responses
	// until it has read all of it.
	pipeSaves = 256
	pipeBytes = 1 << 20
	// scriptSaves is the number of saves that one script does on a server of its own.
	// Other clients wait for it, some 0.3 ms.
	scriptSaves = 64
	// pipesAtOnce is the number of pipelines of a batch that are sent concurrently:
	// while Redis executes one, the next is written.
	pipesAtOnce = 3
)

// SaveBatch implements [state.BatchSaver]. It sends the saves in pipelines of up to
// 256, in a Cluster one to each master, a few of them concurrently. On one server a
// script does up to 64 of them; in a Cluster, and with WaitReplicas, each is a command of
// its own. Each is retried as a Save or SaveFenced would be.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	chunks := chunksOf(items, errs)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(pipesAtOnce, len(chunks), max(s.opts.PoolSize, 1)) {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(len(chunks)); n = next.Add(1) {
				s.saveChunk(ctx, items, chunks[n-1], errs)
			}
		})
	}
	workers.Wait()
	for i, err := range errs {
		errs[i] = s.fail("save", items[i].Key, err)
	}
	return errs
}

// chunksOf returns the indices of the items without an error in errs, one chunk for
// each pipeline.
func chunksOf(items []state.Item, errs []error) [][]int {
	var all [][]int
	var chunk []int
	size := 0
	for i := range items {
		if errs[i] != nil {
			continue
		}
		n := sizeOf(&items[i].Checkpoint)
		if len(chunk) == pipeSaves || len(chunk) > 0 && size+n > pipeBytes {
			all, chunk, size = append(all, chunk), nil, 0
		}
		chunk, size = append(chunk, i), size+n
	}
	if len(chunk) > 0 {
		all = append(all, chunk)
	}
	return all
}

// saveChunk saves the items whose indices are in chunk.
func (s *Store) saveChunk(ctx context.Context, items []state.Item, chunk []int, errs []error) {
	p := &pipe{store: s}
	index := make([]int, 0, len(chunk))
	for _, i := range chunk {
		by := unfenced
		if it := &items[i]; !it.Fence.IsZero() {
			by = fenced(it.Fence)
		}
		c, err := s.saveCall(items[i].Key, by, items[i].Checkpoint)
		if err != nil {
			errs[i] = err
			continue
		}
		p.calls, index = append(p.calls, c), append(index, i)
	}
	p.settled, p.errs = make([]bool, len(p.calls)), make([]error, len(p.calls))
	err := s.try(ctx, "", true, p.attempt)
	p.mu.Lock()
	defer p.mu.Unlock()
	for j, i := range index {
		if errs[i] = p.errs[j]; !p.settled[j] {
			errs[i] = err
		}
	}
}

// A pipe has the saves of one pipeline. The mutex guards their results: an attempt may
// still run after its call was abandoned.
type pipe struct {
	store *Store
	calls []call

	mu      sync.Mutex
	settled []bool
	errs    []error
}

// attempt tries all saves that are not settled, once. If some still aren't, it returns
// an error after which they may be retried.
func (p *pipe) attempt(ctx context.Context, c redis.UniversalClient) error {
	var left []int
	for j := range p.calls {
		if !p.settled[j] { // only attempts settle, one after the other
			left = append(left, j)
		}
	}
	// Where a node does not have the script, one save loads it and the rest are sent
	// again: once for each such node.
	var again error
	for len(left) > 0 {
		retry, err := p.pass(ctx, c, left)
		if err != nil && again == nil {
			again = err
		}
		left = retry
	}
	return again
}

// pass sends the saves with these indices. It returns those to be sent again at once,
// and the first error after which a save is to be retried.
func (p *pipe) pass(ctx context.Context, c redis.UniversalClient, which []int) (resend []int, again error) {
	s := p.store
	calls := make([]call, len(which))
	for n, j := range which {
		calls[n] = p.calls[j]
	}
	loaded := false
	for n, o := range s.pipeline(ctx, c, calls) {
		j := which[n]
		unknown := hasCode(o.err, "NOSCRIPT")
		if unknown && loaded {
			resend = append(resend, j)
			continue
		}
		if unknown || elsewhere(o.err) || o.reply.text(0) == "OLD" {
			o.reply, o.err = s.run(ctx, c, p.calls[j])
			loaded = loaded || unknown && o.err == nil
		}
		if err := p.judge(j, o); err != nil && again == nil {
			again = err
		}
	}
	return resend, again
}

// elsewhere reports whether a Cluster has the key on another node.
func elsewhere(err error) bool {
	_, _, moved := redirection(err)
	return moved
}

// judge settles save j unless it is to be retried, as persist does, and returns the
// error after which it is.
func (p *pipe) judge(j int, o outcome) error {
	c := p.calls[j]
	if o.err == nil {
		p.settle(j, p.store.saved(context.Background(), c.key, o.reply, o.reply.refusal()))
		return nil
	}
	switch kind := p.store.classify(o.err); {
	case kind == final:
		p.settle(j, describe(o.err))
	case kind == unknown && !c.again:
		p.settle(j, undecided(o.err))
	default:
		return o.err
	}
	return nil
}

func (p *pipe) settle(j int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled[j], p.errs[j] = true, err
}

// An outcome is what became of one command of a pipeline.
type outcome struct {
	reply reply
	err   error
}

// pipeline sends the calls in one pipeline to each server that is concerned, and WAIT
// after those that are done only when the replicas have them.
func (s *Store) pipeline(ctx context.Context, c redis.UniversalClient, calls []call) []outcome {
	out := make([]outcome, len(calls))
	if s.cluster == nil {
		all := make([]int, len(calls))
		for i := range all {
			all[i] = i
		}
		s.pipeOn(ctx, c.(*redis.Client), calls, all, out) // connect and lent let nothing else in
		return out
	}
	nodes := make(map[*redis.Client][]int)
	for i, c := range calls {
		node, err := s.cluster.MasterForKey(ctx, s.names(c.key)[0])
		if err != nil {
			out[i].err = err
			continue
		}
		nodes[node] = append(nodes[node], i)
	}
	var all sync.WaitGroup
	for node, which := range nodes {
		all.Go(func() { s.pipeOn(ctx, node, calls, which, out) })
	}
	all.Wait()
	return out
}

// pipeOn sends those of the calls whose indices are in which to one server.
func (s *Store) pipeOn(ctx context.Context, node *redis.Client, calls []call, which []int, out []outcome) {
	pipe := node.Pipeline()
	queue := func(cmd redis.Cmder) { _ = pipe.Process(ctx, cmd) } // never fails: it only queues
	size := 1
	if s.cluster == nil && s.opts.WaitReplicas == 0 && len(which) > 1 && calls[which[0]].script == saveScript {
		size = scriptSaves
	}
	groups := slices.Collect(slices.Chunk(which, size))
	cmds := make([]onceCmd, len(groups))
	for n, group := range groups {
		cmds[n] = s.groupCommand(ctx, "evalsha", calls, group)
		queue(cmds[n])
	}
	var wait onceCmd
	waits := s.opts.WaitReplicas > 0 && slices.ContainsFunc(which, func(i int) bool { return calls[i].waits() })
	if waits {
		wait = s.waitCommand(ctx)
		queue(wait)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error, all of them that of the connection
	var short error
	if waits {
		short = s.replicated(wait.Cmd)
	}
	for n, group := range groups {
		if len(group) > 1 {
			s.takeGroup(ctx, node, cmds[n], calls, group, out)
			continue
		}
		o := &out[group[0]]
		if o.reply, o.err = answer(cmds[n].Cmd); o.err == nil && o.reply.refusal() == nil {
			o.err = short
		}
	}
}

// groupCommand returns the command for one call, or for several saves.
func (s *Store) groupCommand(ctx context.Context, command string, calls []call, group []int) onceCmd {
	text := func(sc *script) string {
		if command == "eval" {
			return sc.text
		}
		return sc.sha
	}
	if len(group) == 1 {
		c := calls[group[0]]
		return s.command(ctx, command, text(c.script), c)
	}
	args := make([]any, 0, 3+8*len(group))
	args = append(args, command, text(batchScript), 2*len(group))
	for _, i := range group {
		for _, name := range s.names(calls[i].key) {
			args = append(args, name)
		}
	}
	for _, i := range group {
		args = append(args, calls[i].args...)
	}
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// takeGroup gives each call of a group its part of the reply.
func (s *Store) takeGroup(ctx context.Context, node *redis.Client, cmd onceCmd, calls []call, group []int, out []outcome) {
	if hasCode(cmd.Err(), "NOSCRIPT") {
		cmd = s.groupCommand(ctx, "eval", calls, group)
		_ = node.Process(ctx, cmd) // the command has the error
	}
	parts, err := cmd.Slice()
	if err == nil && len(parts) != len(group) {
		err = errNotOurs
	}
	for n, i := range group {
		if out[i].err = err; err == nil {
			out[i].reply, out[i].err = replyOf(parts[n])
		}
	}
}
