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
	// pipesAtOnce is the number of pipelines of a batch that are sent concurrently:
	// while Redis executes one, the next is written.
	pipesAtOnce = 3
)

// SaveBatch implements [state.BatchSaver]. It sends the saves in pipelines of up to
// 256, in a Cluster one to each master, a few of them concurrently. Each save is a
// command of its own, so that other clients don't wait for the batch, and is retried
// as a Save or SaveFenced would be.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	chunks := s.chunks(items, errs)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(pipesAtOnce, len(chunks), max(s.opts.PoolSize, 1)) {
		workers.Go(func() {
			p := &pipe{store: s}
			for n := next.Add(1); n <= int64(len(chunks)); n = next.Add(1) {
				p.save(ctx, items, chunks[n-1], errs)
				if s.clock == nil { // abandoned attempts may still be in progress, and hooks may keep commands
					p = &pipe{store: s}
				}
			}
		})
	}
	workers.Wait()
	for i, err := range errs {
		errs[i] = s.fail("save", items[i].Key, err)
	}
	return errs
}

// chunks returns the indices of the items without an error in errs, one chunk for
// each pipeline.
func (s *Store) chunks(items []state.Item, errs []error) [][]int {
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
		if chunk == nil {
			chunk = make([]int, 0, min(pipeSaves, len(items)))
		}
		chunk, size = append(chunk, i), size+n
	}
	if len(chunk) > 0 {
		all = append(all, chunk)
	}
	return all
}

// sizeOf estimates the length of the record of a checkpoint.
func sizeOf(cp *state.Checkpoint) int {
	n := 300 + cp.Token.Len() + len(cp.Fingerprint)
	for name, doc := range cp.Extra {
		n += len(name) + len(doc)
	}
	return n
}

// A pipe has the saves of one pipeline, and the memory for the next one. Their results
// are guarded by the mutex: an attempt may still run after its call was abandoned.
type pipe struct {
	store   *Store
	saves   []pendingSave
	records []byte
	calls   []call
	sets    []*redis.Cmd
	out     []outcome

	mu      sync.Mutex
	settled []bool
	errs    []error
}

// save saves the items whose indices are in chunk.
func (p *pipe) save(ctx context.Context, items []state.Item, chunk []int, errs []error) {
	p.prepare(items, chunk)
	seals := make([]*seal, len(chunk))
	for j := range p.saves {
		seals[j] = p.saves[j].seal
	}
	err := p.store.try(ctx, "", true, p.attempt)
	p.mu.Lock()
	defer p.mu.Unlock()
	for j, i := range chunk {
		errs[i] = p.errs[j]
		if p.settled[j] {
			continue
		}
		errs[i] = err
		if seals[j] != nil {
			p.store.seals.give(items[i].Key, seals[j], false)
		}
	}
}

func (p *pipe) prepare(items []state.Item, chunk []int) {
	size := 0
	for _, i := range chunk {
		size += sizeOf(&items[i].Checkpoint)
	}
	p.records = slices.Grow(p.records[:0], size)
	p.saves, p.settled, p.errs = p.saves[:0], p.settled[:0], p.errs[:0]
	for _, i := range chunk {
		by := unfenced
		if it := &items[i]; !it.Fence.IsZero() {
			by = fenced(it.Fence)
		}
		// A record that doesn't fit into the memory has its own.
		v, err := p.store.prepare(p.records[len(p.records):], items[i].Key, by, items[i].Checkpoint)
		if n := len(p.records) + len(v.record.text); n <= cap(p.records) {
			p.records = p.records[:n]
		}
		p.saves, p.settled, p.errs = append(p.saves, v), append(p.settled, err != nil), append(p.errs, err)
	}
}

// attempt tries all saves that are not settled, once. If some still aren't, it returns
// an error after which they may be retried.
func (p *pipe) attempt(ctx context.Context) error {
	var left []int
	for j := range p.saves {
		if !p.settled[j] { // only attempts settle, one after the other
			left = append(left, j)
		}
	}
	var again error
	// First with their seals; then by the script those whose seal is no longer valid;
	// then again those on a node that did not have the script, once for each such
	// node. Each pass uses up a seal or settles a save, so this ends.
	for len(left) > 0 {
		retry, err := p.pass(ctx, left)
		if err != nil && again == nil {
			again = err
		}
		left = retry
	}
	return again
}

// pass sends the saves with these indices. It returns those to be sent in another way,
// and the first error after which a save is to be retried.
func (p *pipe) pass(ctx context.Context, which []int) (otherwise []int, again error) {
	s := p.store
	calls := p.calls[:0]
	sealed := make([]string, len(which))
	sent := which[:0:0]
	for n, j := range which {
		v := &p.saves[j]
		if v.seal != nil {
			calls, sent = append(calls, call{key: v.key, name: v.seal.name, text: &v.record}), append(sent, j)
			continue
		}
		c, err := s.saveCall(v, &sealed[n])
		if err != nil {
			p.settle(j, err)
			continue
		}
		calls, sent = append(calls, c), append(sent, j)
	}
	loaded := false
	p.calls, p.out = calls, append(p.out[:0], make([]outcome, len(calls))...)
	s.pipeline(ctx, calls, p.out, &p.sets)
	for n, o := range p.out {
		j, c := sent[n], &calls[n]
		v := &p.saves[j]
		switch {
		case v.seal != nil && s.settle(v, o.reply, o.err):
			p.settle(j, nil)
		case c.name != nil && o.err == nil:
			otherwise = append(otherwise, j)
		case redis.HasErrorPrefix(o.err, "NOSCRIPT") && loaded:
			otherwise = append(otherwise, j)
		case elsewhere(o.err), redis.HasErrorPrefix(o.err, "NOSCRIPT"), o.err == nil && o.reply.text(0) == "GONE" && c.extra == "":
			refused, err := s.attempt(ctx, v)
			loaded = loaded || err == nil
			again = p.judge(j, refused, err, again)
		case o.err != nil:
			again = p.judge(j, nil, o.err, again)
		default:
			p.settle(j, s.saved(v, *c.sealed, o.reply))
		}
	}
	return otherwise, again
}

// elsewhere reports whether a Cluster has the key on another node.
func elsewhere(err error) bool {
	_, _, moved := redirection(err)
	return moved
}

// judge settles save j unless it is to be retried, as persist does, and returns the
// first error after which one is.
func (p *pipe) judge(j int, refused, err, again error) error {
	if err == nil {
		p.settle(j, refused)
		return again
	}
	switch kind := p.store.classify(err); {
	case kind == final:
		p.settle(j, describe(err))
	case kind == unknown && !p.saves[j].again():
		p.settle(j, undecided(err))
	case again == nil:
		return err
	}
	return again
}

func (p *pipe) settle(j int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled[j], p.errs[j] = true, err
}
