package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

const (
	// groupCalls and groupBytes limit what one script does of a batch. Other clients of
	// the server wait for it, some 0.3 ms.
	groupCalls = 64
	groupBytes = 1 << 20
	// groupsAtOnce is the number of groups that are sent concurrently: while Redis
	// executes one, the next is written.
	groupsAtOnce = 3
	// callsAtOnce is the number of calls that are made concurrently where they can't
	// be grouped.
	callsAtOnce = 32
)

// SaveBatch implements [state.BatchSaver]. On one server a script does up to 64 of the
// saves. In a Cluster, whose keys lie in different slots, and with WaitReplicas, each is a
// command of its own, and some are sent concurrently. Each save is retried as a Save or
// SaveFenced would be.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	var calls []call
	var index []int
	for i := range items {
		if errs[i] != nil {
			continue
		}
		by := unfenced
		if it := &items[i]; !it.Fence.IsZero() {
			by = fenced(it.Fence)
		}
		c, err := s.saveCall(items[i].Key, by, items[i].Checkpoint)
		if errs[i] = err; err == nil {
			calls, index = append(calls, c), append(index, i)
		}
	}
	for n, o := range s.callAll(ctx, calls) {
		errs[index[n]] = s.saved(ctx, calls[n].key, o.reply, o.err)
	}
	for i, err := range errs {
		errs[i] = s.fail("save", items[i].Key, err)
	}
	return errs
}

// An outcome is what became of a call: what [Store.call] returns.
type outcome struct {
	reply reply
	err   error
}

// callAll makes the calls, all of them saves or all of them loads.
func (s *Store) callAll(ctx context.Context, calls []call) []outcome {
	out := make([]outcome, len(calls))
	var single []int
	var groups [][]int
	last := map[bool]int{} // the group that is filled, plus 1, of what can be repeated and what can't
	size := map[bool]int{}
	for i := range calls {
		if s.cluster != nil || s.opts.WaitReplicas > 0 {
			single = append(single, i)
			continue
		}
		n, again := calls[i].size(), calls[i].again
		if g := last[again]; g == 0 || len(groups[g-1]) == groupCalls || size[again]+n > groupBytes {
			groups = append(groups, nil)
			last[again], size[again] = len(groups), 0
		}
		groups[last[again]-1] = append(groups[last[again]-1], i)
		size[again] += n
	}
	atOnce(min(groupsAtOnce, max(s.opts.PoolSize, 1)), len(groups), func(n int) { s.callGroup(ctx, calls, groups[n], out) })
	atOnce(callsAtOnce, len(single), func(n int) {
		i := single[n]
		out[i].reply, out[i].err = s.call(ctx, calls[i])
	})
	return out
}

// atOnce calls f with the numbers below n, on up to this number of goroutines.
func atOnce(limit, n int, f func(int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(limit, n) {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				f(int(i) - 1)
			}
		})
	}
	workers.Wait()
}

// size estimates the size of a call's arguments.
func (c call) size() int {
	n := 200
	for _, a := range c.args {
		if b, ok := a.([]byte); ok {
			n += len(b)
		}
	}
	return n
}

// callGroup makes the calls whose indices are in group with one script.
func (s *Store) callGroup(ctx context.Context, calls []call, group []int, out []outcome) {
	all := call{script: calls[group[0]].script.grouped(), again: calls[group[0]].again}
	for _, i := range group {
		all.keys = append(all.keys, s.names(calls[i].key)...)
		all.args = append(all.args, calls[i].args...)
	}
	r, err := s.call(ctx, all)
	if err == nil && len(r) != len(group) {
		err = errNotOurs
	}
	for n, i := range group {
		if out[i].err = err; err != nil {
			continue
		}
		part, err := replyOf(r[n])
		switch {
		case err == nil && part.text(0) != "OLD":
			out[i] = outcome{part, part.refusal()}
		case err != nil && s.classify(err) == final:
			out[i].err = describe(err)
		default: // to be moved, or to be retried
			out[i].reply, out[i].err = s.call(ctx, calls[i])
		}
	}
}

// grouped returns the script that does what sc does for several keys, each with its own
// two names and as many arguments as sc has.
func (sc *script) grouped() *script {
	if sc == saveScript {
		return savesScript
	}
	return loadsScript
}

func newGroup(sc *script, args int) *script {
	return newScript(fmt.Sprintf("local function one(KEYS, ARGV)\n%s\nend\nlocal n = %d\n%s", sc.text, args, groupText))
}

// unavailableAll reports whether err says that no key can be read, and not that one key
// is being moved.
func unavailableAll(err error) bool {
	return errors.Is(err, state.ErrUnavailable) && !hasCode(err, "TRYAGAIN")
}
